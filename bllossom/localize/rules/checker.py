"""All rules over one dialogue, and their marks as the lines of flags.jsonl."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bllossom.localize.language import REASON_WORDS, Language, SourceLanguage
from bllossom.localize.morphology import Morphology, load_morphology
from bllossom.localize.rules import entities, leftovers, lengths, phrases, quantities, registers, structure
from bllossom.localize.rules.reading import Mark, Marks, Passage, Reading, SetFigures, Severity

CHECKS: tuple[Callable[[Reading], Marks], ...] = (
    leftovers.check,
    registers.check,
    entities.check,
    quantities.check,
    structure.check,
    lengths.check,
    phrases.check,
)
RULES = tuple(REASON_WORDS)


@dataclass(frozen=True)
class Flag:
    """One line of flags.jsonl."""

    id: str
    turn: int  # messages from 0, system left out
    rule: str
    severity: Severity
    start: int | None  # code points of the target's text; None: the whole message
    end: int | None  # exclusive
    reason: str


class Checker:
    """The rules of a pair of languages, for one set."""

    def __init__(
        self, language: Language, source_language: SourceLanguage, register: str | None = None, off: Iterable[str] = ()
    ) -> None:
        self.language = language
        self.source_language = source_language
        default = language.registers.default if language.registers else None
        self.figures = SetFigures(register or default)
        self._off = frozenset(off)
        self._morphology: Morphology | None = load_morphology(language.morphology)

    def measure(self, dialogues: Iterable[Sequence[Passage]]) -> None:
        """Learn the set's usual length ratio, which `length_ratio` compares with."""
        passages = (passage for dialogue in dialogues for passage in dialogue)
        self.figures = lengths.set_figures(passages, self.figures.register)

    def marks(self, passage: Passage) -> list[Mark]:
        """What the rules say of one message, in the order of its text."""
        reading = Reading(passage, self.language, self.source_language, self.figures, self._morphology)
        found = [mark for check in CHECKS for mark in check(reading) if mark.rule not in self._off]
        return sorted(found, key=lambda mark: (mark.place or (-1, -1), RULES.index(mark.rule)))

    def flags(self, identity: str, dialogue: Sequence[Passage]) -> list[Flag]:
        """The flags of one example, message by message."""
        return [
            self._flag(identity, turn, mark) for turn, passage in enumerate(dialogue) for mark in self.marks(passage)
        ]

    def _flag(self, identity: str, turn: int, mark: Mark) -> Flag:
        start, end = mark.place or (None, None)
        reason = self.language.reasons[mark.rule].format(**mark.words)
        return Flag(identity, turn, mark.rule, mark.severity, start, end, reason)
