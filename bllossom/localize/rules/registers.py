"""register_mixed and register_other: how formal the sentences of an answer are, by their final endings."""

from collections import Counter
from dataclasses import dataclass

import regex

from bllossom.localize.language import Registers
from bllossom.localize.rules.reading import Mark, Marks, Morpheme, Reading

FINAL_ENDING = "EF"
AFTER_ENDING = ("SF", "SSC", "SE", "SP", "SO", "SW", "W_EMOJI", "SY", "SSO", "SS")


@dataclass(frozen=True)
class Ended:
    """A sentence's final ending: the registers it is at home in, and its place with the particle after it."""

    registers: frozenset[str]
    start: int
    end: int


def check(reading: Reading) -> Marks:
    """Endings of another register than the rest of the answer; an answer in another one than the set's."""
    registers = reading.language.registers
    if registers is None or reading.passage.role != "assistant":
        return
    endings = final_endings(reading, registers)
    main = main_register(endings)
    if main is None:
        return
    if strangers := [ending for ending in endings if main not in ending.registers]:
        for ending in strangers:
            start = _word_start(reading.target, ending.start)
            found = reading.target[start : ending.end]
            yield Mark("register_mixed", "error", (start, ending.end), {"found": found, "main": registers.labels[main]})
    wanted = reading.figures.register
    if wanted and not any(wanted in ending.registers for ending in endings):
        words = {"found": registers.labels[main], "main": registers.labels[wanted]}
        yield Mark("register_other", "warning", None, words)


def main_register(endings: list[Ended]) -> str | None:
    """The register that most sentences are in; the first one of the text among equals; None without an ending."""
    votes: Counter[str] = Counter()
    for ending in endings:
        # An ending at home in several registers says less of each.
        votes.update({name: 1 / len(ending.registers) for name in sorted(ending.registers)})
    decided = [next(iter(ending.registers)) for ending in endings if len(ending.registers) == 1]
    if not decided:
        return max(votes, key=lambda name: votes[name]) if votes else None
    counts = Counter(decided)
    return max(counts, key=lambda name: (counts[name], votes[name], -decided.index(name)))


def final_endings(reading: Reading, registers: Registers) -> list[Ended]:
    """The final endings outside quotations and code, in order."""
    skipped = [*reading.quoted, *reading.unread]
    morphemes = reading.morphemes
    found = []
    for number, morpheme in enumerate(morphemes):
        if morpheme.tag != FINAL_ENDING or reading.in_spans(morpheme.start, skipped):
            continue
        following = morphemes[number + 1] if number + 1 < len(morphemes) else None
        form, end = morpheme.form, morpheme.end
        if following and following.form == registers.particle and following.start == end:
            form, end = form + following.form, following.end
            following = morphemes[number + 2] if number + 2 < len(morphemes) else None
        if not _ends_sentence(reading.target, end, following):
            continue
        homes = next((ending.registers for ending in registers.endings if regex.fullmatch(ending.form, form)), None)
        if homes:
            found.append(Ended(frozenset(homes), morpheme.start, end))
    return found


def _ends_sentence(text: str, end: int, following: Morpheme | None) -> bool:
    if following is None or "\n" in text[end : following.start]:
        return True
    # An aside in brackets (이하 같다) has an ending of its own, which says nothing of the answer's register.
    return following.tag in AFTER_ENDING and following.form not in (",", ":", "/", "(", ")", "·")


def _word_start(text: str, position: int) -> int:
    while position > 0 and not text[position - 1].isspace():
        position -= 1
    return position
