"""Exact duplicates: a set of 64-bit hashes that is asked a batch at a time."""

from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

EXACT_BYTES_PER_DOCUMENT = 40  # at most, while the table grows: 8 for the hash, and four new slots of 8
CHUNK = 1 << 16  # hashes placed at a time: bounds the temporary arrays


def document_hashes(documents: Sequence[bytes]) -> Hashes:
    """What exact duplicates are told by."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, documents), np.uint64, len(documents))


def are_among(numbers: NDArray[np.int64], sorted_numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of `numbers` are in `sorted_numbers`, in time that hardly grows with those: np.isin would look at all."""
    places = np.searchsorted(sorted_numbers, numbers)
    found = places < len(sorted_numbers)
    found[found] = sorted_numbers[places[found]] == numbers[found]
    return found


class SeenHashes:
    """A set of xxh3 hashes in an open-addressed table: 16 to 40 bytes a document, where a Python set needs about 100.

    64 bits: among 20 million documents two different ones share a hash with a probability of about 1 in 90,000.
    """

    def __init__(self) -> None:
        self._table = np.zeros(1 << 16, np.uint64)  # 0 marks a free slot
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Add a batch; True for those that were new, which of equal ones in the batch is only the first."""
        hashes = np.where(hashes == 0, np.uint64(1), hashes)
        new = np.zeros(len(hashes), bool)
        new[np.unique(hashes, return_index=True)[1]] = True
        candidates = np.flatnonzero(new)
        new[candidates] = ~self.contains(hashes[candidates])
        self._insert(hashes[new])
        return new

    def contains(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of these are in the set; 0 never is."""
        mask = np.uint64(len(self._table) - 1)
        found = np.zeros(len(hashes), bool)
        open_, slots = np.arange(len(hashes)), hashes & mask
        while len(open_):
            stored = self._table[slots]
            hit = stored == hashes[open_]
            found[open_[hit]] = True
            further = ~hit & (stored != 0)
            open_, slots = open_[further], (slots[further] + np.uint64(1)) & mask
        return found

    def _insert(self, hashes: Hashes) -> None:
        """Insert hashes that are distinct and not in the table."""
        while 2 * (self._size + len(hashes)) > len(self._table):
            kept = self._table[self._table != 0]
            self._table = np.zeros(2 * len(self._table), np.uint64)
            for start in range(0, len(kept), CHUNK):
                self._place(kept[start : start + CHUNK])
        self._place(hashes)
        self._size += len(hashes)

    def _place(self, hashes: Hashes) -> None:
        mask = np.uint64(len(self._table) - 1)
        slots = hashes & mask
        while len(hashes):
            free = self._table[slots] == 0
            # Where several want one free slot, the last write wins; those that find another's hash there go on.
            self._table[slots[free]] = hashes[free]
            unplaced = self._table[slots] != hashes
            hashes, slots = hashes[unplaced], (slots[unplaced] + np.uint64(1)) & mask
