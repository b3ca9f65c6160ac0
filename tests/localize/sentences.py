"""The labelled sentences, and precision and recall of each rule on one half of them."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bllossom.localize.language import load_language, load_source_language
from bllossom.localize.rules.checker import RULES, Checker
from bllossom.localize.rules.reading import Passage

FOLDER = Path(__file__).parent / "sentences_ko"


@dataclass
class Score:
    """How one rule did: hits and misses on its own positives, false alarms on everything that is free of it."""

    hits: int = 0
    misses: list[dict[str, Any]] = field(default_factory=list)
    false_alarms: list[dict[str, Any]] = field(default_factory=list)

    @property
    def precision(self) -> float:
        return self.hits / max(self.hits + len(self.false_alarms), 1)

    @property
    def recall(self) -> float:
        return self.hits / max(self.hits + len(self.misses), 1)


def dialogue(item: dict[str, Any]) -> list[Passage]:
    """The item as a question and its answer; without a question, as an answer alone."""
    question, question_source = item.get("question", ""), item.get("question_source", "")
    answer = Passage(
        "assistant", item.get("source", ""), item["target"], question_source, question, item.get("question_before")
    )
    return [Passage("user", question_source, question), answer]


def scores(half: str) -> dict[str, Score]:
    """The rules' scores on `dev` or `held_out`.

    Positives count for the rules they are labelled with; near misses and clean sentences are free of every rule but
    those in `also`, so that they count for all.
    """
    groups = yaml.safe_load((FOLDER / f"{half}.yaml").read_text(encoding="utf8"))
    checker = Checker(load_language("ko"), load_source_language("en"))
    items = [item for group in groups.values() for kind in group.values() for item in kind]
    checker.measure([dialogue(item)[1:] for item in items])
    found = {rule: Score() for rule in RULES}
    for rule, group in groups.items():
        for kind, members in group.items():
            for item in members:
                expected = {rule, *item.get("also", [])} if kind == "positive" else set(item.get("also", []))
                flags = checker.flags("x", dialogue(item))
                told = Counter(flag.rule for flag in flags)
                for name in expected:
                    if told[name] and _at_place(item, name == rule, flags, name):
                        found[name].hits += 1
                    else:
                        found[name].misses.append(item)
                if kind == "near_miss":
                    for name in told.keys() - expected:
                        found[name].false_alarms.append(item)
    return found


def _at_place(item: dict[str, Any], own: bool, flags: list[Any], rule: str) -> bool:
    if not own or "place" not in item:
        return True
    return any(
        flag.rule == rule and flag.start is not None and item["place"] == item["target"][flag.start : flag.end]
        for flag in flags
    )


if __name__ == "__main__":
    import sys

    for name, score in scores(sys.argv[1]).items():
        total = score.hits + len(score.misses)
        sys.stdout.write(
            f"{name:26} precision {score.precision:.2f} recall {score.recall:.2f} ({score.hits}/{total}, "
            f"{len(score.false_alarms)} false)\n"
        )
        if "-v" in sys.argv:
            for item in score.misses:
                sys.stdout.write(f"    missed: {item}\n")
            for item in score.false_alarms:
                sys.stdout.write(f"    false:  {item}\n")
