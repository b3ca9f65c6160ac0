"""One translated message as the rules read it, and what they say of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import regex

from bllossom.localize.language import Language, SourceLanguage
from bllossom.localize.masking import Piece, find_pieces
from bllossom.localize.morphology import Morpheme, Morphology

Severity = Literal["error", "warning", "hint"]
Span = tuple[int, int]

UNREAD = ("code block", "inline code", "LaTeX", "URL", "e-mail", "tag")
LIST_MARK = regex.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+(?=\S)", regex.MULTILINE)
QUOTE_LINE = regex.compile(r"^[ \t]*>.*$", regex.MULTILINE)
SENTENCE_END = regex.compile(r"[.!?…。]+[\"'”’)\]」』]*(?=\s|$)|\n+")


@dataclass(frozen=True)
class Passage:
    """A message, its source, and the question it answers ("" for a question itself)."""

    role: str
    source: str
    target: str
    question_source: str = ""
    question: str = ""
    question_before: str | None = None  # the question as first translated, where it has been edited since
    cut: bool = False  # the translator stopped at its limit of tokens
    prompt: str = ""  # what the translator was told, if that is known


@dataclass(frozen=True)
class Mark:
    """What a rule found: a place in the target (None: the whole of it), and words for the reason."""

    rule: str
    severity: Severity
    place: Span | None
    words: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SetFigures:
    """What a passage is measured against: its whole set."""

    register: str | None
    median_log_ratio: float = 0.0  # of ln(characters of target / characters of source)
    spread: float = 0.0  # the median absolute deviation × 1.4826; 0: too few to say


class Reading:
    """A passage with what several rules look up in it, found once."""

    def __init__(
        self,
        passage: Passage,
        language: Language,
        source_language: SourceLanguage,
        figures: SetFigures,
        morphology: Morphology | None,
    ) -> None:
        self.passage = passage
        self.language = language
        self.source_language = source_language
        self.figures = figures
        self.morphology = morphology

    @property
    def target(self) -> str:
        """The translated text; all places are in it."""
        return self.passage.target

    @cached_property
    def morphemes(self) -> list[Morpheme]:
        """Of the target; none without a morphology."""
        return self.morphology(self.target) if self.morphology else []

    @cached_property
    def pieces(self) -> list[Piece]:
        """Code, addresses and marks of the target."""
        return list(find_pieces(self.target))

    @cached_property
    def unread(self) -> list[Span]:
        """Where the target is no prose: code, formulas, addresses."""
        return _unread(self.pieces)

    @cached_property
    def quoted(self) -> list[Span]:
        """Where the target speaks in somebody else's words: between quotation marks, and in quoted lines."""
        spans = [match.span() for match in QUOTE_LINE.finditer(self.target)]
        for marks in self.language.quotes:
            opened, closed = regex.escape(marks[0]), regex.escape(marks[1])
            # An apostrophe is no quotation mark: that one stands before a word, and not inside.
            before = r"(?<![\p{L}\d])" if marks[0] == marks[1] else ""
            body = rf"{before}{opened}[^\n{opened}{closed}]{{1,600}}{closed}"
            spans += [match.span() for match in regex.finditer(body, self.target)]
        return spans

    @cached_property
    def sentences(self) -> list[Span]:
        """The sentences of the target, without list marks and white space at their edges."""
        found, start = [], 0
        ends = [
            match.end() for match in SENTENCE_END.finditer(self.target) if not self.in_spans(match.start(), self.unread)
        ]
        for end in [*ends, len(self.target)]:
            mark = LIST_MARK.match(self.target, start, end)
            first = mark.end() if mark else start
            text = self.target[first:end]
            if text.strip():
                found.append((first + len(text) - len(text.lstrip()), first + len(text.rstrip())))
            start = end
        return found

    @staticmethod
    def in_spans(position: int, spans: list[Span]) -> bool:
        """Whether a place lies inside one of the spans."""
        return any(start <= position < end for start, end in spans)

    def sentence_at(self, position: int) -> Span:
        """The sentence around a place."""
        return next((span for span in self.sentences if span[0] <= position < span[1]), (0, len(self.target)))

    def prose(self, *, quotes: bool) -> str:
        """The target with spaces for what is no prose, and for quotations unless `quotes`; places stay."""
        return _blanked(self.target, [*self.unread, *([] if quotes else self.quoted)])

    def asks_for_source(self) -> bool:
        """Whether the question wants an answer in the source's language."""
        return any(regex.search(pattern, self.passage.question) for pattern in self.language.asks_for_source)


Marks = Iterator[Mark]


def prose_of(text: str) -> str:
    """A text with spaces for code, formulas and addresses; places stay."""
    return _blanked(text, _unread(find_pieces(text)))


def _unread(pieces: Iterable[Piece]) -> list[Span]:
    return [(piece.start, piece.end) for piece in pieces if piece.kind in UNREAD]


def _blanked(text: str, spans: list[Span]) -> str:
    characters = list(text)
    for start, end in spans:
        characters[start:end] = " " * (end - start)
    return "".join(characters)
