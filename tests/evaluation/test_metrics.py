"""F1, floors and standard errors against scikit-learn and plain resampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from bllossom.evaluation.metrics import accuracy, binary_f1, bootstrap_stderr, floor, is_share, macro_f1, score_text

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40)
BINARY_PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


@given(pairs=PAIRS)
def test_macro_f1_and_accuracy_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    golds, predictions = zip(*pairs, strict=True)
    assert macro_f1(pairs) == pytest.approx(f1_score(golds, predictions, average="macro"))
    assert accuracy(pairs) == pytest.approx(accuracy_score(golds, predictions))


@given(pairs=BINARY_PAIRS)
def test_binary_f1_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    golds, predictions = zip(*pairs, strict=True)
    assert binary_f1(pairs) == pytest.approx(f1_score(golds, predictions, zero_division=0))


@given(golds=st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_no_constant_answer_beats_the_floor(golds: list[int]) -> None:
    for metric in (accuracy, macro_f1):
        scores = [metric([(gold, answer) for gold in golds]) for answer in range(4)]
        assert floor(golds, metric) == max(scores)


def test_floors_of_a_known_set() -> None:
    golds = [0, 0, 0, 1]
    assert floor(golds, accuracy) == 0.75
    assert floor(golds, macro_f1) == pytest.approx(0.5 * 6 / 7)
    assert floor(golds, binary_f1) == pytest.approx(2 / 5)  # always 1: of four answers one is right


def test_the_standard_error_is_that_of_resampled_rows() -> None:
    random = np.random.default_rng(0)
    pairs = [(int(gold), int(gold if random.random() < 0.7 else 1 - gold)) for gold in random.integers(0, 2, 80)]
    draws = [[pairs[i] for i in random.integers(0, 80, 80)] for _ in range(1000)]
    for metric in (macro_f1, binary_f1):
        assert bootstrap_stderr(pairs, metric, seed=1) == pytest.approx(np.std([metric(d) for d in draws]), rel=0.1)
    assert bootstrap_stderr(pairs, macro_f1, seed=1) == bootstrap_stderr(pairs, macro_f1, seed=1)
    assert bootstrap_stderr(pairs[:1], macro_f1, seed=1) is None


def test_what_is_not_known_to_be_a_share_is_told_as_it_is() -> None:
    shares = "acc acc_norm,none bleu_acc f1 exact_match,strict-match prompt_level_loose_acc pass@1 pass_at_k rougeL mcc"
    assert [metric for metric in shares.split() if not is_share(metric)] == []
    # of 100, of nats, of 1 here and of 100 there, of a word error rate above 1, of 10 in somebody's own task
    others = "bleu bleu_max bleu_diff rouge1_max eqbench likelihood_diff em,none exact wer perplexity score my_rating"
    assert [metric for metric in others.split() if is_share(metric)] == []
    assert [score_text(27.563, "bleu_max"), score_text(0.4, "acc"), score_text(None, "acc")] == ["27.56", "40.0", "–"]
