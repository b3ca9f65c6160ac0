"""Scores of held-out data while a model trains: the loss of answers, and bits per byte of text, which are comparable
between vocabularies, unlike perplexity."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from bllossom.training.engines.engine import Engine
from bllossom.training.engines.objective import CausalObjective
from bllossom.training.engines.rows import IGNORED, Row
from bllossom.training.ranks.ranks import Ranks


@dataclass(frozen=True)
class HeldOutRows:
    """The held-out rows of one language, and the UTF-8 bytes that their text has."""

    rows: Sequence[Row]
    bytes: int


def bits_per_byte(
    engine: Engine, heldout: Mapping[str, HeldOutRows], ranks: Ranks, micro_batch: int
) -> dict[str, float]:
    """Bits per byte by language. Each token of a document but its first is scored once; ranks share the rows."""
    nats = _nats(engine, {language: held.rows for language, held in heldout.items()}, ranks, micro_batch)
    return {language: nats[language] / math.log(2) / held.bytes for language, held in heldout.items()}


def mean_loss(engine: Engine, heldout: Mapping[str, Sequence[Row]], ranks: Ranks, micro_batch: int) -> dict[str, float]:
    """Nats a supervised token, by language."""
    nats = _nats(engine, heldout, ranks, micro_batch)
    return {language: nats[language] / sum(row.supervised() for row in rows) for language, rows in heldout.items()}


def _nats(engine: Engine, heldout: Mapping[str, Sequence[Row]], ranks: Ranks, micro_batch: int) -> dict[str, float]:
    """−ln p of all supervised tokens, by language; ranks share the rows."""
    engine.training(False)
    sums = {}
    with torch.no_grad():
        for language, held in heldout.items():
            nats, objective = 0.0, CausalObjective([held[0].group])
            stride = micro_batch * ranks.world
            for start in range(0, len(held), stride):
                first = start + ranks.rank * micro_batch
                rows = list(held[first : first + micro_batch])
                # A rank without rows left still runs: under ZeRO-3 the others wait for its part of the weights.
                nats += float(engine.sums(objective.inputs(rows or [_unscored(held[0])], ranks.device)).sum())
            sums[language] = ranks.sum([nats])[0]
    engine.training(True)
    return sums


def _unscored(row: Row) -> Row:
    labels = row.labels.copy()
    labels[:] = IGNORED
    return Row(row.ids, labels, row.positions, row.group)
