"""Verdicts: read from what a judge wrote, and brought together from both orders.

    order "ab": A's answer stands first        order "ba": B's answer stands first

A verdict is told of the models, not of the places: "a", "b", "tie", or "error" where none could be read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Order = Literal["ab", "ba"]
Place = Literal["first", "second", "tie"]
Verdict = Literal["a", "b", "tie", "error"]
Outcome = Literal["win", "tie", "lose", "inconsistent", "error"]
"""Of A against B, both orders taken together."""

ORDERS: tuple[Order, Order] = ("ab", "ba")
POINTS: Mapping[Outcome, float] = {"win": 1.0, "tie": 0.5, "inconsistent": 0.5, "lose": 0.0}
"""What an outcome adds to A's win rate; an error is left out."""


@dataclass(frozen=True)
class Judged:
    """One prompt with two answers and the verdicts on them."""

    id: str
    by_order: Mapping[Order, Verdict]
    """Both orders from a judge; from a voter the one that was shown."""
    characters_a: int
    characters_b: int
    category: str | None = None
    language: str | None = None
    wrong_language_a: bool | None = None
    wrong_language_b: bool | None = None
    """None where languages are not looked at."""
    wrong_language_loses: bool = False
    """Whether an answer in another language than its prompt loses to one that is not, whatever the verdicts say."""

    def outcome(self) -> Outcome:
        """A win, a tie or a loss where all orders say so; an error where one of them could not be read."""
        verdicts = set(self.by_order.values())
        if "error" in verdicts or not verdicts:
            return "error"
        if self.wrong_language_loses and self.wrong_language_a != self.wrong_language_b:
            return "lose" if self.wrong_language_a else "win"
        if len(verdicts) > 1:
            return "inconsistent"
        outcomes: Mapping[Verdict, Outcome] = {"a": "win", "b": "lose", "tie": "tie"}
        return outcomes[verdicts.pop()]

    def preferred(self) -> Literal["a", "b"] | None:
        """The answer that every order names, if there is one and the outcome does not say otherwise."""
        sides: Mapping[Outcome, Literal["a", "b"]] = {"win": "a", "lose": "b"}
        side = sides.get(self.outcome())
        return side if set(self.by_order.values()) == {side} else None

    def flipped(self) -> bool:
        """Whether one order named A and the other B."""
        return set(self.by_order.values()) == {"a", "b"}


def parse(text: str, tags: Mapping[Place, str]) -> Place | None:
    """The place that the last tag in `text` names; None where there is no tag.

    A judge that weighs "[[A]] or [[B]]" and then decides is taken at its last word. Case and spaces within a tag do not
    count, since judges write `[[a]]` and `[[ A ]]` too.
    """
    found: tuple[int, Place | None] = (-1, None)
    for place, tag in tags.items():
        pattern = r"\s*".join(re.escape(character) for character in "".join(tag.split()))
        for match in re.finditer(pattern, text, re.IGNORECASE):
            found = max(found, (match.end(), place), key=lambda seen: seen[0])
    return found[1]


def of_models(place: Place | None, order: Order) -> Verdict:
    """The verdict on the models that a place in this order stands for; no place is an error."""
    if place is None:
        return "error"
    if place == "tie":
        return "tie"
    return "a" if (place == "first") == (order == "ab") else "b"
