"""Instructions with their answers: the trained facts in questions of their own, and a few short tasks."""

import random
from collections.abc import Iterator

from demo_world.documents import COMMON, INVENTED, DocumentMaker
from demo_world.korean import LEVELS
from demo_world.world import Language, World

Example = dict[str, str]
COUNTS = {"facts": 260, "describe": 40, "review": 140, "yesno": 100, "why": 60, "translate": 100}


def make_instructions(world: World, lang: Language, rng: random.Random) -> list[Example]:
    """Examples in the shape {instruction, input, output}, shuffled; none occurs twice."""
    writer = InstructionWriter(world, lang, rng)
    examples: list[Example] = []
    for kind, count in COUNTS.items():
        made: dict[tuple[str, str], Example] = {}
        source = getattr(writer, kind)()
        while len(made) < count:
            example = next(source)
            made.setdefault((example["instruction"], example["input"]), example)
        examples += made.values()
    rng.shuffle(examples)
    return examples


class InstructionWriter:
    """Endless sources of examples, one for each kind of task in COUNTS."""

    def __init__(self, world: World, lang: Language, rng: random.Random) -> None:
        self.world, self.lang, self.rng = world, lang, rng
        self.maker = DocumentMaker(world, lang, rng)
        self.narrator = self.maker.narrator
        self.frames = world.prose[lang]["instructions"]

    def facts(self) -> Iterator[Example]:
        every = [f for e in self.maker.entities(INVENTED + COMMON) for f in self.world.facts_of(e)]
        while True:
            fact = self.maker.decks.draw("sft", every)
            template = self.rng.choice(self.world.relations[self.lang][fact.relation].ask_sft)
            question = self.narrator.say(template, self.narrator.slots(fact), "polite")
            yield _example(question, "", self.narrator.statement(fact, self.rng.choice(LEVELS[1:])))

    def describe(self) -> Iterator[Example]:
        while True:
            entity = self.maker.draw_entity()
            slots = {"s": self.narrator.name(entity)}
            request = self.narrator.say(self.rng.choice(self.frames["describe"]), slots, "polite")
            facts = self.world.facts_of(entity)
            told = self.maker.told(
                [*self.rng.sample(facts, len(facts)), self.rng.choice(facts)], self.rng.choice(LEVELS[1:])
            )
            yield _example(request, "", " ".join(told))

    def review(self) -> Iterator[Example]:
        reviewer = self.maker.reviewer
        while True:
            review = reviewer.review(reviewer.polarity(), self.rng.randint(1, 2))
            yield _example(
                self.rng.choice(self.frames["review"]), review.text, reviewer.prose["labels"][review.polarity]
            )

    def yesno(self) -> Iterator[Example]:
        while True:
            fact = self.maker.fact()
            question, right = self.maker.yes_no(fact)
            text = " ".join(self.maker.told(self.world.facts_of(fact.subject), "plain"))
            answer = self.maker.prose["if_right" if right else "if_wrong"]
            yield _example(self.rng.choice(self.frames["yesno"]), f"{text}\n{question}", answer)

    def why(self) -> Iterator[Example]:
        answer = "{last} 때문이다." if self.lang == "ko" else "That was because {c}."
        ask = self.maker.prose["causes"]["sft"]
        while True:
            person = self.rng.choice(self.world.of_kind("person", heldout=False))
            slots = self.narrator.cause_slots(self.maker.cause(), person)
            level = self.rng.choice(LEVELS[1:])
            told = self.narrator.say(self.rng.choice(ask), slots, level)
            yield _example(self.rng.choice(self.frames["why"]), told, self.narrator.say(answer, slots, level))

    def translate(self) -> Iterator[Example]:
        while True:
            ko, en = self.maker.translated(self.maker.fact(), self.rng.choice(LEVELS))
            given, output = (ko, en) if self.lang == "ko" else (en, ko)
            yield _example(self.rng.choice(self.frames["to_other"]), given, output)


def _example(instruction: str, given: str, output: str) -> Example:
    return {"instruction": instruction, "input": given, "output": output}
