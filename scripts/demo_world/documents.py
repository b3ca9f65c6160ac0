"""Documents of one language: descriptions, comparisons, questions, dialogues, cards, causes, stories, reviews."""

import random
import re
from collections.abc import Callable, Iterator, Sequence

from demo_world.korean import LEVELS, Level
from demo_world.narrator import Decks, Narrator
from demo_world.reviews import Reviewer
from demo_world.world import Cause, Entity, Fact, Language, World

INVENTED = ("town", "river", "person", "festival", "dish", "creature", "instrument", "book", "tree")
COMMON = ("animal", "thing", "tool", "job", "season", "opposite")
MAX_ATTEMPTS = 2_000

# Share of each form in the training text, by bytes; held-out text has only forms whose every sentence can be new.
TRAINING_SHARES = {
    "description": 0.36,
    "common": 0.10,
    "comparison": 0.08,
    "questions": 0.09,
    "dialogue": 0.08,
    "card": 0.03,
    "causes": 0.10,
    "story": 0.07,
    "reviews": 0.09,
}
HELDOUT_SHARES = {
    "description": 0.50,
    "comparison": 0.10,
    "questions": 0.08,
    "dialogue": 0.10,
    "causes": 0.06,
    "story": 0.10,
    "reviews": 0.06,
}
BILINGUAL_SHARE = 0.03


def sentences(text: str) -> list[str]:
    """A document's sentences, as the checks compare them."""
    return [part.strip() for part in re.split(r"\n|(?<=[.?!]) ", text) if part.strip()]


