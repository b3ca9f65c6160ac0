"""Unicode scripts: which one a piece belongs to, and which scripts a vocabulary is spread over."""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence

import regex

from bllossom.errors import ConfigError

# The living scripts with the most text; any other letters count as Other. Common and Inherited are no one's letters.
# fmt: off
KNOWN = (
    "Latin", "Hangul", "Han", "Hiragana", "Katakana", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari",
    "Bengali", "Tamil", "Telugu", "Thai", "Lao", "Khmer", "Myanmar", "Georgian", "Armenian", "Ethiopic", "Gujarati",
    "Gurmukhi", "Kannada", "Malayalam", "Oriya", "Sinhala", "Tibetan", "Mongolian",
)
# fmt: on
SYMBOLS, OTHER = "digits and symbols", "Other"


def check_scripts(names: Iterable[str]) -> None:
    """Raise ConfigError for a name that Unicode does not know as a script."""
    for name in names:
        try:
            regex.compile(rf"\p{{Script={name}}}")
        except regex.error as error:
            raise ConfigError(
                f"donor_filter: {name!r} is no Unicode script; write one such as Hangul or Latin"
            ) from error


def holds_script(piece: str, names: Iterable[str]) -> bool:
    """True where the piece holds a character of one of the scripts."""
    return any(_pattern(name).search(piece) is not None for name in names)


def script_of(piece: str) -> str:
    """The script of most of a piece's letters; `digits and symbols` where it has none."""
    scripts = Counter(script for character in piece if (script := _script_of_character(character)) != SYMBOLS)
    return max(scripts, key=lambda script: (scripts[script], script)) if scripts else SYMBOLS


def main_scripts(pieces: Sequence[str]) -> list[str]:
    """The scripts that a tenth or more of the pieces belong to: what a donor is there for.

    Raises:
        ConfigError: there is none.
    """
    counts = Counter(map(script_of, pieces))
    found = sorted(script for script in KNOWN if counts[script] * 10 >= len(pieces))
    if not found:
        raise ConfigError("donor_filter: the donor's pieces belong to no one script; write which ones are to be kept")
    return found


@functools.cache
def _pattern(name: str) -> regex.Pattern[str]:
    return regex.compile(rf"\p{{Script={name}}}")


@functools.cache
def _script_of_character(character: str) -> str:
    for name in KNOWN:
        if _pattern(name).match(character):
            return name
    return OTHER if regex.match(r"\p{L}", character) else SYMBOLS
