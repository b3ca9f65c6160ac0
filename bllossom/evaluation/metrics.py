"""Scores over (gold, predicted) pairs, what the best constant answer would get, and how sure a score is.

F1 as scikit-learn has it, which the paper's harness used: per label 2TP / (2TP + FP + FN); macro F1 is the plain mean
over the labels that occur, as gold or as prediction; binary F1 is that of label 1.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_DRAWS = 1000

Pair = tuple[int, int]
Metric = Callable[[Sequence[Pair]], float]
Confusion = NDArray[np.int64]  # counts [gold, predicted]


def accuracy(items: Sequence[Pair]) -> float:
    """The share of right predictions."""
    return _accuracy(_confusion(items))


def macro_f1(items: Sequence[Pair]) -> float:
    """Unweighted mean of the labels' F1."""
    return _macro_f1(_confusion(items))


def binary_f1(items: Sequence[Pair]) -> float:
    """F1 of label 1; 0 where it neither occurs nor is predicted."""
    return _binary_f1(_confusion(items))


def floor(golds: Sequence[int], metric: Metric) -> float:
    """The score of the constant answer that suits these very rows best."""
    return max(metric([(gold, answer) for gold in golds]) for answer in sorted(set(golds)))


def bootstrap_stderr(items: Sequence[Pair], metric: Metric, seed: int) -> float | None:
    """Standard deviation of an F1 over rows drawn anew with replacement; None for a single row.

    Drawing rows is drawing the confusion matrix's cells from a multinomial, which is what is done.
    """
    if len(items) < 2:
        return None
    matrix = _confusion(items)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(items), matrix.ravel() / len(items), BOOTSTRAP_DRAWS)
    by_metric: dict[Metric, Callable[[Confusion], float]] = {macro_f1: _macro_f1, binary_f1: _binary_f1}
    scores = [by_metric[metric](counts.reshape(matrix.shape)) for counts in drawn]
    return math.sqrt(float(np.var(scores, ddof=1)))


def _confusion(items: Sequence[Pair]) -> Confusion:
    pairs = np.asarray(items, np.int64)
    size = max(int(pairs.max()) + 1, 2)
    return np.bincount(pairs[:, 0] * size + pairs[:, 1], minlength=size * size).reshape(size, size)


def _accuracy(matrix: Confusion) -> float:
    return float(np.trace(matrix) / matrix.sum())


def _macro_f1(matrix: Confusion) -> float:
    occurring = matrix.sum(0) + matrix.sum(1)
    scores = 2 * np.diag(matrix)[occurring > 0] / occurring[occurring > 0]
    return float(scores.mean())


def _binary_f1(matrix: Confusion) -> float:
    occurring = matrix[1].sum() + matrix[:, 1].sum()
    return float(2 * matrix[1, 1] / occurring) if occurring else 0.0
