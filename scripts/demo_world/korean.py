"""Korean particles and speech levels, by rule.

A template says which particle follows a slot by its form after a consonant, `{town:은}`; the form after a vowel is
chosen here. The last word of a template stands in the plain style (`-다`), and is turned into the two polite ones.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["plain", "formal", "polite"]
LEVELS: tuple[Level, ...] = ("plain", "formal", "polite")

FIRST_SYLLABLE, LAST_SYLLABLE = 0xAC00, 0xD7A3
FINALS_PER_VOWEL = 28
VOWELS_PER_INITIAL = 21
FINAL_NONE, FINAL_NIEUN, FINAL_RIEUL, FINAL_BIEUP, FINAL_SSANG_SIOT = 0, 4, 8, 17, 20
VOWEL_I = 20

# after a consonant → after a vowel; `으로` and the copula have rules of their own
PARTICLES = {
    "은": "는",
    "이": "가",
    "을": "를",
    "와": "와",  # 과 after a consonant, see attach()
    "으로": "로",
    "이라고": "라고",
    "이라는": "라는",
    "이었": "였",
    "이에요": "예요",
}
SLOT = re.compile(r"\{(\w+)(?::([가-힣]+))?\}")


def final_of(syllable: str) -> int:
    """Index of the final consonant of one Hangul syllable (0: none), in Unicode's order of the 28 finals."""
    code = ord(syllable)
    if not FIRST_SYLLABLE <= code <= LAST_SYLLABLE:
        raise ValueError(f"{syllable!r} is not a Hangul syllable")
    return (code - FIRST_SYLLABLE) % FINALS_PER_VOWEL


def with_final(syllable: str, final: int) -> str:
    """The same syllable with another final consonant."""
    return chr(ord(syllable) - final_of(syllable) + final)


def _last_syllable(word: str) -> str:
    """The syllable that decides the particle: closing quotes and brackets are passed over."""
    for char in reversed(word):
        if FIRST_SYLLABLE <= ord(char) <= LAST_SYLLABLE:
            return char
    raise ValueError(f"{word!r} has no Hangul syllable to choose a particle by")


def attach(word: str, particle: str) -> str:
    """`word` with `particle` in the form that its last sound asks for."""
    final = final_of(_last_syllable(word))
    if particle == "와":
        return word + ("와" if final == FINAL_NONE else "과")
    if particle == "으로":
        return word + ("로" if final in (FINAL_NONE, FINAL_RIEUL) else "으로")
    return word + (PARTICLES[particle] if final == FINAL_NONE else particle)


def copula(word: str, level: Level) -> str:
    """`word` + 이다 in the wanted level; plain style drops 이 after the vowel ㅣ (대장장이다)."""
    if level == "formal":
        return word + "입니다"
    if level == "polite":
        return attach(word, "이에요")
    return word + ("다" if _ends_in_i(word) else "이다")


def _ends_in_i(word: str) -> bool:
    code = ord(_last_syllable(word)) - FIRST_SYLLABLE
    return code % FINALS_PER_VOWEL == FINAL_NONE and code // FINALS_PER_VOWEL % VOWELS_PER_INITIAL == VOWEL_I


def since_clause(past: str) -> str:
    """A clause in the plain past as its -아서/-어서 form: 비가 내렸다 → 비가 내려서 (the past stem less its ㅆ)."""
    if len(past) < 2 or not past.endswith("다") or final_of(past[-2]) != FINAL_SSANG_SIOT:
        raise ValueError(f"{past!r} is not in the plain past")
    return past[:-2] + with_final(past[-2], FINAL_NONE) + "서"


