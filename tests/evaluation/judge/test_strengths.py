"""Bradley–Terry strengths against closed forms and known strengths."""

import math

import numpy as np
import pytest

from bllossom.errors import BllossomError
from bllossom.evaluation.judge.strengths import PRIOR_TIES, bradley_terry, measure_strengths
from bllossom.evaluation.judge.verdicts import Judged


def judged(verdicts, start=0):
    return [Judged(str(number), {"ab": verdict, "ba": verdict}, 1, 1) for number, verdict in enumerate(verdicts, start)]


def test_two_models_by_hand():
    found = measure_strengths({("x", "y"): judged(["a"] * 6 + ["b"] * 2 + ["tie"] * 2)}, draws=200, seed=0)
    half = PRIOR_TIES / 2
    difference = math.log((7 + half) / (3 + half))
    assert list(found) == ["x", "y"]
    assert found["x"]["strength"] == pytest.approx(difference / 2)
    assert found["y"]["strength"] == pytest.approx(-difference / 2)
    low, high = found["x"]["interval"]
    assert low < difference / 2 < high


def test_a_model_that_lost_everything_has_a_finite_strength():
    found = measure_strengths({("x", "y"): judged(["a"] * 50)}, draws=50, seed=0)
    assert found["x"]["strength"] == pytest.approx(math.log((50 + PRIOR_TIES / 2) / (PRIOR_TIES / 2)) / 2)


def test_known_strengths_come_out_of_many_games():
    strengths = np.array([0.9, 0.1, -0.3, -0.7])
    expected = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    wins = 10_000 * expected * (1 - np.eye(4))
    assert bradley_terry(wins[None])[0] == pytest.approx(strengths, abs=1e-4)


def test_a_model_is_placed_through_others_and_errors_do_not_count():
    found = measure_strengths(
        {("x", "y"): judged(["a", "a", "b", "error"]), ("y", "z"): judged(["a", "a", "b"], start=10)}, draws=50, seed=0
    )
    assert list(found) == ["x", "y", "z"]
    assert found["x"]["strength"] - found["y"]["strength"] == pytest.approx(
        found["y"]["strength"] - found["z"]["strength"]
    )


def test_models_that_never_met_are_refused():
    with pytest.raises(BllossomError, match="x, y never met v"):
        measure_strengths({("x", "y"): judged(["a"]), ("w", "v"): judged(["b"])}, draws=10, seed=0)
    with pytest.raises(BllossomError, match="y never met x"):
        measure_strengths({("x", "y"): judged(["error"])}, draws=10, seed=0)
