"""Rates against hand-computed cases, and what must hold of any verdicts."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bllossom.evaluation.judge.length import length_controlled
from bllossom.evaluation.judge.rates import first_position_rate, measure, sign_test
from bllossom.evaluation.judge.verdicts import Judged

WIN, LOSE, TIE, INCONSISTENT, ERROR = ("a", "a"), ("b", "b"), ("tie", "tie"), ("a", "b"), ("a", "error")
VERDICTS = st.sampled_from(["a", "b", "tie", "error"])
PAIRS = st.lists(st.tuples(VERDICTS, VERDICTS, st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=30)


def judged(*verdicts, a=100, b=100, **more):
    return [Judged(str(number), {"ab": ab, "ba": ba}, a, b, **more) for number, (ab, ba) in enumerate(verdicts)]


def made(pairs):
    return [Judged(str(number), {"ab": ab, "ba": ba}, a, b) for number, (ab, ba, a, b) in enumerate(pairs)]


def turned(pair: Judged) -> Judged:
    """The same with A and B exchanged."""
    names = {"a": "b", "b": "a"}
    orders = {"ab": "ba", "ba": "ab"}
    verdicts = {orders[order]: names.get(verdict, verdict) for order, verdict in pair.by_order.items()}
    return replace(pair, by_order=verdicts, characters_a=pair.characters_b, characters_b=pair.characters_a)


def rates(pairs, draws=200):
    return measure(pairs, draws=draws, seed=0)


def test_ten_pairs_by_hand():
    found = rates(judged(*[WIN] * 4, *[LOSE] * 2, TIE, *[INCONSISTENT] * 2, ERROR))
    assert [found[name] for name in ("win", "lose", "tie", "inconsistent", "error")] == [4, 2, 1, 2, 1]
    assert found["win_rate"]["value"] == pytest.approx((4 + 0.5 + 1) / 9)
    assert found["consistent_win_rate"]["value"] == pytest.approx(4.5 / 7)
    assert found["length_controlled_win_rate"]["value"] == pytest.approx((4 + 0.5 + 1) / 9)
    assert found["flip_rate"] == pytest.approx(2 / 9)
    # both orders of 4 wins name the first once: 4; of 2 losses: 2; inconsistent (first, first): 4; of the error: 1
    assert found["first_position_rate"] == pytest.approx((4 + 2 + 4 + 1) / (8 + 4 + 4 + 1))
    assert found["sign_test_p"] == pytest.approx(2 * (1 + 6 + 15) / 64)
    assert (found["error_share"], found["reliable"]) == (0.1, False)


def test_five_percent_errors_are_the_most():
    assert rates(judged(*[WIN] * 19, ERROR))["reliable"]
    assert not rates(judged(*[WIN] * 18, ERROR))["reliable"]


def test_errors_alone_give_no_rate():
    found = rates(judged(ERROR, ERROR))
    assert found["win_rate"] == {"value": None, "interval": None}
    assert found["flip_rate"] is None
    assert found["error"] == 2


def test_what_one_order_cannot_tell_is_not_measured():
    found = rates([Judged("0", {"ab": "a"}, 9, 9), Judged("1", {"ba": "b"}, 9, 9)])
    assert found["flip_rate"] is None
    assert found["win_rate"]["value"] == 0.5
    both = rates([*judged(WIN, INCONSISTENT), Judged("2", {"ab": "a"}, 9, 9)])
    assert both["flip_rate"] == 0.5, "of the prompts with two orders"


def test_languages_that_are_not_looked_at_are_not_counted():
    assert rates(judged(WIN, LOSE))["wrong_language"] == {"a": None, "b": None}
    looked_at = judged(WIN, LOSE, wrong_language_a=False, wrong_language_b=True)
    assert rates(looked_at)["wrong_language"] == {"a": 0, "b": 2}


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0), (8, 2, 2 * (1 + 10 + 45) / 1024), (0, 10, 2 / 1024)],
)
def test_the_sign_test_by_hand(wins, losses, p):
    assert sign_test(wins, losses) == pytest.approx(p)
    assert sign_test(losses, wins) == pytest.approx(p)


def test_the_sign_test_holds_where_powers_outgrow_floats():
    # 2,500 of 4,800: 2.89 standard deviations off, normal approximation with continuity correction
    z = (100 - 0.5) / math.sqrt(1200)
    assert sign_test(2500, 2300) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.02)


def test_the_interval_is_about_that_of_a_share():
    low, high = rates(judged(*[WIN] * 60, *[LOSE] * 40), draws=10_000)["win_rate"]["interval"]
    error = 1.96 * math.sqrt(0.6 * 0.4 / 100)
    assert (low, high) == pytest.approx((0.6 - error, 0.6 + error), abs=0.012)


def test_the_same_seed_gives_the_same_interval():
    pairs = judged(*[WIN] * 6, *[LOSE] * 4)
    assert rates(pairs) == rates(pairs)


def test_groups():
    longer = judged(WIN, WIN, LOSE, a=200, category="writing", language="ko")
    equal = judged(TIE, a=105, category="code", language="ko")
    shorter = judged(LOSE, ERROR, a=10, language="en")
    found = rates([*longer, *equal, *shorter])
    assert found["by_length"] == {
        "a shorter": {"prompts": 1, "win_rate": 0.0},
        "about equal": {"prompts": 1, "win_rate": 0.5},
        "a longer": {"prompts": 3, "win_rate": pytest.approx(2 / 3)},
    }
    assert found["by_category"] == {
        "code": {"prompts": 1, "win_rate": 0.5},
        "writing": {"prompts": 3, "win_rate": pytest.approx(2 / 3)},
    }
    assert found["by_language"]["en"] == {"prompts": 1, "win_rate": 0.0}


def test_a_judge_of_length_alone_has_no_winner_at_equal_length():
    random = np.random.default_rng(0)
    lengths = random.integers(20, 400, (300, 2)) + np.array([60, 0])  # A is longer, and so wins more
    pairs = [
        Judged(str(number), {"ab": verdict, "ba": verdict}, int(a), int(b))
        for number, (a, b) in enumerate(lengths)
        for verdict in ["a" if a > b else "b"]
    ]
    found = rates(pairs)
    assert found["win_rate"]["value"] > 0.55
    low, high = found["length_controlled_win_rate"]["interval"]
    assert low < 0.5 < high
    assert abs(found["length_controlled_win_rate"]["value"] - 0.5) < 0.06


def test_the_length_controlled_rate_is_the_fit_read_at_equal_length():
    random = np.random.default_rng(1)
    delta = random.normal(80, 100, 4000)
    chance = 1 / (1 + np.exp(-(0.4 + 1.5 * np.tanh(delta / delta.std()))))
    points = (random.random(4000) < chance).astype(float)
    (rate,) = length_controlled(points, delta, np.ones((1, 4000)))
    assert rate == pytest.approx(1 / (1 + math.exp(-0.4)), abs=0.03)
    # and it is the maximum: the gradient of the penalised likelihood in the intercept is zero there
    half = length_controlled(np.full(50, 0.5), np.arange(50.0), np.ones((1, 50)))
    assert half == pytest.approx(0.5)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_rates_are_shares_and_turning_the_models_turns_them(pairs):
    found, other = rates(made(pairs), draws=20), rates([turned(pair) for pair in made(pairs)], draws=20)
    assert found["prompts"] == sum(found[name] for name in ("win", "tie", "lose", "inconsistent", "error"))
    assert (found["win"], found["lose"]) == (other["lose"], other["win"])
    assert found["first_position_rate"] == other["first_position_rate"]
    assert found["sign_test_p"] == other["sign_test_p"]
    for name in ("win_rate", "consistent_win_rate", "length_controlled_win_rate"):
        value = found[name]["value"]
        if value is not None:
            assert 0 <= value <= 1
            assert value + other[name]["value"] == pytest.approx(1, abs=1e-6)
            low, high = found[name]["interval"]
            assert 0 <= low <= high <= 1


@given(st.lists(st.sampled_from(["tie", "error"]), max_size=5))
def test_without_a_named_answer_there_is_no_first_position_rate(verdicts):
    assert first_position_rate(judged(*[(verdict, verdict) for verdict in verdicts])) is None
