"""Tasks in KoBEST's shape. They ask trained facts in wordings that no training text has.

Rows come in sets whose members share their alternatives and differ in the right one, so that neither length nor
liking for a word finds the answer: a model has to know the fact.
"""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from demo_world.documents import COMMON, INVENTED
from demo_world.korean import fill_slots
from demo_world.narrator import ACTS, Decks, Narrator
from demo_world.reviews import OTHER, Polarity, Reviewer
from demo_world.world import Cause, Entity, Fact, World

Row = dict[str, Any]
ENDINGS = 4
HELLASWAG_TEST_SETS = 40
BOOLQ_PAIRS = {"test": 75, "train": 15}
SENTINEG_PAIRS = {"test": 75, "train": 20}
NEGATED_EVERY = 8  # one pair in so many is a negated sentence


def make_benchmarks(world: World, rng: random.Random) -> dict[str, list[Row]]:
    """File name (without .jsonl) → rows; `_train` is the pool few-shot examples come from, apart from the test rows."""
    maker = BenchmarkMaker(world, rng)
    files = {}
    for task in ("boolq", "copa", "hellaswag", "sentineg"):
        for split, rows in getattr(maker, task)().items():
            rng.shuffle(rows)
            files[f"{task}_{split}"] = rows
    return files


class BenchmarkMaker:
    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.decks = Decks(rng)
        self.narrator = Narrator(world, "ko", self.decks)
        self.relations = world.relations["ko"]
        self.people = world.of_kind("person", heldout=False)

    def facts(self, kinds: Sequence[str]) -> dict[str, list[Fact]]:
        """Trained facts by relation."""
        out: dict[str, list[Fact]] = {}
        for fact in self.world.facts:
            if fact.subject.kind in kinds and not fact.subject.heldout:
                out.setdefault(fact.relation, []).append(fact)
        return out

    def hellaswag(self) -> dict[str, list[Row]]:
        """Four facts of one relation, with values of like length, share their four endings; each is right once."""
        sets = [group for facts in self.facts(INVENTED).values() for group in self._foursomes(facts)]
        self.rng.shuffle(sets)
        rows = [[row for group in part for row in self._endings(group)] for part in (sets[:HELLASWAG_TEST_SETS], sets)]
        return {"test": rows[0], "train": rows[1][len(rows[0]) :]}

    def _foursomes(self, facts: list[Fact]) -> list[list[Fact]]:
        """Sets of four facts with four different values, neighbours in length."""
        left = sorted(self.rng.sample(facts, len(facts)), key=lambda f: len(f.value))
        groups: list[list[Fact]] = []
        while True:
            group: dict[str, Fact] = {}
            for fact in left:
                if len(group) < ENDINGS:
                    group.setdefault(fact.value, fact)
            if len(group) < ENDINGS:
                return groups
            groups.append(list(group.values()))
            left = [fact for fact in left if fact not in groups[-1]]

    def _endings(self, group: list[Fact]) -> list[Row]:
        context, ending = self.rng.choice(self.relations[group[0].relation].story_test).split(" | ")
        endings = [self.narrator.say(ending, self.narrator.slots(fact), "plain") for fact in group]
        labels = self.rng.sample(range(ENDINGS), ENDINGS)  # each position is right once in a set
        rows = []
        for label, fact, right in zip(labels, group, endings, strict=True):
            order = self.rng.sample([e for e in endings if e != right], ENDINGS - 1)
            order.insert(label, right)
            told = self.narrator.say(context, self.narrator.slots(fact), "plain")
            rows.append({"context": told, **{f"ending_{i + 1}": e for i, e in enumerate(order)}, "label": label})
        return rows

    def copa(self) -> dict[str, list[Row]]:
        """Neighbours in the table share their alternatives, which name nobody: a name would point to the premise."""
        rows: dict[str, list[Row]] = {}
        for split, heldout in (("test", False), ("train", True)):
            causes = [c for c in self.world.causes if c.heldout == heldout]
            people = self.world.of_kind("person", heldout)
            pairs = list(zip(causes[::2], causes[1::2], strict=True))
            rows[split] = [row for pair in pairs for row in self._alternatives(pair, people)]
        return rows

    def _alternatives(self, pair: tuple[Cause, Cause], people: list[Entity]) -> list[Row]:
        rows = []
        for wording in range(len(pair[0].cause_test)):
            for question in ("원인", "결과"):
                flip = self.rng.randrange(2)
                for right, fact in enumerate(pair):
                    who = {"p": self.decks.draw("who", people).ko}
                    given, asked = (
                        ("effect_test", "cause_test") if question == "원인" else ("cause_test", "effect_test")
                    )
                    premise = fill_slots(getattr(fact, given)[wording], who) + "."
                    order = pair[::-1] if flip else pair
                    first, second = (_sentence(getattr(f, asked)[wording]) for f in order)
                    rows.append(
                        {
                            "premise": premise,
                            "question": question,
                            "alternative_1": first,
                            "alternative_2": second,
                            "label": right ^ flip,
                        }
                    )
        return rows

    def sentineg(self) -> dict[str, list[Row]]:
        """Pairs of one frame, subject and aspect, one of each polarity."""
        reviewer = Reviewer(self.world, "ko", self.decks, heldout=False)
        seen: set[str] = set()
        rows: dict[str, list[Row]] = {split: [] for split in SENTINEG_PAIRS}
        for split, count in SENTINEG_PAIRS.items():
            while len(rows[split]) < 2 * count:
                negated = len(rows[split]) % (2 * NEGATED_EVERY) == 0
                pair = self._sentiment_pair(reviewer, negated)
                if seen.isdisjoint(row["sentence"] for row in pair):
                    seen.update(row["sentence"] for row in pair)
                    rows[split] += pair
        return rows

    def _sentiment_pair(self, reviewer: Reviewer, negated: bool) -> list[Row]:
        name, aspects = reviewer.subject()
        frame = self.decks.draw(("sentineg", negated), reviewer.prose["negated_test" if negated else "test"])
        two = self.rng.sample(aspects, 2)
        polarities: tuple[tuple[int, Polarity], ...] = ((0, "bad"), (1, "good"))
        return [
            {"sentence": reviewer.write(frame, reviewer.slots(OTHER[p] if negated else p, name, *two)), "label": label}
            for label, p in polarities
        ]

    def boolq(self) -> dict[str, list[Row]]:
        """Pairs of facts of one relation that are asked about the same value: true of one, not of the other."""
        by_relation = {
            name: facts for name, facts in self.facts(INVENTED + COMMON).items() if self.relations[name].yesno_test
        }
        pairs = []
        for facts in by_relation.values():
            mixed = self.rng.sample(facts, len(facts))
            pairs += [(one, two) for one, two in pairwise(mixed) if one.value != two.value]
        self.rng.shuffle(pairs)
        rows = [row for pair in pairs[: sum(BOOLQ_PAIRS.values())] for row in self._asked(*pair)]
        cut = 2 * BOOLQ_PAIRS["test"]
        return {"test": rows[:cut], "train": rows[cut:]}

    def _asked(self, true_of: Fact, false_of: Fact) -> list[Row]:
        template = self.rng.choice(self.relations[true_of.relation].yesno_test)
        rows = []
        for fact, label in ((true_of, 1), (false_of, 0)):
            asked = Fact(fact.subject, fact.attribute, true_of.value)
            question = self.narrator.say(template, self.narrator.slots(asked), "polite")
            rows.append({"paragraph": self._paragraph(fact), "question": question, "label": label})
        return rows

    def _paragraph(self, fact: Fact) -> str:
        """The subject's facts, or for a subject with one fact, its fact and another's, all in test wordings."""
        facts = self.world.facts_of(fact.subject)
        if len(facts) == 1:
            others = [f for f in self.facts([fact.subject.kind])[fact.relation] if f.value != fact.value]
            facts = [fact, self.rng.choice(others)]
        told = [
            self.narrator.say(self.rng.choice(self.relations[f.relation].test), self.narrator.slots(f), "plain")
            for f in self.rng.sample(facts, len(facts))
        ]
        return " ".join(told)


def _sentence(clause: str) -> str:
    """A clause as a sentence that leaves its acting person out, as Korean may."""
    return clause.removeprefix(ACTS) + "."