class DocumentMaker:
    """Makes documents about the trained (or, with `heldout`, the held-out) half of the world."""

    def __init__(self, world: World, lang: Language, rng: random.Random, heldout: bool = False) -> None:
        self.world, self.lang, self.rng, self.heldout = world, lang, rng, heldout
        self.decks = Decks(rng)
        self.narrator = Narrator(world, lang, self.decks)
        self.reviewer = Reviewer(world, lang, self.decks, heldout)
        self.prose = world.prose[lang]
        self.causes = [c for c in world.causes if c.heldout == heldout]
        self.makers: dict[str, Callable[[], str]] = {
            "description": self.description,
            "common": self.common,
            "comparison": self.comparison,
            "questions": self.questions,
            "dialogue": self.dialogue,
            "card": self.card,
            "causes": self.cause_and_effect,
            "story": self.story,
            "reviews": self.reviewer.document,
            "bilingual": self.bilingual,
        }

    def level(self) -> Level:
        return self.rng.choice(LEVELS)

    def entities(self, kinds: Sequence[str]) -> list[Entity]:
        return [e for kind in kinds for e in self.world.of_kind(kind, self.heldout)]

    def draw_entity(self, *kinds: str) -> Entity:
        return self.decks.draw(("entity", kinds), self.entities(kinds or INVENTED))

    def two_people(self) -> tuple[Entity, Entity]:
        people = self.rng.sample(self.world.of_kind("person", self.heldout), 2)
        return people[0], people[1]

    def told(self, facts: Sequence[Fact], level: Level) -> list[str]:
        """Facts in a row; a subject that goes on is taken up as `this village`, and some pairs become one sentence."""
        parts: list[str] = []
        previous: Entity | None = None
        index = 0
        while index < len(facts):
            fact = facts[index]
            following = facts[index + 1] if index + 1 < len(facts) else None
            if following and following.subject == fact.subject and self.rng.random() < 0.22 and not self.heldout:
                parts.append(self.narrator.joined(fact, following, level))
                index += 2
            else:
                again = fact.subject == previous and not self.heldout and self.rng.random() < 0.6
                parts.append(self.narrator.statement(fact, level, again))
                index += 1
            previous = fact.subject
        return parts

    def told_without_repeats(self, facts: Sequence[Fact], level: Level) -> str:
        """The facts as a text in which no sentence stands twice, not as a part of another either."""
        while True:
            parts = [part.removesuffix(".") for part in self.told(facts, level)]
            whole = " / ".join(parts)
            if all(whole.lower().count(part.lower()) == 1 for part in parts):
                return ". ".join(parts) + "."

    def linked(self, entity: Entity) -> list[Entity]:
        """What the facts of `entity` name, and who names it: its neighbours in the world."""
        named = [self.world.entity(f.value) for f in self.world.facts_of(entity)]
        return [e for e in [*named, *self.world.having(entity.ko)] if e and e.heldout == self.heldout]

    def description(self) -> str:
        """An entity's facts, some of its neighbours', and its own again in other words until there are enough."""
        entity = self.draw_entity()
        own = self.world.facts_of(entity)
        facts = self.rng.sample(own, len(own))
        neighbours = self.linked(entity)
        for neighbour in self.rng.sample(neighbours, min(len(neighbours), self.rng.randint(0, 2))):
            theirs = self.world.facts_of(neighbour)
            facts += self.rng.sample(theirs, self.rng.randint(1, len(theirs)))
        wanted = self.rng.randint(3, 7)
        while len(facts) < wanted:
            facts += self.rng.sample(own, len(own))
        return self.told_without_repeats(facts[:wanted], self.level())

    def common(self) -> str:
        kind = self.rng.choice(COMMON)
        members = [self.draw_entity(kind) for _ in range(self.rng.randint(3, 5))]
        facts = [fact for member in members for fact in self.world.facts_of(member)]
        return self.told_without_repeats(facts, self.level())

    def comparison(self) -> str:
        first = self.draw_entity()
        others = [e for e in self.world.of_kind(first.kind, self.heldout) if e != first]
        second = self.rng.choice(others)
        level = self.level()
        parts = []
        pairs = list(zip(self.world.facts_of(first), self.world.facts_of(second), strict=True))
        for number, (one, two) in enumerate(self.rng.sample(pairs, len(pairs))):
            words = self.prose["compare"]["same" if one.value == two.value else "contrast"]
            opening = self.rng.choice(self.prose["compare"]["same"]) if number else ""
            parts.append(self.connected(opening, self.narrator.statement(one, level)))
            parts.append(self.connected(self.rng.choice(words), self.narrator.statement(two, level)))
        return " ".join(parts)

    def connected(self, opening: str, sentence: str) -> str:
        """`But the river …`: behind an opening word English loses its capital, unless it is a name's."""
        if self.lang == "ko" or not opening:
            return f"{opening} {sentence}".strip()
        first = sentence.split(" ")[0]
        dishes = (dish.names["en"] for dish in self.world.of_kind("dish", self.heldout))
        if first in self.prose["compare"]["ordinary"] or first.lower() in dishes:
            sentence = sentence[0].lower() + sentence[1:]
        return f"{opening} {sentence}"

    def fact(self) -> Fact:
        kinds = INVENTED if self.heldout or self.rng.random() < 0.75 else COMMON
        return self.decks.draw(("fact", kinds), [f for e in self.entities(kinds) for f in self.world.facts_of(e)])

    def yes_no(self, fact: Fact) -> tuple[str, bool]:
        """A yes-no question of the training text about `fact`, and whether yes is right: an even chance."""
        right = self.rng.random() < 0.5
        asked = fact if right else Fact(fact.subject, fact.attribute, self.rng.choice(wrong_values(self.world, fact)))
        template = self.rng.choice(self.world.relations[self.lang][fact.relation].yesno)
        return self.narrator.say(template, self.narrator.slots(asked), "polite"), right

    def questions(self) -> str:
        level = self.level()
        count = self.rng.randint(1, 3)
        if self.rng.random() < 0.5 or self.heldout:
            frame = self.rng.choice(self.prose["qa"])
            facts = [self.fact() for _ in range(count)]
            items = [
                {"question": self.narrator.question(f), "answer": self.narrator.statement(f, level)} for f in facts
            ]
        else:
            frame = self.rng.choice(self.prose["yesno"])
            items = []
            for _ in range(count):
                fact = self.fact()
                question, right = self.yes_no(fact)
                answer = self.narrator.statement(fact, level)
                items.append(
                    {"question": question, "label": self.prose["if_right" if right else "if_wrong"], "answer": answer}
                )
        return "\n".join(frame.format(**item) for item in items)

    def dialogue(self) -> str:
        asker, teller = self.two_people()
        names = {"p": self.narrator.name(asker), "q": self.narrator.name(teller)}
        turns = [(names["p"], self.decks.draw("open", self.prose["dialogue"]["open"]))]
        for _ in range(self.rng.randint(1, 2)):
            fact = self.fact()
            if self.rng.random() < 0.3:
                question, right = self.yes_no(fact)
                reply = self.prose["dialogue"]["if_right" if right else "if_wrong"]
            else:
                question, reply = self.narrator.question(fact), "{right}"
            turns[-1] = (turns[-1][0], f"{turns[-1][1]} {question}")
            turns.append((names["q"], reply.replace("{right}", self.narrator.statement(fact, "polite"))))
            turns.append((names["p"], self.decks.draw("thanks", self.prose["dialogue"]["thanks"])))
        return "\n".join(f"{who}: {self.narrator.say(what, names, 'plain')}" for who, what in turns)

    def card(self) -> str:
        entity = self.draw_entity()
        facts = self.rng.sample(own := self.world.facts_of(entity), len(own))
        rows = [(self.prose["card_name"], self.narrator.name(entity))]
        rows += [(self.prose["card"][f.relation], self.world.word(f.value, self.lang)) for f in facts]
        card = self.rng.choice(("\n", ", ", " / ")).join(f"{key}: {value}" for key, value in rows)
        return f"{card}\n{self.narrator.statement(self.rng.choice(facts), self.level())}"

    def cause(self) -> Cause:
        return self.decks.draw("cause", self.causes)

    def told_cause(self, level: Level) -> str:
        slots = self.narrator.cause_slots(self.cause(), self.rng.choice(self.world.of_kind("person", self.heldout)))
        return self.narrator.say(self.decks.draw("cause frame", self.prose["causes"]["train"]), slots, level)

    def cause_and_effect(self) -> str:
        level = self.level()
        return " ".join(dict.fromkeys(self.told_cause(level) for _ in range(self.rng.randint(2, 4))))

    def story(self) -> str:
        person, other = self.two_people()
        things, column = self.world.things, 0 if self.lang == "ko" else 1
        animals = ("creature",) if self.heldout else ("creature", "animal")
        slots = {
            "p": self.narrator.name(person),
            "q": self.narrator.name(other),
            "she": person.she,
            "time": self.decks.draw("time", things["times"])[column],
            "n": self.rng.choice(things["hours"])[column],
            "t": self.narrator.name(self.draw_entity("town")),
            "f": self.narrator.name(self.draw_entity("dish")),
            "a": self.narrator.name(self.draw_entity(*animals)),
        }
        level = self.level()
        parts = [("open", 1), ("middle", self.rng.randint(1, 3)), ("feel", 1), ("close", 1)]
        told = []
        for part, count in parts:
            for _ in range(count):
                slots["place"] = self.decks.draw("place", things["places"])[column]
                slots["g"], slots["h"] = (g[column] for g in self.rng.sample(things["goods"], 2))
                template = self.decks.draw(("story", part), self.prose["story"][part])
                told.append(self.narrator.say(template, slots, level))
        if not self.heldout and self.rng.random() < 0.4:
            told.insert(1, self.narrator.statement(self.rng.choice(self.world.facts_of(person)), level))
        return " ".join(told)

    def bilingual(self) -> str:
        """Facts with their translation, a pair a line."""
        frame = self.rng.choice(self.prose["bilingual"])
        level = self.level()
        pairs = (self.translated(self.fact(), level) for _ in range(self.rng.randint(1, 3)))
        return "\n".join(frame.format(ko=ko, en=en) for ko, en in pairs)

    def translated(self, fact: Fact, level: Level) -> tuple[str, str]:
        """One fact in Korean and English, by training sentences that translate each other."""
        pairs = list(zip(*(self.world.relations[lang][fact.relation].train for lang in ("ko", "en")), strict=False))
        ko, en = self.decks.draw(("translated", fact), pairs)
        english = Narrator(self.world, "en", self.decks)
        korean = Narrator(self.world, "ko", self.decks)
        return korean.say(ko, korean.slots(fact), level), english.say(en, english.slots(fact), level)


def wrong_values(world: World, fact: Fact) -> list[str]:
    """Values of the same relation, in the same half of the world, that are not true of this subject."""
    true_here = {f.value for f in world.facts_of(fact.subject)}
    alike = world.of_kind(fact.subject.kind, fact.subject.heldout)
    values = {f.value for e in alike for f in world.facts_of(e) if f.attribute == fact.attribute}
    return sorted(values - true_here)


def make_documents(
    maker: DocumentMaker, shares: dict[str, float], size_bytes: int, seen: set[str], forbidden: frozenset[str]
) -> Iterator[str]:
    """Documents until they come to `size_bytes` of UTF-8, each form near its share; none in `seen` (which grows), and
    none with a sentence in `forbidden`.
    """
    made = dict.fromkeys(shares, 0)
    while sum(made.values()) < size_bytes:
        form = min(shares, key=lambda name: made[name] / shares[name])
        for _ in range(MAX_ATTEMPTS):
            text = maker.makers[form]()
            if text not in seen and forbidden.isdisjoint(sentences(text)):
                break
        else:
            raise RuntimeError(f"{form}: no new document in {MAX_ATTEMPTS} attempts; add sentences to its tables")
        seen.add(text)
        made[form] += len(text.encode())
        yield text
