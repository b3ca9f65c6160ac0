"""The end of each example: its texts, its status, and the class of what was changed (the talk's Table 2)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bllossom.localize.records import Pair, passages
from bllossom.localize.reviewing.book import Book, Decision, State, Status
from bllossom.localize.rules.checker import Checker, Flag

Change = Literal["topic", "entity", "style", "none"]
CHANGES: tuple[Change, ...] = ("topic", "entity", "style", "none")


@dataclass(frozen=True)
class Outcome:
    """One example after the review."""

    pair: Pair
    machine: tuple[str, ...]
    texts: tuple[str, ...]
    status: Status
    change: Change
    flags_before: list[Flag]
    flags_after: list[Flag]


@dataclass(frozen=True)
class Agreement:
    """How far two reviewers agree on the examples that both have decided."""

    examples: int
    same_decision: float | None  # share; None without such examples
    kappa: float | None  # Cohen's, over accepted and dropped; None where one of them is never chosen
    same_text: float | None  # share, of those that both accepted


def outcomes(
    pairs: Sequence[Pair], book: Book, decisions: Sequence[Decision], checker: Checker, prompt: str
) -> list[Outcome]:
    """Every example's outcome, in the order of the set."""
    reviewers = _in_order(decisions)
    found = []
    for pair in pairs:
        machine = book.machine[pair.id]
        state = final_state(book, pair.id, reviewers)
        before = checker.flags(pair.id, passages(pair, prompt=prompt))
        changed = state.texts != machine
        after = checker.flags(pair.id, passages(pair, state.texts, prompt)) if changed else before
        found.append(
            Outcome(pair, machine, state.texts, state.status, _change(state, machine, before, after), before, after)
        )
    return found


def final_state(book: Book, identity: str, reviewers: Sequence[str]) -> State:
    """Of several copies the first that was accepted, in the order in which people came; then one that was dropped."""
    copies = book.copies(identity)
    states = [copies[reviewer] for reviewer in ("", *reviewers) if reviewer in copies]
    for status in ("accepted", "dropped"):
        for state in states:
            if state.status == status:
                return state
    return states[0] if states else State(book.machine[identity])


def agreement(book: Book, pairs: Sequence[Pair]) -> Agreement:
    """Over the examples that two people have decided."""
    both = []
    for pair in pairs:
        states = [state for state in book.copies(pair.id).values() if state.status != "open"]
        if len(states) >= 2:
            both.append(states[:2])
    if not both:
        return Agreement(0, None, None, None)
    same = sum(first.status == second.status for first, second in both) / len(both)
    sides = [Counter(pair[side].status for pair in both) for side in (0, 1)]
    chance = sum(sides[0][status] * sides[1][status] for status in ("accepted", "dropped")) / len(both) ** 2
    accepted = [states for states in both if all(state.status == "accepted" for state in states)]
    texts = sum(first.texts == second.texts for first, second in accepted) / len(accepted) if accepted else None
    return Agreement(len(both), same, (same - chance) / (1 - chance) if chance < 1 else None, texts)


def _in_order(decisions: Sequence[Decision]) -> list[str]:
    return list(dict.fromkeys(decision.reviewer for decision in decisions))


def _change(state: State, machine: tuple[str, ...], before: list[Flag], after: list[Flag]) -> Change:
    """What was done. A name that was replaced by typing shows by the flags that are gone."""
    if state.texts == machine:
        return "none"
    if "topic" in state.made:
        return "topic"
    foreign = [sum(flag.rule == "entity_foreign" for flag in flags) for flags in (before, after)]
    return "entity" if "entity" in state.made or foreign[1] < foreign[0] else "style"
