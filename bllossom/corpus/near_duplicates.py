"""Near duplicates by MinHash: an ordered pass of its own over all text, before the one that encodes.

A document is the set of its windows (ngrams.py). Its MinHash signature is cut into bands; two documents that agree on a
whole band are taken for near duplicates, and the first one stays. With b bands of r values, documents of Jaccard
similarity s meet with a probability of 1 - (1 - s^r)^b (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets,
section 3.4): an S-curve around `threshold`.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bllossom.config import Model
from bllossom.console import progress
from bllossom.corpus.clean import make_cleaner
from bllossom.corpus.dedup import EXACT_BYTES_PER_DOCUMENT, SeenHashes
from bllossom.corpus.ngrams import normalised, window_hashes
from bllossom.corpus.readings import Reading
from bllossom.text.sources import read_records
from bllossom.tokens.shards import save_array

SEED = 1
WINDOW_BYTES = 24  # 8 Hangul syllables or 24 Latin letters: about five words
# A batch ends at the first of these two. Its hashes take up to eight bytes for each byte of text, a few times over.
BATCH_DOCUMENTS = 256
BATCH_BYTES = 4_000_000


class NearDuplicatesConfig(Model):
    """What counts as nearly the same document."""

    threshold: Annotated[
        float, Field(gt=0, lt=1, description="Jaccard similarity of windows at which half of the pairs are found")
    ] = 0.8
    permutations: Annotated[int, Field(ge=16, le=1024, description="length of a signature: more is sharper")] = 128


def bands(config: NearDuplicatesConfig) -> tuple[int, int]:
    """Bands and values in each, whose S-curve passes one half nearest the threshold."""

    def half_at(count: int) -> float:
        rows = config.permutations // count
        return float((1 - 0.5 ** (1 / count)) ** (1 / rows))

    count = min(range(1, config.permutations + 1), key=lambda count: abs(half_at(count) - config.threshold))
    return count, config.permutations // count


def bytes_per_document(config: NearDuplicatesConfig) -> int:
    """Memory the pass needs, at most: a hash a band, in the same table as the exact duplicates'."""
    return bands(config)[0] * EXACT_BYTES_PER_DOCUMENT


def near_duplicates_of(
    readings: Sequence[Reading], config: NearDuplicatesConfig, work: Path, text_bytes: int
) -> list[NDArray[np.int64]]:
    """What the pass over near duplicates found, kept in the work folder so that a kill later on does not repeat it."""
    found = work / "near-duplicates"
    if not found.is_dir():
        unfinished = work / "near-duplicates.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        with progress("bytes of text compared", text_bytes) as advance:
            drops = find_near_duplicates(readings, config, advance)
        for reading in readings:
            reading.check_unchanged(reading.files)
        for number, reading_drops in enumerate(drops):
            save_array(unfinished / f"{number:05d}.npy", reading_drops)
        unfinished.rename(found)
    return [np.load(found / f"{number:05d}.npy") for number in range(len(readings))]


def find_near_duplicates(
    readings: Sequence[Reading], config: NearDuplicatesConfig, advance: Callable[[int], None]
) -> list[NDArray[np.int64]]:
    """For each reading the sorted numbers of the documents to drop. Broken records are for the next pass to meet."""
    seen = SeenHashes()
    found = []
    for reading in readings:
        drops: list[int] = []
        for numbers, texts in _batches(reading, advance):
            flags = _seen_before(_band_hashes(texts, config), seen)
            drops += [number for number, flag in zip(numbers, flags, strict=True) if flag]
        found.append(np.asarray(drops, np.int64))
    return found


def _batches(reading: Reading, advance: Callable[[int], None]) -> Iterator[tuple[list[int], list[str]]]:
    clean = make_cleaner(reading.clean)
    numbers: list[int] = []
    texts: list[str] = []
    batch_bytes = 0
    number = -1
    for file in reading.files:
        for record in read_records(file, reading.options):
            for text in record.texts:
                number += 1
                data, _, reason = clean(text)
                advance(len(data))
                if not reason:
                    numbers.append(number)
                    texts.append(data.decode())
                    batch_bytes += len(data)
                # Within a record too: that of a JSON file may hold the documents of all of it.
                if len(texts) >= BATCH_DOCUMENTS or batch_bytes >= BATCH_BYTES:
                    yield numbers, texts
                    numbers, texts, batch_bytes = [], [], 0
    if texts:
        yield numbers, texts


def _band_hashes(texts: Sequence[str], config: NearDuplicatesConfig) -> NDArray[np.uint64]:
    """A hash of each band of each text's signature, uint64 [texts, bands]."""
    import rensa

    # A text without a letter still has a signature: that of its characters.
    windows = [window_hashes(normalised(text) or text.encode(), WINDOW_BYTES) for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in windows])]).astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        np.concatenate(windows), offsets, config.permutations, SEED
    )
    count, rows = bands(config)
    signatures = np.asarray(matrix.to_rows(), np.uint64)[:, : count * rows].reshape(len(texts), count, rows)
    hashes = np.broadcast_to(np.arange(1, count + 1, dtype=np.uint64), (len(texts), count)).copy()
    for row in range(rows):
        hashes = (hashes ^ signatures[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return np.maximum(hashes, np.uint64(1))


def _seen_before(hashes: NDArray[np.uint64], seen: SeenHashes) -> list[bool]:
    """Which texts share a band with a kept one before them; the bands of the others are remembered."""
    known = np.any(seen.contains(hashes.ravel()).reshape(hashes.shape), axis=1)
    new: set[int] = set()
    flags = []
    for row, already in zip(hashes.tolist(), known.tolist(), strict=True):
        near = already or not new.isdisjoint(row)
        flags.append(near)
        if not near:
            new.update(row)
    seen.add(np.fromiter(new, np.uint64, len(new)))
    return flags
