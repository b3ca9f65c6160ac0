"""What learning, repair and report need of a vocabulary, whatever its family: the one interface of both."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

Atoms = tuple[str, ...]


class Vocabulary(Protocol):
    """Pieces by id, and what its joins make of words.

    A word is what no piece reaches beyond. Words and pieces are written as the family writes them (`▁` or GPT-2's
    characters), so that joining two pieces is joining two strings; `read` gives the text for people.
    """

    pieces: Sequence[str]
    specials: frozenset[int]
    """Ids that text never becomes: special and added tokens, and ids without a piece."""
    byte_ids: frozenset[int]
    crosses_words: bool
    """Whether some piece goes on behind a space, so that only whole texts are what no piece reaches beyond."""

    def split(self, text: str) -> list[str]:
        """The words of a text."""

    def cut(self, words: Sequence[str]) -> list[Atoms]:
        """The pieces of each word."""

    def spell(self, piece: str) -> Atoms:
        """The pieces that a piece is made of, or would be, standing anywhere in a word."""

    def encode(self, words: Sequence[str]) -> list[list[int]]:
        """The ids of each word."""

    def shortest(self, words: Counter[str]) -> int:
        """The tokens that the words, with their counts, take in their shortest segmentations into the same pieces."""

    def write(self, text: str) -> str | None:
        """Text as a piece would be written; None where a word ends inside it."""

    def read(self, piece: str) -> str:
        """A piece as text, `▁` for a space; broken characters as ▯."""

    def is_whole(self, piece: str) -> bool:
        """Whether the piece begins and ends where characters do."""

    def unmade(self, pieces: Sequence[str]) -> list[str]:
        """Those of its pieces that text can never become."""


def count_words(vocabulary: Vocabulary, documents: Iterable[str]) -> Counter[str]:
    """The documents' words, with their counts."""
    words: Counter[str] = Counter()
    for document in documents:
        words.update(vocabulary.split(document))
    return words


def count_atoms(vocabulary: Vocabulary, words: Mapping[str, int]) -> Counter[Atoms]:
    """Words as the vocabulary cuts them, with their counts."""
    keys = list(words)
    counts: Counter[Atoms] = Counter()
    for word, atoms in zip(keys, vocabulary.cut(keys), strict=True):
        counts[atoms] += words[word]
    return counts
