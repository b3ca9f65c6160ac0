"""Overlapping pieces of text as hashes: what near duplicates and contamination are found by.

Only letters and digits count, lower-cased, so that spacing (free in Korean), punctuation and markup hide nothing. A
window is so many UTF-8 bytes from the start of a character: 50 bytes are 17 Hangul syllables or 50 Latin letters, which
is about as unlikely to be met by chance in either.
"""

from functools import lru_cache

import numpy as np
import regex
from numpy.typing import NDArray

BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64


def normalised(text: str) -> bytes:
    """Letters and digits of a text, lower-cased, as UTF-8."""
    codes = _letters()[np.frombuffer(text.encode("utf-32-le", "ignore"), np.uint32)]
    return codes[codes != 0].tobytes().decode("utf-32-le").encode()


@lru_cache(maxsize=1)
def _letters() -> NDArray[np.uint32]:
    """For every code point: its lower case if it is a letter or a digit, else 0."""
    everything = "".join(map(chr, range(0x110000)))
    table = np.zeros(0x110000, np.uint32)
    for match in regex.finditer(r"[\p{L}\p{N}]+", everything):
        # Where lower-casing gives two characters (İ), the first is the letter.
        table[match.start() : match.end()] = [ord(character.lower()[0]) for character in match[0]]
    return table


def window_hashes(data: bytes, width: int) -> NDArray[np.uint64]:
    """A 64-bit hash of each window of `width` bytes that begins with a character; of all of it where it is shorter.

    A polynomial hash as a difference of prefix sums, scaled back by the inverse of the base; then mixed, since the low
    bits of a polynomial modulo 2**64 are weak.
    """
    codes = np.frombuffer(data, np.uint8)
    width = min(width, len(codes))
    if not width:
        return np.empty(0, np.uint64)
    powers, inverses = _powers(1 << (len(codes) - 1).bit_length() if len(codes) > 1 else 1)
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum((codes.astype(np.uint64) + np.uint64(1)) * powers[: len(codes)], out=sums[1:])
    hashes = (sums[width:] - sums[:-width]) * inverses[: len(codes) - width + 1]
    hashes = hashes[(codes[: len(hashes)] & 0xC0) != 0x80]
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(0xD6E8FEB86659FD93)
    return hashes ^ (hashes >> np.uint64(32))


@lru_cache(maxsize=4)
def _powers(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Powers of the base and of its inverse. Sizes are powers of two: a few tables serve all documents."""
    inverse = pow(BASE, -1, 1 << 64)
    tables = []
    for base in (BASE, inverse):
        table = np.full(size, base, np.uint64)
        table[0] = 1
        tables.append(np.cumprod(table, dtype=np.uint64))
    return tables[0], tables[1]
