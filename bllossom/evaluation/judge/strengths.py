"""Many models on one scale: Bradley–Terry strengths, P(i beats j) = 1 / (1 + exp(s_j − s_i)), their mean 0.

A tie is half a win. Every pair that met has besides a tie of weight `PRIOR_TIES`, without which a model that won or
lost everything would stand at infinity. Intervals are drawn over prompts: all verdicts on a prompt come together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bllossom.errors import BllossomError
from bllossom.evaluation.judge.bootstrap import Floats, bootstrap, interval_95
from bllossom.evaluation.judge.verdicts import POINTS, Judged

PRIOR_TIES = 0.1
STEPS = 100


def bradley_terry(wins: Floats) -> Floats:
    """Strengths float64 [draws, models] from wins float64 [draws, models, models], [·, i, j]: how often i beat j.

    The likelihood's maximum by Newton's method, all draws at once.
    """
    models = wins.shape[-1]
    games = wins + wins.transpose(0, 2, 1)
    half = PRIOR_TIES / 2 * (games.max(0) > 0)
    games, won = games + 2 * half, (wins + half).sum(2)
    strengths = np.zeros(won.shape)
    for _ in range(STEPS):
        expected = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))
        gradient = won - (games * expected).sum(2)
        weight = games * expected * (1 - expected)
        # Only differences count: the added constant holds the mean at 0 where the curvature would be singular.
        curvature = np.eye(models) * weight.sum(2)[:, :, None] - weight + 1 / models
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        strengths = strengths + step / np.maximum(abs(step).max(1, keepdims=True), 1)  # at most 1 a step
        if abs(step).max() < 1e-9:
            break
    return strengths


def measure_strengths(
    pairs: Mapping[tuple[str, str], Sequence[Judged]], *, draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Each model's strength with its interval, strongest first.

    Raises:
        BllossomError: the models do not hang together: some never met, directly or through others.
    """
    models = sorted({model for pair in pairs for model in pair})
    prompts = sorted({judged.id for found in pairs.values() for judged in found if judged.outcome() != "error"})
    place = {name: index for index, name in enumerate(models)}
    row = {name: index for index, name in enumerate(prompts)}
    wins = np.zeros((len(prompts), len(models), len(models)))
    for (a, b), found in pairs.items():
        for judged in found:
            outcome = judged.outcome()
            if outcome != "error":
                wins[row[judged.id], place[a], place[b]] += POINTS[outcome]
                wins[row[judged.id], place[b], place[a]] += 1 - POINTS[outcome]
    _check_connected(models, wins.sum(0) + wins.sum(0).T)
    flat = wins.reshape(len(prompts), -1)

    def strengths(counts: Floats) -> Floats:
        return bradley_terry((counts @ flat).reshape(len(counts), len(models), len(models)))

    (values,) = strengths(np.ones((1, len(prompts))))
    drawn = bootstrap(len(prompts), strengths, draws=draws, seed=seed)
    order = sorted(place, key=lambda name: -values[place[name]])
    return {
        name: {"strength": float(values[place[name]]), "interval": interval_95(drawn[:, place[name]])} for name in order
    }


def _check_connected(models: Sequence[str], games: Floats) -> None:
    reached = {0}
    while True:
        grown = reached | {other for one in reached for other in np.flatnonzero(games[one]).tolist()}
        if grown == reached:
            break
        reached = grown
    if apart := [name for index, name in enumerate(models) if index not in reached]:
        raise BllossomError(
            f"{', '.join(apart)} never met {models[0]}, directly or through others: there is no one scale for them; "
            "judge a pair that joins them"
        )
