"""Paired differences against drawing documents one by one, and McNemar's test against its binomial."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from bllossom.evaluation.compare.paired import kind_of_f1, mcnemar, of_f1, of_means, of_ratios

RANDOM = np.random.default_rng(0)
DOCUMENTS = 150
GOLDS = RANDOM.integers(0, 3, DOCUMENTS)


def answers(right: float) -> np.ndarray:
    return np.where(RANDOM.random(DOCUMENTS) < right, GOLDS, RANDOM.integers(0, 3, DOCUMENTS))


FIRST, SECOND = answers(0.5), answers(0.8)
DRAWS = RANDOM.integers(0, DOCUMENTS, (2000, DOCUMENTS))


@given(better=st.integers(0, 60), worse=st.integers(0, 60))
def test_mcnemar_is_a_binomial_test_of_the_discordant(better: int, worse: int) -> None:
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert mcnemar(better, worse) == pytest.approx(expected)


def test_accuracies() -> None:
    one, two = (FIRST == GOLDS).astype(float), (SECOND == GOLDS).astype(float)
    found = of_means(one[None], two[None], seed=1)
    drawn = (two - one)[DRAWS].mean(1)
    assert found.value == pytest.approx(two.mean() - one.mean())
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)
    assert found.p == mcnemar(int((two > one).sum()), int((two < one).sum()))
    assert found.sure
    assert of_means(one[None], two[None], seed=1) == found


def test_f1_of_both_kinds() -> None:
    for kind, average, golds, one, two in (
        ("macro_f1", "macro", GOLDS, FIRST, SECOND),
        ("binary_f1", "binary", GOLDS == 1, FIRST == 1, SECOND == 1),
    ):
        golds, one, two = (np.asarray(values, int) for values in (golds, one, two))
        found = of_f1(golds, one[None], two[None], kind, seed=1)
        change = [
            f1_score(golds[d], two[d], average=average) - f1_score(golds[d], one[d], average=average)
            for d in DRAWS[:400]
        ]
        expected = f1_score(golds, two, average=average) - f1_score(golds, one, average=average)
        assert found.value == pytest.approx(expected)
        assert (found.low, found.high) == pytest.approx(np.quantile(change, [0.025, 0.975]), abs=0.04)
        pairs = np.stack([golds, one], 1).tolist()
        assert kind_of_f1([pairs], [float(f1_score(golds, one, average=average))]) == kind
        assert kind_of_f1([pairs], [0.123]) is None


def test_seeds_are_averaged_before_documents_are_drawn() -> None:
    one = np.stack([(FIRST == GOLDS), (answers(0.5) == GOLDS)]).astype(float)
    two = np.stack([(SECOND == GOLDS)] * 2).astype(float)
    found = of_means(one, two, seed=0)
    assert found.value == pytest.approx(two.mean() - one.mean())
    assert found.p is None  # McNemar's is of two models


def test_bits_per_byte_are_a_ratio() -> None:
    sizes = RANDOM.integers(10, 1000, DOCUMENTS).astype(float)
    one = sizes * RANDOM.normal(2, 0.1, DOCUMENTS)
    found = of_ratios(sizes, one[None], 0.9 * one[None], seed=0)
    assert found.value == pytest.approx(-0.1 * one.sum() / sizes.sum())
    drawn = -0.1 * one[DRAWS].sum(1) / sizes[DRAWS].sum(1)
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.002)


def test_equal_means_over_seeds_have_no_sure_difference() -> None:
    """0.1 three times is 0.1 and a bit."""
    found = of_means(np.full((3, 9), 0.1), np.full((1, 9), 0.1), seed=0)
    assert (found.low, found.high, found.sure) == (0.0, 0.0, False)
