"""Text as the donor's pieces meet it: after all merges of the base.

All new pieces rank below the base, so the base's merges are over before the first new one. What they leave are the
atoms; a segment is a run of atoms that new pieces can reach across. Only the segments, with their counts, matter to
which pieces are missing and in which order they should be joined, and there are few different ones (tens of thousands
for tens of megabytes).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from bllossom.vocab.families.vocabulary import Atoms


def count_segments(words: Mapping[Atoms, int], pieces: Collection[str], longest: int) -> Counter[Atoms]:
    """Cut words, given as their atoms, into segments; `longest` is the most atoms of a piece."""
    segments: Counter[Atoms] = Counter()
    for atoms, count in words.items():
        for segment in _cut(atoms, pieces, longest):
            segments[segment] += count
    return segments


def _cut(atoms: Sequence[str], pieces: Collection[str], longest: int) -> Iterator[Atoms]:
    start = end = 0
    for i in range(len(atoms)):
        if i >= end:
            if end - start > 1:
                yield tuple(atoms[start:end])
            start, end = i, i + 1
        text = atoms[i]
        for j in range(i + 1, min(len(atoms), i + longest)):
            text += atoms[j]
            if j >= end and text in pieces:
                end = j + 1
    if end - start > 1:
        yield tuple(atoms[start:end])


def parts(atoms: Atoms) -> Iterator[str]:
    """Every stretch of two atoms or more, as text; the whole comes too."""
    for i in range(len(atoms)):
        text = atoms[i]
        for j in range(i + 1, len(atoms)):
            text += atoms[j]
            yield text


def count_uses(pieces: Collection[str], segments: Mapping[Atoms, int]) -> Counter[str]:
    """How often each piece stands somewhere in the segments."""
    uses: Counter[str] = Counter()
    for segment, count in segments.items():
        for part in parts(segment):
            if part in pieces:
                uses[part] += count
    return uses


def shortest(atoms: Atoms, pieces: Collection[str]) -> list[Atoms]:
    """The shortest segmentation into single atoms and pieces, each given as its atoms."""
    count = len(atoms)
    fewest, back = [0] + [count + 1] * count, [0] * (count + 1)
    for i in range(count):
        text = atoms[i]
        reached = fewest[i] + 1
        if reached < fewest[i + 1]:
            fewest[i + 1], back[i + 1] = reached, i
        for j in range(i + 2, count + 1):
            text += atoms[j - 1]
            if reached < fewest[j] and text in pieces:
                fewest[j], back[j] = reached, i
    found = []
    end = count
    while end:
        found.append(atoms[back[end] : end])
        end = back[end]
    return found[::-1]
