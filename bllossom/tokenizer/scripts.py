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
UNSPACED = frozenset({"Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"})
"""Written without spaces between words."""
SYMBOLS, OTHER = "digits and symbols", "Other"


def check_scripts(names: Sequence[str], key: str = "scripts") -> None:
    """Refuse a list that names no script, or one that Unicode does not know; `key` is where it stands.

    Raises:
        ConfigError: says which, and what to write.
    """
    if not names:
        raise ConfigError(f"{key}: is an empty list; write Unicode scripts such as Hangul or Latin, or leave it out")
    for name in names:
        try:
            regex.compile(rf"\p{{Script={name}}}")
        except regex.error as error:
            raise ConfigError(f"{key}: {name!r} is no Unicode script; write one such as Hangul or Latin") from error


def holds_script(piece: str, names: Iterable[str]) -> bool:
    """True where the piece holds a character of one of the scripts."""
    return any(_pattern(name).search(piece) is not None for name in names)


def holds_letter(piece: str, names: Iterable[str]) -> bool:
    """True where the piece holds a letter or mark of the scripts: one of theirs, or one that Unicode gives to several
    scripts (Script_Extensions), of which no other known one uses it, as ー of Hiragana and Katakana."""
    asked = tuple(names)
    return any(_is_letter_of(character, asked) for character in piece)


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
def _is_letter_of(character: str, names: tuple[str, ...]) -> bool:
    if holds_script(character, names):
        return True
    if not regex.match(r"[\p{L}\p{M}]", character):
        return False
    others = [name for name in KNOWN if not any(_same_script(name, asked) for asked in names)]
    return _uses(character, names) and not _uses(character, others)


def _uses(character: str, names: Iterable[str]) -> bool:
    return any(regex.match(rf"\p{{Script_Extensions={name}}}", character) for name in names)


@functools.cache
def _same_script(one: str, other: str) -> bool:
    """Whether two names mean one script: Hiragana, hiragana, Hira. A character has one script."""
    first = _pattern(one).search("".join(map(chr, range(0x20000))))
    return first is not None and _pattern(other).match(first[0]) is not None


@functools.cache
def _script_of_character(character: str) -> str:
    for name in KNOWN:
        if _pattern(name).match(character):
            return name
    return OTHER if regex.match(r"\p{L}", character) else SYMBOLS


class ScriptCodePoints:
    """The code points of some scripts, and `heads`: the beginnings of UTF-8 characters (one to three bytes) after which
    no text has any but theirs.

    Code points that Unicode has not assigned count as theirs, and `reserved` lists them, where they stand between two
    that are, or behind a head: U+D7A4 … U+D7AF share two bytes with the last Hangul syllables, U+0D80 with the first
    Sinhala letters. No text has them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
        anyone = "".join(rf"\p{{Script={name}}}" for name in names)
        theirs = {ord(character) for character in regex.findall(f"[{anyone}]", everything)}
        unassigned: set[int] = set()
        between: set[int] = set()
        for gap in regex.finditer(r"\p{Cn}+", everything):
            unassigned.update(map(ord, gap[0]))
            before, after = everything[gap.start() - 1], everything[gap.end() : gap.end() + 1]
            if ord(before) in theirs and after and ord(after) in theirs:
                between.update(map(ord, gap[0]))
        self.names = list(names)
        self.heads = _heads_of(theirs | between, unassigned)
        self.reserved = sorted(between.union(*(unassigned.intersection(_behind(head)) for head in self.heads)))
        self._members = theirs.union(self.reserved)

    def __contains__(self, code_point: object) -> bool:
        return code_point in self._members

    def holds(self, text: str) -> bool:
        """Whether the text has a character of the scripts."""
        return any(ord(character) in self._members for character in text)


def _heads_of(members: set[int], unassigned: set[int]) -> frozenset[bytes]:
    """The beginnings that these have alone. Those of one byte, which is a piece already, they have not even in common
    with what is unassigned; a longer one must be joined before any of its letters is, and nobody else misses it."""
    raws = (chr(number).encode() for number in members)
    beginnings = {raw[:length] for raw in raws for length in range(1, len(raw))}
    return frozenset(
        head
        for head in beginnings
        if all(number in members or (len(head) > 1 and number in unassigned) for number in _behind(head))
    )


def _behind(head: bytes) -> range:
    """The code points whose UTF-8 begins with these bytes (and, where it is one byte, those too low for its length)."""
    length = 2 if head[0] < 0xE0 else 3 if head[0] < 0xF0 else 4
    number = head[0] & (0x7F >> length)
    for byte in head[1:]:
        number = number << 6 | byte & 0x3F
    free = 6 * (length - len(head))
    return range(number << free, number + 1 << free)


@functools.lru_cache(maxsize=4)
def code_points(names: tuple[str, ...]) -> ScriptCodePoints:
    """The code points of these scripts, looked up once."""
    return ScriptCodePoints(names)
