"""Bits per byte on held-out text while a model trains: comparable between vocabularies, unlike perplexity."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from bllossom.training.engines.engine import Engine
from bllossom.training.engines.loss import loss_inputs
from bllossom.training.engines.rows import IGNORED, Row, collate
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
    engine.training(False)
    scores = {}
    with torch.no_grad():
        for language, held in heldout.items():
            nats = 0.0
            stride = micro_batch * ranks.world
            for start in range(0, len(held.rows), stride):
                first = start + ranks.rank * micro_batch
                rows = list(held.rows[first : first + micro_batch])
                # A rank without rows left still runs: under ZeRO-3 the others wait for its part of the weights.
                batch = collate(rows or [_unscored(held.rows[0])])
                nats += float(engine.nats(loss_inputs(batch, [held.rows[0].group], ranks.device)).sum())
            scores[language] = ranks.sum([nats])[0] / math.log(2) / held.bytes
    engine.training(True)
    return scores


def _unscored(row: Row) -> Row:
    labels = row.labels.copy()
    labels[:] = IGNORED
    return Row(row.ids, labels, row.positions, row.group)
