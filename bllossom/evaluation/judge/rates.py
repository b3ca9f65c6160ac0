"""What the verdicts on two models come to: rates with intervals, and how far the judge can be trusted.

    win rate = (wins + ½ ties + ½ inconsistent) / (all but errors)

of A against B. `consistent` is the same without the inconsistent ones. An error is never a tie: it is counted, left out
of every rate, and where more than `MOST_ERRORS` of the prompts are errors the rate is not to be relied on.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from bllossom.evaluation.judge.bootstrap import Floats, bootstrap, interval_95
from bllossom.evaluation.judge.length import length_controlled
from bllossom.evaluation.judge.verdicts import POINTS, Judged, Outcome

MOST_ERRORS = 0.05
EQUAL_LENGTH = 0.1  # answers are about as long where they differ by no more than this share of their mean


def measure(judged: Sequence[Judged], *, draws: int, seed: int) -> dict[str, Any]:
    """All figures of A against B. Rates are shares of 1; an interval is [low, high] at 95 %, null without a value.

    What was not measured is None: flips where each prompt has one order, other languages where none was looked at.
    """
    outcomes = [pair.outcome() for pair in judged]
    kept = [pair for pair, outcome in zip(judged, outcomes, strict=True) if outcome != "error"]
    counts = Counter(outcomes)
    errors = counts["error"] / len(judged) if judged else 0.0
    figures: dict[str, Any] = {
        "prompts": len(judged),
        **{outcome: counts[outcome] for outcome in get_args(Outcome)},
        "error_share": errors,
        "reliable": errors <= MOST_ERRORS,
        **_rates(kept, draws, seed),
        "sign_test_p": sign_test(counts["win"], counts["lose"]),
        "first_position_rate": first_position_rate(judged),
        # A voter sees one order: where there is no second one, that it says the same is not known.
        "flip_rate": _share([pair.flipped() for pair in kept if len(pair.by_order) > 1]),
        "mean_characters": {
            "a": _mean([pair.characters_a for pair in judged]),
            "b": _mean([pair.characters_b for pair in judged]),
        },
        "wrong_language": {
            "a": _count([pair.wrong_language_a for pair in judged]),
            "b": _count([pair.wrong_language_b for pair in judged]),
        },
        "by_length": _groups(kept, [_length_group(pair) for pair in kept], ("a shorter", "about equal", "a longer")),
    }
    for key in ("category", "language"):
        names = [getattr(pair, key) for pair in kept]
        figures[f"by_{key}"] = _groups(kept, names, sorted({name for name in names if name is not None}))
    return figures


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p of at least so uneven a split between wins and losses, were both as likely; ties are left out."""
    decided = wins + losses
    tail = sum(math.comb(decided, count) for count in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**decided)


def first_position_rate(judged: Sequence[Judged]) -> float | None:
    """Of the verdicts that name an answer, the share that names the one shown first; ½ of a judge without a habit."""
    firsts = [
        (verdict == "a") == (order == "ab")
        for pair in judged
        for order, verdict in pair.by_order.items()
        if verdict in ("a", "b")
    ]
    return _share(firsts)


def _rates(kept: Sequence[Judged], draws: int, seed: int) -> dict[str, Any]:
    """Win rate, the consistent one and the length-controlled one, with intervals from the same draws."""
    names = ("win_rate", "consistent_win_rate", "length_controlled_win_rate")
    if not kept:
        return {name: {"value": None, "interval": None} for name in names}
    outcomes = [pair.outcome() for pair in kept]
    points = np.array([POINTS[outcome] for outcome in outcomes])
    agreed = np.array([outcome != "inconsistent" for outcome in outcomes], np.float64)
    delta = np.array([pair.characters_a - pair.characters_b for pair in kept], np.float64)

    def rates(counts: Floats) -> Floats:
        consistent = counts @ agreed
        with np.errstate(invalid="ignore"):
            shares = (counts @ points / counts.sum(1), counts @ (agreed * points) / consistent)
        return np.stack([*shares, length_controlled(points, delta, counts)], 1)

    (values,) = rates(np.ones((1, len(kept))))
    drawn = bootstrap(len(kept), rates, draws=draws, seed=seed)
    return {
        name: {"value": None if math.isnan(value) else float(value), "interval": interval_95(drawn[:, column])}
        for column, (name, value) in enumerate(zip(names, values, strict=True))
    }


def _groups(
    kept: Sequence[Judged], names: Sequence[str | None], order: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """Prompts, win rate by group, in this order; groups without a prompt are left out."""
    found = {}
    for group in order:
        points = [POINTS[pair.outcome()] for pair, name in zip(kept, names, strict=True) if name == group]
        if points:
            found[group] = {"prompts": len(points), "win_rate": _mean(points)}
    return found


def _length_group(pair: Judged) -> str:
    difference = pair.characters_a - pair.characters_b
    if abs(difference) <= EQUAL_LENGTH * (pair.characters_a + pair.characters_b) / 2:
        return "about equal"
    return "a longer" if difference > 0 else "a shorter"


def _count(found: Sequence[bool | None]) -> int | None:
    """How many hold; None where none was looked at."""
    known = [one for one in found if one is not None]
    return sum(known) if known else None


def _share(found: Sequence[bool]) -> float | None:
    return _mean([float(one) for one in found])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
