"""Pairs of answers for dpo: a fact told right, and told with another subject's value.

A fact is asked in one prompt alone, so that prompts held out are facts held out. Over a relation every value is right
as often as it is wrong, and both answers of a pair are one sentence but for the value: neither liking for a word nor a
sentence's shape finds the right one.
"""

import random
from collections.abc import Sequence

from demo_world.documents import COMMON, INVENTED
from demo_world.korean import LEVELS
from demo_world.narrator import Decks, Narrator
from demo_world.world import Fact, World

PAIRS_PER_FACT = 2  # in other sentences, with other wrong values


def make_preferences(world: World, rng: random.Random) -> list[dict[str, str]]:
    """Korean pairs in the shape {prompt, chosen, rejected}, shuffled."""
    narrator = Narrator(world, "ko", Decks(rng))
    by_relation: dict[str, list[Fact]] = {}
    for fact in world.facts:
        if fact.subject.kind in INVENTED + COMMON and not fact.subject.heldout:
            by_relation.setdefault(fact.relation, []).append(fact)
    rows = []
    for name, facts in by_relation.items():
        relation = world.relations["ko"][name]
        asked = [narrator.say(rng.choice(relation.ask_sft), narrator.slots(fact), "polite") for fact in facts]
        for templates in zip(*(rng.sample(relation.train, PAIRS_PER_FACT) for _ in facts), strict=True):
            for fact, prompt, wrong, template in zip(facts, asked, _others(facts, rng), templates, strict=True):
                level = rng.choice(LEVELS[1:])
                said = [
                    narrator.say(template, narrator.slots(Fact(fact.subject, fact.attribute, value)), level)
                    for value in (fact.value, wrong)
                ]
                rows.append({"prompt": prompt, "chosen": said[0], "rejected": said[1]})
    rng.shuffle(rows)
    return rows


def _others(facts: Sequence[Fact], rng: random.Random) -> list[str]:
    """The facts' values in an order in which none is any of its subject's own."""
    own = [{f.value for f in facts if f.subject == fact.subject} for fact in facts]
    values = [fact.value for fact in facts]
    while any(value in mine for value, mine in zip(values, own, strict=True)):
        rng.shuffle(values)
    return values
