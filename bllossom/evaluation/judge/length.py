"""The win rate at equal length: judges like long answers, and this is what is left without that.

    P(A wins) = logistic(intercept + slope · tanh(Δ / sd)),   Δ = characters of A − characters of B

read at Δ = 0, where it is logistic(intercept); the shape is length-controlled AlpacaEval's (arXiv 2404.04475). A tie
counts as half a win. The slope has a weak normal prior, since a judge that always takes the longer answer would send
it to infinity; the intercept has none.
"""

import numpy as np

from bllossom.evaluation.judge.bootstrap import Floats

PRIOR_SD = 5.0  # of the slope: logistic(5) is 0.993, a judge that follows length and nothing else
STEPS = 40
LARGEST_LOGIT = 30.0


def length_controlled(points: Floats, delta: Floats, counts: Floats) -> Floats:
    """The rate at equal length in each draw: float64 [draws].

    Args:
        points: [prompts], 1 for a win of A, ½ for a tie, 0 for a loss.
        delta: [prompts], characters of A less those of B.
        counts: [draws, prompts], how often each prompt is drawn.
    """
    spread = float(delta.std())
    feature = np.tanh(delta / spread) if spread > 0 else np.zeros_like(delta)
    intercept, slope = np.zeros(len(counts)), np.zeros(len(counts))
    total = counts.sum(1)
    rate = counts @ points / total
    for _ in range(STEPS):
        fitted = _logistic(intercept[:, None] + slope[:, None] * feature)
        residual = counts * (points - fitted)
        weight = counts * fitted * (1 - fitted) + 1e-12
        gradient = residual.sum(1), residual @ feature - slope / PRIOR_SD**2
        curvature = weight.sum(1), weight @ feature, weight @ feature**2 + 1 / PRIOR_SD**2
        determinant = curvature[0] * curvature[2] - curvature[1] ** 2
        step_intercept = (curvature[2] * gradient[0] - curvature[1] * gradient[1]) / determinant
        step_slope = (curvature[0] * gradient[1] - curvature[1] * gradient[0]) / determinant
        # At most 2 a step: Newton's own step overshoots where the fit is flat.
        largest = np.maximum(np.maximum(abs(step_intercept), abs(step_slope)) / 2, 1)
        intercept = np.clip(intercept + step_intercept / largest, -LARGEST_LOGIT, LARGEST_LOGIT)
        slope = slope + step_slope / largest
        if max(abs(step_intercept).max(), abs(step_slope).max()) < 1e-9:
            break
    # Where all points are the same there is no maximum but at infinity: the rate itself is the limit.
    return np.where((rate == 0) | (rate == 1), rate, _logistic(intercept))


def _logistic(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(values, -LARGEST_LOGIT, LARGEST_LOGIT)))
