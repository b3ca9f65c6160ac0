"""What must come through a translation untouched: cut out before, put back after, and checked.

mask("Run `ls` in **/tmp**.")  ->  text "Run ⟦0⟧ in ⟦1⟧/tmp⟦2⟧.", pieces ["`ls`", "**", "**"]
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import regex

# Units that are written alike everywhere. Others (5 miles) are translated, and looked at by the rule `unit`.
UNITS = r"km/h|[kcmµn]?m[²³23]?|[kmµ]?g|m?[lL]|[KMGT]i?B|[kMG]?Hz|[kM]?Wh?|kcal|kJ|dB|ms|°C|℃|%|px|dpi|rpm|mA?h|k?V"
PATTERNS = {
    "code block": r"^[ \t]*(?P<fence>```+|~~~+)[^\n]*\n(?:.*?\n)??[ \t]*(?P=fence)[ \t]*$|^[ \t]*(?:```|~~~).*\Z",
    "inline code": r"(?<!`)(?P<tick>`+)(?!`)[^\n]+?(?<!`)(?P=tick)(?!`)",
    "LaTeX": r"\$\$.+?\$\$|\\\[.+?\\\]|\\\(.+?\\\)|\\begin\{(?P<env>\w+\*?)\}.*?\\end\{(?P=env)\}"
    r"|(?<![\w$\\])\$(?=\S)(?:[A-Za-z]|[^$\n]*?[\\^_=+{}<>][^$\n]*?)(?<=\S)\$(?![\d$])",
    "URL": r"\b(?:https?|ftp)://[^\s<>()\[\]\"'`]+(?:\([^\s()]*\)[^\s<>()\[\]\"'`]*)?(?<![.,;:!?])|\bwww\.[a-z0-9][\w.-]+\.[a-z]{2,}",
    "e-mail": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}",
    "tag": r"</?[A-Za-z][\w:-]*(?:\s+[\w:-]+(?:\s*=\s*(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s>\"']+))?)*\s*/?>|<!--.*?-->",
    "JSON key": r"(?<=[{,\n] {0,8})\"[\w $.-]{1,80}\"(?=\s*:)",
    "number with unit": rf"(?<![\w.,])[+-]?\d+(?:[.,]\d+)*\s?(?:{UNITS})(?![\w²³])",
    "heading": r"^#{1,6}(?=[ \t])",
    "list mark": r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])(?=[ \t]+\S)",
    "quotation mark of Markdown": r"^[ \t]*>+(?=[ \t])",
    "table rule": r"^\|?(?:[ \t]*:?-{3,}:?[ \t]*\|)+(?:[ \t]*:?-{3,}:?[ \t]*)?$",
    "table bar": r"(?<!\|)\|(?!\|)",
    "emphasis": r"(?<![*\\])\*\*(?=[^\s*])|(?<=[^\s*])\*\*(?!\*)",
    "placeholder": r"⟦\d+⟧",
}
MASKED = regex.compile(
    "|".join(f"(?P<k{number}>{pattern})" for number, pattern in enumerate(PATTERNS.values())),
    regex.MULTILINE | regex.DOTALL,
)
PLACEHOLDER = regex.compile(r"⟦(\d+)⟧")
VERBATIM = ("code block", "inline code", "LaTeX", "URL", "e-mail", "tag", "JSON key", "number with unit")
"""Kinds whose text must stand in the translation as it is; of the others only their number counts."""


@dataclass(frozen=True)
class Piece:
    """Something to be left alone, and where it stands (code points, end exclusive)."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Masked:
    """A text with placeholders for `pieces`."""

    text: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Restored:
    """A translation with its pieces back in place."""

    text: str
    lost: tuple[str, ...]  # pieces whose placeholder did not come back
    repeated: tuple[str, ...]  # pieces that came back more than once, or that nobody sent


def find_pieces(text: str) -> Iterator[Piece]:
    """The pieces of a text in order, none inside another."""
    kinds = list(PATTERNS)
    for match in MASKED.finditer(text):
        name = next(name for name, found in match.groupdict().items() if name[0] == "k" and found is not None)
        yield Piece(kinds[int(name[1:])], match[0], match.start(), match.end())


def mask(text: str) -> Masked:
    """Cut the pieces out."""
    parts: list[str] = []
    pieces: list[Piece] = []
    last = 0
    for piece in find_pieces(text):
        parts += [text[last : piece.start], f"⟦{len(pieces)}⟧"]
        pieces.append(piece)
        last = piece.end
    return Masked("".join([*parts, text[last:]]), tuple(pieces))


def unmask(translated: str, masked: Masked) -> Restored:
    """Put the pieces back, and say which did not come back as they went."""
    seen: Counter[int] = Counter()
    unknown: list[str] = []

    def put_back(match: regex.Match[str]) -> str:
        number = int(match[1])
        if number >= len(masked.pieces):
            unknown.append(match[0])
            return ""
        seen[number] += 1
        return masked.pieces[number].text

    text = PLACEHOLDER.sub(put_back, translated)
    lost = tuple(piece.text for number, piece in enumerate(masked.pieces) if not seen[number])
    again = tuple(masked.pieces[number].text for number, count in sorted(seen.items()) if count > 1)
    return Restored(text, lost, (*again, *unknown))
