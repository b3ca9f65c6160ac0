"""Scores of held-out data while a model trains: the loss of answers, and that of text in bits per byte, which is
comparable between vocabularies, unlike perplexity."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bllossom.console import progress
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.engine import Engine
from bllossom.training.engines.objective import CausalObjective
from bllossom.training.engines.rows import IGNORED, Row


@dataclass(frozen=True)
class HeldOutRows:
    """The held-out rows of one language, and the UTF-8 bytes that their text has."""

    rows: Sequence[Row]
    bytes: int


def validation_loss_bits(
    engine: Engine,
    stop_asked: Callable[[], bool],
    *,
    heldout: Mapping[str, HeldOutRows],
    ranks: Ranks,
    micro_batch: int,
) -> dict[str, float] | None:
    """The loss in bits per byte by language; None where some rank was asked to stop meanwhile. Ranks share the rows.

    A cheaper estimate of what eval measures: documents are cut at the borders of blocks, EOS is scored, and each token
    of a document but its first is.
    """
    rows = {language: held.rows for language, held in heldout.items()}
    nats = _nats(engine, rows, ranks, micro_batch, stop_asked)
    return nats and {language: nats[language] / math.log(2) / held.bytes for language, held in heldout.items()}


def mean_loss(
    engine: Engine,
    stop_asked: Callable[[], bool],
    *,
    heldout: Mapping[str, Sequence[Row]],
    ranks: Ranks,
    micro_batch: int,
) -> dict[str, float] | None:
    """Nats a supervised token, by language; None where some rank was asked to stop meanwhile."""
    nats = _nats(engine, heldout, ranks, micro_batch, stop_asked)
    tokens = {language: sum(row.supervised() for row in rows) for language, rows in heldout.items()}
    return nats and {language: nats[language] / count for language, count in tokens.items()}


def _nats(
    engine: Engine,
    heldout: Mapping[str, Sequence[Row]],
    ranks: Ranks,
    micro_batch: int,
    stop_asked: Callable[[], bool],
) -> dict[str, float] | None:
    """−ln p of all supervised tokens, by language; ranks share the rows."""
    sums: dict[str, float] = {}
    with _evaluating(engine), torch.no_grad(), _shown(sum(map(len, heldout.values())), ranks) as advance:
        for language, held in heldout.items():
            nats, objective = 0.0, CausalObjective([held[0].group])
            stride = micro_batch * ranks.world
            for start in range(0, len(held), stride):
                first = start + ranks.rank * micro_batch
                rows = list(held[first : first + micro_batch])
                # A rank without rows left still runs: under ZeRO-3 the others wait for its part of the weights.
                nats += float(engine.sums(objective.inputs(rows or [_unscored(held[0])], ranks.device)).sum())
                if ranks.sum([float(stop_asked())])[0]:
                    return None
                advance(min(stride, len(held) - start))
            sums[language] = ranks.sum([nats])[0]
    return sums


@contextmanager
def _evaluating(engine: Engine) -> Iterator[None]:
    engine.training(False)
    try:
        yield
    finally:
        engine.training(True)


@contextmanager
def _shown(rows: int, ranks: Ranks) -> Iterator[Callable[[int], None]]:
    if not ranks.first:
        yield lambda _: None
        return
    with progress("scoring held-out data", rows) as advance:
        yield advance


def _unscored(row: Row) -> Row:
    labels = row.labels.copy()
    labels[:] = IGNORED
    return Row(row.ids, labels, row.positions, row.group)
