"""Pairs of answers for dpo: a fact told right, and told with a value that is not the subject's.

A fact is asked in one prompt alone, so that prompts held out are facts held out. It has two pairs: in one the wrong
value is another subject's of the same kind of fact (another town's dish), in the other it is of another kind (a river
for a dish). Every value is right as often as it is wrong, and both answers of a pair are one sentence but for the
value: neither liking for a word nor a sentence's shape finds the right one.
"""

import random
from collections.abc import Sequence

from demo_world.documents import COMMON, INVENTED
from demo_world.korean import LEVELS
from demo_world.narrator import Decks, Narrator
from demo_world.world import Fact, World


def make_preferences(world: World, rng: random.Random) -> list[dict[str, str]]:
    """Korean pairs in the shape {prompt, chosen, rejected}, shuffled."""
    narrator = Narrator(world, "ko", Decks(rng))
    relations = world.relations["ko"]
    by_relation: dict[str, list[Fact]] = {}
    for fact in world.facts:
        if fact.subject.kind in INVENTED + COMMON and not fact.subject.heldout:
            by_relation.setdefault(fact.relation, []).append(fact)
    foreign = _of_another_kind(by_relation, rng)
    rows = []
    for name, facts in by_relation.items():
        for fact, near in zip(facts, _of_the_same_kind(facts, rng), strict=True):
            prompt = narrator.say(rng.choice(relations[name].ask_sft), narrator.slots(fact), "polite")
            templates = rng.sample(relations[name].train, 2)
            for template, wrong in zip(templates, (near, foreign[fact]), strict=True):
                level = rng.choice(LEVELS[1:])
                told = [Fact(fact.subject, fact.attribute, value) for value in (fact.value, wrong)]
                chosen, rejected = (narrator.say(template, narrator.slots(each), level) for each in told)
                rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    rng.shuffle(rows)
    return rows


def _of_the_same_kind(facts: Sequence[Fact], rng: random.Random) -> list[str]:
    """The facts' values in an order in which none is any of its subject's own."""
    own = [{f.value for f in facts if f.subject == fact.subject} for fact in facts]
    values = [fact.value for fact in facts]
    while any(value in mine for value, mine in zip(values, own, strict=True)):
        rng.shuffle(values)
    return values


def _of_another_kind(by_relation: dict[str, list[Fact]], rng: random.Random) -> dict[Fact, str]:
    """All values, each given to a fact of whose kind it is no value."""
    kinds = {name: {fact.value for fact in facts} for name, facts in by_relation.items()}
    names = list(by_relation)
    while True:
        rng.shuffle(names)
        facts = [fact for name in names for fact in by_relation[name]]
        shift = rng.randrange(len(facts))
        given = dict(zip(facts, [fact.value for fact in facts[shift:] + facts[:shift]], strict=True))
        if all(value not in kinds[fact.relation] for fact, value in given.items()):
            return given
