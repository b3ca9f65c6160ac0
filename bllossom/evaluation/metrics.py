"""Scores over (gold, predicted) pairs, what the best constant answer and chance would get, and how sure a score is.

F1 as scikit-learn has it, which the paper's harness used: per label 2TP / (2TP + FP + FN); macro F1 is the plain mean
over the labels that occur, as gold or as prediction; binary F1 is that of label 1.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_DRAWS = 1000
SLOW_DRAWS = 100  # of aggregations that are not ours, such as BLEU
CHANCE_DRAWS = 100
DEVIATIONS_OF_95_PERCENT = 1.96
# Metrics that are shares of 1 in lm-eval's tasks; MCC and Pearson's r are averaged with them, as in GLUE. No others are
# taken for shares: bleu_max is of 100, likelihood_diff in nats, `em` and `exact` of 1 in one task, of 100 in another.
SHARES = re.compile(
    r"(.+_)?(acc|accuracy)(_.+)?|exact_match(_.+)?|pass(@|_at_).+|(macro_|binary_|flexible_|mean_3class_|bertscore_)?f1"
    r"|f1_abstractive|qa_f1(_zh)?_score|rouge(1|2|L|Lsum)|precision|recall|r@\d+|mrr|mcc|pearsonr|contains|is_included"
    r"|numerical_match|math_verify|json_validity|schema_compliance|pct_(stereotype|invalid|(fe)?male_preferred)"
    r"|extraction_rate|(options_)?consistency_rate|(classification|code_sim|count|(retrieval|rouge)(_zh)?)_score"
)

Pair = tuple[int, int]
Aggregation = Callable[[Sequence[Any]], float]
Confusion = NDArray[np.int64]  # counts [gold, predicted]


def is_share(metric: str) -> bool:
    """True of a metric known to be of 1 at most, `acc` or `exact_match,strict-match`; others may have any scale."""
    return SHARES.fullmatch(metric.partition(",")[0]) is not None


def score_text(value: float | None, metric: str) -> str:
    """A score as tables tell it: a share in percent, a perplexity, or what has a name of its own, as it is."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if is_share(metric) else f"{value:.4g}"


def accuracy(items: Sequence[Pair]) -> float:
    """The share of right predictions."""
    matrix = _confusion(items)
    return float(np.trace(matrix) / matrix.sum())


def macro_f1(items: Sequence[Pair]) -> float:
    """Unweighted mean of the labels' F1."""
    return float(macro_f1_of(_confusion(items)))


def binary_f1(items: Sequence[Pair]) -> float:
    """F1 of label 1; 0 where it neither occurs nor is predicted."""
    return float(binary_f1_of(_confusion(items)))


def macro_f1_of(matrix: Confusion) -> NDArray[np.float64]:
    """Macro F1 of counts [gold, predicted], or of many such [..., gold, predicted]."""
    occurring = matrix.sum(-1) + matrix.sum(-2)
    scores = 2 * np.diagonal(matrix, axis1=-2, axis2=-1) / np.maximum(occurring, 1)
    found: NDArray[np.float64] = scores.sum(-1) / (occurring > 0).sum(-1)
    return found


def binary_f1_of(matrix: Confusion) -> NDArray[np.float64]:
    """Binary F1 of counts [gold, predicted], or of many such [..., gold, predicted]."""
    occurring = matrix[..., 1, :].sum(-1) + matrix[..., :, 1].sum(-1)
    found: NDArray[np.float64] = 2 * matrix[..., 1, 1] / np.maximum(occurring, 1)
    return found


def floor(golds: Sequence[int], aggregation: Aggregation) -> float:
    """The score, over (gold, predicted) pairs, of the constant answer that suits these very rows best."""
    return max(aggregation([(gold, answer) for gold in golds]) for answer in sorted(set(golds)))


def chance(golds: Sequence[int], choices: Sequence[int], aggregation: Aggregation, seed: int) -> float:
    """The score, over (gold, predicted) pairs, of answers drawn uniformly from each row's number of choices."""
    drawn = np.random.default_rng(seed).integers(0, choices, (CHANCE_DRAWS, len(golds)))
    return float(np.mean([aggregation(list(zip(golds, row.tolist(), strict=True))) for row in drawn]))


def mean_stderr(items: Sequence[float]) -> float | None:
    """Standard error of a mean over rows; None for a single row."""
    if len(items) < 2:
        return None
    return float(np.std(np.asarray(items, float), ddof=1) / math.sqrt(len(items)))


def bootstrap_stderr(items: Sequence[Any], aggregation: Aggregation, seed: int) -> float | None:
    """Standard deviation of an aggregation over rows drawn anew with replacement; None for a single row.

    For our F1 drawing rows is drawing the confusion matrix's cells from a multinomial, which is what is done.
    """
    if len(items) < 2:
        return None
    random = np.random.default_rng(seed)
    ours: dict[Any, Callable[[Confusion], NDArray[np.float64]]] = {macro_f1: macro_f1_of, binary_f1: binary_f1_of}
    of_counts = ours.get(aggregation)
    if of_counts is not None:
        matrix = _confusion(items)
        drawn = random.multinomial(len(items), matrix.ravel() / len(items), BOOTSTRAP_DRAWS)
        scores = of_counts(drawn.reshape(-1, *matrix.shape)).tolist()
    else:
        rows = random.integers(0, len(items), (SLOW_DRAWS, len(items)))
        scores = [aggregation([items[row] for row in draw]) for draw in rows]
    return math.sqrt(float(np.var(scores, ddof=1)))


def interval(value: float, stderr: float | None) -> tuple[float, float]:
    """The 95 % interval of a score, from its standard error; the score alone without one."""
    reach = DEVIATIONS_OF_95_PERCENT * (stderr or 0.0)
    return value - reach, value + reach


def _confusion(items: Sequence[Pair]) -> Confusion:
    pairs = np.asarray(items, np.int64)
    size = max(int(pairs.max()) + 1, 2)
    return np.bincount(pairs[:, 0] * size + pairs[:, 1], minlength=size * size).reshape(size, size)
