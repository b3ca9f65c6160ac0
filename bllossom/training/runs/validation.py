"""Bits per byte on held-out text while a model trains: comparable between vocabularies, unlike perplexity."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bllossom.console import progress
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
    engine: Engine,
    heldout: Mapping[str, HeldOutRows],
    ranks: Ranks,
    micro_batch: int,
    stop_asked: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Bits per byte by language. Each token of a document but its first is scored once; ranks share the rows.

    None where some rank was asked to stop meanwhile.
    """
    engine.training(False)
    try:
        return _score(engine, heldout, ranks, micro_batch, stop_asked)
    finally:
        engine.training(True)


def _score(
    engine: Engine,
    heldout: Mapping[str, HeldOutRows],
    ranks: Ranks,
    micro_batch: int,
    stop_asked: Callable[[], bool],
) -> dict[str, float] | None:
    scores = {}
    total = sum(len(held.rows) for held in heldout.values())
    with torch.no_grad(), _shown(total, ranks) as advance:
        for language, held in heldout.items():
            nats = 0.0
            stride = micro_batch * ranks.world
            for start in range(0, len(held.rows), stride):
                first = start + ranks.rank * micro_batch
                rows = list(held.rows[first : first + micro_batch])
                # A rank without rows left still runs: under ZeRO-3 the others wait for its part of the weights.
                batch = collate(rows or [_unscored(held.rows[0])])
                nats += float(engine.nats(loss_inputs(batch, [held.rows[0].group], ranks.device)).sum())
                if ranks.sum([float(stop_asked())])[0]:
                    return None
                advance(min(stride, len(held.rows) - start))
            scores[language] = ranks.sum([nats])[0] / math.log(2) / held.bytes
    return scores


@contextmanager
def _shown(rows: int, ranks: Ranks) -> Iterator[Callable[[int], None]]:
    if not ranks.first:
        yield lambda _: None
        return
    with progress("scoring held-out text", rows) as advance:
        yield advance


def _unscored(row: Row) -> Row:
    labels = row.labels.copy()
    labels[:] = IGNORED
    return Row(row.ids, labels, row.positions, row.group)
