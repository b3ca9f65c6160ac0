"""Reviews with a sentiment, and documents that judge them."""

from dataclasses import dataclass
from typing import Literal

from demo_world.korean import fill_slots
from demo_world.narrator import Decks, polish_english
from demo_world.world import Aspect, Entity, Language, World

Polarity = Literal["good", "bad"]
OTHER: dict[Polarity, Polarity] = {"good": "bad", "bad": "good"}
REVIEWED = {"dish": "dish", "town": "inn", "book": "book", "instrument": "instrument", "festival": "festival"}
NEGATED_SHARE = 0.12


@dataclass(frozen=True)
class Review:
    text: str
    polarity: Polarity


class Reviewer:
    def __init__(self, world: World, lang: Language, decks: Decks, heldout: bool) -> None:
        self.world, self.lang, self.decks, self.heldout = world, lang, decks, heldout
        self.rng = decks.rng
        self.prose = world.prose[lang]["review"]

    def subject(self) -> tuple[str, list[Aspect]]:
        """The name of what is reviewed, and what can be said of it."""
        entities = [e for kind in REVIEWED for e in self.world.of_kind(kind, self.heldout)]
        entity: Entity = self.decks.draw(("reviewed", self.lang), entities)
        name = entity.names[self.lang]
        if entity.kind == "town":
            name = self.prose["inn"].format(t=name)
        return name, self.world.reviews[REVIEWED[entity.kind]]

    def slots(self, polarity: Polarity, name: str, first: Aspect, second: Aspect) -> dict[str, str]:
        """Slots of the review frames: two aspects, each with a word of the wanted polarity in all its forms."""
        word, english = self.rng.choice(first.words[polarity])
        word2, english2 = self.rng.choice(second.words[polarity])
        a, b = first.names[self.lang], second.names[self.lang]
        return {
            "x": name,
            "a": a,
            "b": b,
            "verdict": self.decks.draw(("verdict", self.lang, polarity), self.prose[polarity]),
            **({"good": english, "good2": english2} if self.lang == "en" else {}),
            **({"is": _be(a), "was": _be(a, past=True), "is2": _be(b)} if self.lang == "en" else {}),
            "polite": word.polite(),
            "polite2": word2.polite(),
            "formal": word.formal(),
            "formal2": word2.formal(),
            "exclaim": word.exclaimed(),
            "past": word.past(),
            "past2": word2.past(),
            "stem": word.stem,
            "inf": word.infinitive,
        }

    def write(self, frame: str, slots: dict[str, str]) -> str:
        text = fill_slots(frame, slots)
        return polish_english(text) if self.lang == "en" else text

    def review(self, polarity: Polarity, count: int = 1) -> Review:
        """`count` sentences of one polarity, in training frames."""
        name, aspects = self.subject()
        parts = []
        for _ in range(count):
            negated = self.rng.random() < NEGATED_SHARE
            frames = self.prose["negated" if negated else "train"]
            if self.heldout:  # only sentences with a held-out name are surely new
                frames = tuple(frame for frame in frames if "{x" in frame)
            frame = self.decks.draw(("review", self.lang, frames), frames)
            two = self.rng.sample(aspects, 2)
            parts.append(self.write(frame, self.slots(OTHER[polarity] if negated else polarity, name, *two)))
        return Review(" ".join(dict.fromkeys(parts)), polarity)

    def polarity(self) -> Polarity:
        return self.decks.draw(("polarity", self.lang), ("good", "bad"))

    def document(self) -> str:
        if self.heldout:
            return self.review(self.polarity(), self.rng.randint(2, 3)).text
        if self.rng.random() < 0.65:
            return self.judged(self.review(self.polarity(), self.rng.randint(1, 2)), "judged")
        frame = self.rng.choice(self.prose["judged_many"])
        reviews = [self.review(self.polarity()) for _ in range(self.rng.randint(2, 4))]
        return "\n".join(self.write(frame, self._judgement(review)) for review in reviews)

    def judged(self, review: Review, frames: str) -> str:
        return self.write(self.decks.draw(("judged", self.lang), self.prose[frames]), self._judgement(review))

    def _judgement(self, review: Review) -> dict[str, str]:
        return {"r": review.text, "label": self.prose["labels"][review.polarity]}


def _be(noun: str, past: bool = False) -> str:
    plural = noun.endswith("s")
    return ("were" if plural else "was") if past else ("are" if plural else "is")
