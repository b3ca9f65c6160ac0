"""Morphemes of a text, where a rule has to know an ending or a name from other words."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from bllossom.errors import BllossomError


@dataclass(frozen=True, slots=True)
class Morpheme:
    """One morpheme: its form (in Hangul, jamo where a syllable holds two morphemes), tag and place in code points."""

    form: str
    tag: str
    start: int
    end: int


class Morphology(Protocol):
    """Splits a text into morphemes."""

    def __call__(self, text: str) -> list[Morpheme]:
        """The morphemes in order."""
        ...


class KiwiMorphology:
    """kiwipiepy, for Korean. Its model is loaded with the first text (about two seconds)."""

    def __init__(self) -> None:
        self._kiwi: Any = None

    def __call__(self, text: str) -> list[Morpheme]:
        """The morphemes in order. Regular and irregular stems are not told apart (VV-I is VV).

        Raises:
            BllossomError: kiwipiepy is not installed.
        """
        if self._kiwi is None:
            try:
                from kiwipiepy import Kiwi
            except ImportError as error:
                raise BllossomError(
                    "kiwipiepy is missing, which tells Korean endings apart; pip install 'bllossom[localize]'"
                ) from error
            self._kiwi = Kiwi(num_workers=1)
        found = self._kiwi.tokenize(text)
        return [
            Morpheme(token.form, str(token.tag).partition("-")[0], token.start, token.start + token.len)
            for token in found
        ]


@cache
def load_morphology(name: str | None) -> Morphology | None:
    """The morphology that a language names, one a process: it takes seconds and 300 MB. None where it names none."""
    return KiwiMorphology() if name == "kiwi" else None
