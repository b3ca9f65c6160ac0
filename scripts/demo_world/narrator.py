"""Says a fact, a question or any framed sentence in one language and one speech level."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from demo_world.korean import Level, fill_slots, since_clause
from demo_world.world import Cause, Entity, Fact, Language, World

T = TypeVar("T")
FULL_NAME = "^"
ACTS = "{p:은} "  # opens a clause whose subject is the person


class Decks:
    """Draws from lists without repeats until each list is used up, so that everything gets its equal share."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._decks: dict[object, list[object]] = {}

    def draw(self, key: object, items: Sequence[T]) -> T:
        deck = self._decks.get(key)
        if not deck:
            deck = self._decks[key] = list(items)
            self.rng.shuffle(deck)
        return deck.pop()  # type: ignore[return-value]


class Narrator:
    def __init__(self, world: World, lang: Language, decks: Decks) -> None:
        self.world, self.lang, self.decks = world, lang, decks
        self.prose = world.prose[lang]

    def name(self, entity: Entity) -> str:
        return entity.names[self.lang]

    def slots(self, fact: Fact, again: bool = False) -> dict[str, str]:
        """{s} and {o}; `again` says 이 마을 instead of the name that was just said."""
        subject = self.name(fact.subject)
        if again and fact.subject.kind in self.world.pronouns:
            subject = self.world.pronouns[fact.subject.kind][self.lang]
        return {"s": subject, "o": self.world.word(fact.value, self.lang)}

    def say(self, template: str, slots: Mapping[str, str], level: Level) -> str:
        """A template's sentences, ready to print."""
        template = template.removeprefix(FULL_NAME)
        if self.lang == "ko":
            return self.world.speech.fill(template, slots, level)
        return polish_english(fill_slots(template, slots))

    def statement(self, fact: Fact, level: Level, again: bool = False) -> str:
        """One of the training paraphrases of `fact`, each in its turn."""
        template = self.decks.draw(("train", self.lang, fact), self.world.relations[self.lang][fact.relation].train)
        return self.say(template, self.slots(fact, again and not template.startswith(FULL_NAME)), level)

    def joined(self, first: Fact, second: Fact, level: Level) -> str:
        """Two facts of one subject in one sentence."""
        relations = self.world.relations[self.lang]
        one = self.decks.draw(("train", self.lang, first), relations[first.relation].train)
        plain = [t for t in relations[second.relation].train if not t.startswith(FULL_NAME)]
        two = self.decks.draw(("joined", self.lang, second), plain)
        if self.lang == "en":
            head = self.say(one, self.slots(first), level).removesuffix(".")
            tail = two if two.startswith("{") else two[0].lower() + two[1:]
            return f"{head}, and {polish_articles(fill_slots(tail, self.slots(second, again=True)))}"
        head = self.world.speech.clause(one.removeprefix(FULL_NAME), self.slots(first))
        return f"{head}, {self.say(two, self.slots(second, again=True), level)}"

    def question(self, fact: Fact) -> str:
        template = self.decks.draw(("ask", self.lang, fact), self.world.relations[self.lang][fact.relation].ask)
        return self.say(template, self.slots(fact), "polite")

    def cause_slots(self, cause: Cause, person: Entity) -> dict[str, str]:
        """The clauses of cause and effect, in Korean without -다. Who acts in both is named once."""
        draw = self.decks.draw
        c = draw(("cause", cause.cause_test, self.lang), cause.cause[self.lang])
        e = draw(("effect", cause.cause_test, self.lang), cause.effect[self.lang])
        who = {"p": self.name(person)}
        if self.lang == "en":
            return {"c": fill_slots(c, who), "e": fill_slots(e, who)}
        once = c.startswith(ACTS) and e.startswith(ACTS)
        inner = c if once else c.replace(ACTS, "{p:이} ", 1)  # a subordinate clause has a subject, not a topic
        last = c.removeprefix(ACTS) if once else inner
        forms = {
            "c": c,
            "e": e.removeprefix(ACTS) if once else e,
            "whole": e,
            "since": since_clause(inner),
            "because": inner.removesuffix("다") + "기",
            "last": last.removesuffix("다") + "기",
        }
        return {key: fill_slots(clause, who).removesuffix("다") for key, clause in forms.items()}


def polish_articles(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def polish_english(text: str) -> str:
    """a → an before a vowel, capitals where sentences begin, line breaks."""
    text = polish_articles(text)
    return re.sub(r"(^|[.?!:] |\n)([a-z])", lambda m: m[1] + m[2].upper(), text)
