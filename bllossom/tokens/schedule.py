"""Which block comes when: pure arithmetic on (seed, index), so that training can start, stop and resume anywhere.

    block i ──split──▶ language, its n-th ──split──▶ source, its m-th ──▶ epoch m // blocks, shuffled m % blocks

Both halves take O(1) time whatever the corpus: the split counts by rounding, and the shuffle is a keyed
permutation that is evaluated where it is needed instead of being written down. (Its tables are of the square root of
the corpus: 64 KB for four million blocks.)
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

WITHIN_ONE = 4  # leaves of a `Split` that keep to within one block of their targets; fair.py does for more
SHARE_BITS = 31  # a share is an integer over 2**31: exact up to 2**31 blocks, off by half a block at most there
MOST_BLOCKS = 1 << SHARE_BITS
ROUNDS = 4  # as many make a pseudorandom permutation of a good round function (Luby and Rackoff, 1988)


@dataclass(frozen=True)
class Split:
    """A binary tree that deals the natural numbers out to its leaves, each by its share.

    After n blocks the left branch has round(n · share) of them, the right one the others: never more than half a block
    off. A branch's own error is passed on by the share of its leaf, so with two leaves each prefix is within 1/2 block
    of the target; with up to four, whose tree has two levels, within 1/2 + 1/2 · share < 1. With more, errors of up to
    a block and a half were seen: nothing to the sources of a language, and fair.py is there for languages.
    """

    leaf: int = -1
    left_share: int = 0  # over 2**SHARE_BITS
    left: "Split | None" = None
    right: "Split | None" = None

    def counts(self, blocks: int) -> dict[int, int]:
        """How many of the first `blocks` each leaf gets."""
        if self.left is None or self.right is None:
            return {self.leaf: blocks}
        to_left = _rounded(blocks, self.left_share)
        return self.left.counts(to_left) | self.right.counts(blocks - to_left)

    def locate(self, indices: Ints, leaves: Ints, ordinals: Ints, where: Ints | None = None) -> None:
        """Write for each index the leaf it goes to, and how many went there before it."""
        where = np.arange(len(indices)) if where is None else where
        if self.left is None or self.right is None:
            leaves[where] = self.leaf
            ordinals[where] = indices
            return
        before = _rounded(indices, self.left_share)
        goes_left = _rounded(indices + 1, self.left_share) > before
        if goes_left.any():
            self.left.locate(before[goes_left], leaves, ordinals, where[goes_left])
        if not goes_left.all():
            goes_right = ~goes_left
            self.right.locate((indices - before)[goes_right], leaves, ordinals, where[goes_right])


def _rounded(blocks, share):  # type: ignore[no-untyped-def]  # int or int64 array
    return (blocks * share + (1 << (SHARE_BITS - 1))) >> SHARE_BITS


def split_by(shares: Mapping[int, float]) -> Split:
    """The split of some leaves by their shares (any scale): halved by number, so that the tree stays flat."""
    leaves = sorted(shares, key=lambda leaf: (-shares[leaf], leaf))
    if len(leaves) == 1:
        return Split(leaf=leaves[0])
    # The largest beside the smallest: both halves weigh about the same, and errors passed down stay small.
    half = {leaf: shares[leaf] for place, leaf in enumerate(leaves) if place % 4 in (0, 3)}
    rest = {leaf: shares[leaf] for leaf in leaves if leaf not in half}
    share = sum(half.values()) / sum(shares.values())
    return Split(left_share=round(share * (1 << SHARE_BITS)), left=split_by(half), right=split_by(rest))


def shuffled(size: int, key: str, positions: Ints) -> Ints:
    """Where a shuffle of range(size) puts `positions`: a permutation, another one for every key.

    A Feistel network over the next power of two, walked until it lands inside (Black and Rogaway, 2002): less than two
    walks on average.
    """
    if size < 2:
        return positions
    bits = max(2, (size - 1).bit_length())
    tables = _round_tables(key, bits)
    result = _feistel(positions, bits, tables)
    while len(outside := np.flatnonzero(result >= size)):
        result[outside] = _feistel(result[outside], bits, tables)
    return result


def _feistel(values: Ints, bits: int, tables: Sequence[Ints]) -> Ints:
    """One pass over numbers of `bits` bits. Halves may differ by a bit; an even number of rounds swaps them back."""
    low_bits = bits // 2
    high, low = values >> low_bits, values & ((1 << low_bits) - 1)
    for table in tables:
        high, low = low, high ^ table[low]
    return (high << low_bits) | low


@lru_cache(maxsize=64)
def _round_tables(key: str, bits: int) -> list[Ints]:
    """What each round's function gives for every half: as many numbers as the square root of what is shuffled."""
    digest = hashlib.blake2b(key.encode(), digest_size=8 * ROUNDS).digest()
    low_bits, high_bits = bits // 2, bits - bits // 2
    tables = []
    for start in range(0, len(digest), 8):
        mixed = np.arange(1 << low_bits, dtype=np.uint64) + np.uint64(
            int.from_bytes(digest[start : start + 8], "little")
        )
        # The upper bits of a product depend on all of its factor's; xor-shifted between two, as splitmix64 does it.
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
        mixed *= np.uint64(0x94D049BB133111EB)
        tables.append((mixed >> np.uint64(64 - high_bits)).astype(np.int64))
        low_bits, high_bits = high_bits, low_bits
    return tables
