"""Loss and accuracy on pairs that are held out, while a model trains."""

from collections.abc import Callable, Sequence

import torch

from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.engine import Engine
from bllossom.training.engines.preference_loss import PairRow, PreferenceObjective
from bllossom.training.runs.checkpoints import ACCURACY


def pair_scores(
    engine: Engine,
    stop_asked: Callable[[], bool],
    *,
    objective: PreferenceObjective,
    rows: Sequence[PairRow],
    ranks: Ranks,
    micro_batch: int,
) -> dict[str, float] | None:
    """Loss and accuracy over `rows`; None where some rank was asked to stop meanwhile.

    Every rank computes all of them: they are few.
    """
    engine.training(False)
    counts = objective.counts(rows)
    sums = torch.zeros(len(counts), dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, len(rows), micro_batch):
            if ranks.sum([float(stop_asked())])[0]:
                engine.training(True)
                return None
            part = engine.sums(objective.inputs(rows[start : start + micro_batch], ranks.device))
            sums += part.double().cpu()
    engine.training(True)
    figures = objective.figures(sums.tolist(), counts)
    return {"loss": float(objective.loss(sums, counts)), ACCURACY: figures[ACCURACY]}
