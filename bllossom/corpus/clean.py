"""Cleaning one document: each step optional, and each drop has a name that is counted."""

from collections.abc import Callable
from typing import Annotated, NamedTuple, Self

import numpy as np
import regex
from numpy.typing import NDArray
from pydantic import Field, model_validator

from bllossom.config import AddedIn, Model
from bllossom.errors import ConfigError
from bllossom.text.normalise import compose, may_have_controls, remove_controls, remove_zero_width


class CleaningConfig(Model):
    """What is done to every document of a source."""

    nfc: Annotated[
        bool,
        Field(
            description="compose characters (Unicode NFC): one spelling for each syllable, the one that vocabularies "
            "are learned from"
        ),
    ] = True
    control_characters: Annotated[
        bool,
        Field(description="remove control characters but tab and newline; those that part lines become newlines"),
    ] = True
    zero_width_characters: Annotated[
        bool,
        AddedIn(2),
        Field(description="remove zero-width spaces, word joiners and soft hyphens; joiners of letters stay"),
    ] = False
    min_characters: Annotated[int, Field(ge=1, description="drop documents shorter than this, in characters")] = 1
    script: Annotated[str, Field(description="Unicode script that most letters should be in: Hangul, Latin, …")] = ""
    min_script_ratio: Annotated[
        float, Field(ge=0, le=1, description="drop documents with a smaller share of their letters in that script")
    ] = 0

    @model_validator(mode="after")
    def _script_and_ratio(self) -> Self:
        if bool(self.script) != (self.min_script_ratio > 0):
            raise ValueError("script and min_script_ratio go together; set both, as script: Hangul, 0.3")
        return self


class Cleaned(NamedTuple):
    """What became of a text."""

    data: bytes  # UTF-8; as far as it was cleaned, where it is dropped
    came_as: int  # UTF-8 bytes before
    reason: str  # why it is dropped; empty where it is kept


def make_cleaner(config: CleaningConfig) -> Callable[[str], Cleaned]:
    """A function that cleans one text.

    Raises:
        ConfigError: there is no such script.
    """
    table = script_table(config.script) if config.script else None

    def clean(text: str) -> Cleaned:
        came = text.encode()
        result = composed(text, came)
        data = came if result is text else result.encode()
        return Cleaned(data, len(came), why_dropped(result))

    def composed(text: str, data: bytes) -> str:
        if config.control_characters and may_have_controls(data):
            text = remove_controls(text)
        if config.zero_width_characters:
            text = remove_zero_width(text)
        return compose(text) if config.nfc else text

    def why_dropped(text: str) -> str:
        if not text or text.isspace():
            return "empty"
        if len(text) < config.min_characters:
            return "too short"
        if table is not None and script_ratio(text, table) < config.min_script_ratio:
            return "other script"
        return ""

    return clean


def script_table(script: str) -> NDArray[np.uint8]:
    """For every code point: 0 no letter, 1 a letter, 2 a letter of the script."""
    try:
        of_script = regex.compile(rf"\p{{Script={script}}}+")
    except regex.error as error:
        raise ConfigError(f"clean.script: no Unicode script {script!r}; name one as Hangul, Latin or Han") from error
    everything = "".join(map(chr, range(0x110000)))
    table = np.zeros(0x110000, np.uint8)
    for match in regex.finditer(r"\p{L}+", everything):
        table[match.start() : match.end()] = 1
    letters = table.copy()
    for match in of_script.finditer(everything):
        table[match.start() : match.end()] = 2
    return table * (letters > 0)


def script_ratio(text: str, table: NDArray[np.uint8]) -> float:
    """The share of a text's letters that are in the table's script; 0 where it has no letters."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    _, letters, of_script = np.bincount(table[codes], minlength=3).tolist()
    return of_script / (letters + of_script) if letters + of_script else 0.0
