"""How sure a difference of two models is, when both answered the same documents.

The bootstrap draws documents with replacement, the same for both models (Efron and Tibshirani, An Introduction to the
Bootstrap, chapter 8). Documents that both answered alike are one cell of a multinomial: the same draws, fewer numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bllossom.evaluation.metrics import binary_f1_of, macro_f1_of

DRAWS = 10_000
CHUNK_CELLS = 4_000_000  # counts held at once
DIGITS = 12  # behind the point, of a difference

F1 = {"macro_f1": macro_f1_of, "binary_f1": binary_f1_of}


@dataclass(frozen=True)
class Difference:
    """Second minus first: the difference, its 95 % interval, and for right or wrong answers McNemar's exact p."""

    value: float
    low: float
    high: float
    p: float | None = None

    @property
    def sure(self) -> bool:
        """True where the interval does not hold zero."""
        return self.low > 0 or self.high < 0


def of_means(first: NDArray[np.float64], second: NDArray[np.float64], seed: int) -> Difference:
    """Of two means: values float64 [seeds, documents] of each side."""
    change = second.mean(0) - first.mean(0)
    cells, counts = np.unique(change, return_counts=True)
    drawn = np.concatenate([counted @ cells / counted.sum(1) for counted in _draws(counts, seed)])
    alone = len(first) == len(second) == 1
    right_or_wrong = set(np.unique([*first.ravel(), *second.ravel()])) <= {0.0, 1.0}
    p = mcnemar(int((change > 0).sum()), int((change < 0).sum())) if alone and right_or_wrong else None
    return _difference(float(change.mean()), drawn, p)


def of_f1(
    golds: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64], kind: str, seed: int
) -> Difference:
    """Of two F1: golds int64 [documents], predictions int64 [seeds, documents] of each side."""
    labels = 1 + int(max(golds.max(), first.max(), second.max(), 1))
    cells, counts = np.unique(np.vstack([golds, first, second]), axis=1, return_counts=True)
    score = F1[kind]

    def change(counted: NDArray[np.int64]) -> NDArray[np.float64]:
        scores = []
        for answers in cells[1:]:
            places = np.zeros((len(answers), labels * labels), np.int64)
            places[np.arange(len(answers)), cells[0] * labels + answers] = 1
            scores.append(score((counted @ places).reshape(-1, labels, labels)))
        return np.mean(scores[len(first) :], axis=0) - np.mean(scores[: len(first)], axis=0)

    drawn = np.concatenate([change(counted) for counted in _draws(counts, seed)])
    return _difference(float(change(counts[None])[0]), drawn, None)


def of_ratios(
    sizes: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64], seed: int
) -> Difference:
    """Of two sums over one sum, as bits per byte: sizes [documents], values [seeds, documents] of each side."""
    change = second.mean(0) - first.mean(0)
    ones = np.ones(len(sizes), np.int64)
    drawn = np.concatenate([(counted @ change) / (counted @ sizes) for counted in _draws(ones, seed)])
    return _difference(float(change.sum() / sizes.sum()), drawn, None)


def mcnemar(better: int, worse: int) -> float:
    """McNemar's test in its exact, two-sided form: documents that only the second, or only the first, got right."""
    total = better + worse
    tail = sum(math.comb(total, count) for count in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / 2**total)


def kind_of_f1(answers: Sequence[Sequence[Sequence[int]]], values: Sequence[float]) -> str | None:
    """Which F1 of each of these lists of (gold, predicted) pairs has these values: `macro_f1`, `binary_f1`, or none."""
    matrices = []
    for pairs in answers:
        golds, predicted = np.asarray(pairs, np.int64).T
        labels = 1 + int(max(golds.max(), predicted.max(), 1))
        counts = np.bincount(golds * labels + predicted, minlength=labels * labels)
        matrices.append(counts.reshape(labels, labels))
    for kind, score in F1.items():
        if np.allclose([float(score(matrix)) for matrix in matrices], values, rtol=0, atol=1e-9):
            return kind
    return None


def _draws(counts: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """Counts of each cell, int64 [draws, cells], in parts."""
    random = np.random.default_rng(seed)
    total, at_once = int(counts.sum()), max(1, CHUNK_CELLS // len(counts))
    sizes = [min(at_once, DRAWS - start) for start in range(0, DRAWS, at_once)]
    return [random.multinomial(total, counts / total, size) for size in sizes]


def _difference(value: float, drawn: NDArray[np.float64], p: float | None) -> Difference:
    low, high = np.quantile(drawn, [0.025, 0.975])
    # Means over seeds that are equal differ in their last bits: no difference, and no sure one.
    value, low, high = (round(float(number), DIGITS) for number in (value, low, high))
    return Difference(value, low, high, p)