@dataclass(frozen=True)
class Predicate:
    """A verb or an adjective, by the two forms that all others follow from: 흐르-, 흘러."""

    stem: str
    infinitive: str
    is_verb: bool

    def plain(self) -> str:
        if not self.is_verb:
            return self.stem + "다"
        final = final_of(self.stem[-1])
        if final in (FINAL_NONE, FINAL_RIEUL):
            return self.stem[:-1] + with_final(self.stem[-1], FINAL_NIEUN) + "다"
        return self.stem + "는다"

    def formal(self) -> str:
        if final_of(self.stem[-1]) in (FINAL_NONE, FINAL_RIEUL):
            return self.stem[:-1] + with_final(self.stem[-1], FINAL_BIEUP) + "니다"
        return self.stem + "습니다"

    def polite(self) -> str:
        return self.infinitive + "요"

    def past(self) -> str:
        """Past stem: 흘렀-, 좋았-."""
        return self.infinitive[:-1] + with_final(self.infinitive[-1], FINAL_SSANG_SIOT)

    def exclaimed(self) -> str:
        """-네요; ㄹ falls before ㄴ."""
        last = self.stem[-1]
        kept = with_final(last, FINAL_NONE) if final_of(last) == FINAL_RIEUL else last
        return self.stem[:-1] + kept + "네요"

    def at(self, level: Level) -> str:
        return {"plain": self.plain, "formal": self.formal, "polite": self.polite}[level]()


class SpeechLevels:
    """Turns sentences in the plain style into the other two, and into clauses (`-고`)."""

    def __init__(self, predicates: list[Predicate]) -> None:
        self._by_plain = {p.plain(): p for p in predicates}

    def last_word(self, word: str, level: Level | Literal["and"]) -> str:
        """The closing predicate `word` (plain, no full stop) in another level, or its `-고` form."""
        if not word.endswith("다"):
            raise ValueError(f"{word!r} does not end in -다")
        if len(word) > 1 and final_of(word[-2]) == FINAL_SSANG_SIOT:  # 있다, 없다's kin and every past form
            stem = word[:-1]
            return stem + {"plain": "다", "formal": "습니다", "polite": "어요", "and": "고"}[level]
        for start in range(len(word)):
            predicate = self._by_plain.get(word[start:])
            if predicate:
                end = predicate.stem + "고" if level == "and" else predicate.at(level)
                return word[:start] + end
        if word.endswith("이다"):
            noun = word.removesuffix("이다")
            return noun + "이고" if level == "and" else copula(noun, level)
        raise KeyError(f"no predicate for {word!r}: add its stem and infinitive to predicates.yaml")

    def fill(self, template: str, slots: Mapping[str, str], level: Level) -> str:
        """`template` (one or more sentences) with its slots, in `level`; what is not plain style stays as it is."""
        return " ".join(self._sentence(part, slots, level) for part in re.split(r"(?<=[.!?]) ", template))

    def clause(self, template: str, slots: Mapping[str, str]) -> str:
        """The template's single sentence as a clause that goes on: …흐르고."""
        body = template.removesuffix(".")
        filled = fill_slots(body, slots, "plain")
        if body.endswith(":이다}"):
            return filled.removesuffix("다") + "고"
        head, _, last = filled.rpartition(" ")
        return f"{head} {self.last_word(last, 'and')}".strip()

    def _sentence(self, template: str, slots: Mapping[str, str], level: Level) -> str:
        filled = fill_slots(template, slots, level)
        if level != "plain" and template.endswith("까?"):
            return filled.removesuffix("?") + "요?"
        if level == "plain" or not template.endswith(".") or template.endswith(":이다}."):
            return filled
        head, _, last = filled.removesuffix(".").rpartition(" ")
        return f"{head} {self.last_word(last, level)}.".strip() if last.endswith("다") else filled


def fill_slots(template: str, slots: Mapping[str, str], level: Level = "plain") -> str:
    """Slots and their particles; only the copula `{x:이다}` depends on the level."""

    def replace(match: re.Match[str]) -> str:
        word, particle = slots[match[1]], match[2]
        if particle is None:
            return word
        return copula(word, level) if particle == "이다" else attach(word, particle)

    return SLOT.sub(replace, template)
