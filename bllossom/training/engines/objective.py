"""What a step minimises. The loop and the engines know sums and what divides them; what they are of is known here."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from bllossom.training.engines.loss import GroupLoss, loss_inputs
from bllossom.training.engines.rows import Row, collate, joined
from bllossom.training.settings import TrainingConfig


class Objective(Protocol):
    """Rows to sums, and sums to a loss. Sums and counts add up over micro-batches and ranks, which so move nothing."""

    def module(self, model: PreTrainedModel, config: TrainingConfig, *, autocast: bool) -> nn.Module:
        """What the engines wrap: its forward takes `inputs` and gives fp32 sums [sums], with their graph."""
        ...

    def inputs(self, rows: Sequence[Any], device: torch.device) -> tuple[Any, ...]:
        """What the module takes for the rows of a micro-batch."""
        ...

    def counts(self, rows: Sequence[Any]) -> list[float]:
        """What divides each of these rows' sums: [sums]."""
        ...

    def loss(self, sums: torch.Tensor, counts: Sequence[float]) -> torch.Tensor:
        """A micro-batch's part of the loss, a scalar; `counts` are those of the global batch."""
        ...

    def figures(self, sums: Sequence[float], counts: Sequence[float]) -> dict[str, float]:
        """What is logged of a global batch beside its loss, by name."""
        ...


class CausalObjective:
    """Every token from those before it: the mean over the supervised tokens of the global batch, in nats.

    With `neftune_alpha` embeddings get noise of at most alpha / √(tokens × width) while training, tokens being those of
    a token's own document, packed or not (NEFTune, arXiv 2310.05914).
    """

    def __init__(self, groups: Sequence[str], neftune_alpha: float | None = None, *, one_row: bool = False) -> None:
        """With `one_row` the rows of a micro-batch, all of one group, are put end to end, which saves their padding."""
        self.groups = tuple(groups)
        self.neftune_alpha = neftune_alpha
        self.one_row = one_row

    def module(self, model: PreTrainedModel, config: TrainingConfig, *, autocast: bool) -> nn.Module:
        """See Objective."""
        return GroupLoss(model, loss_chunk=config.loss_chunk, autocast=autocast, tf32=config.head_tf32)

    def inputs(self, rows: Sequence[Row], device: torch.device) -> tuple[Any, ...]:
        """See Objective."""
        rows = [joined(rows)] if self.one_row else rows
        inputs = loss_inputs(collate(rows), self.groups, device)
        return inputs if self.neftune_alpha is None else (*inputs, self._noise(rows).to(device))

    def _noise(self, rows: Sequence[Row]) -> torch.Tensor:
        """How much noise each token may get, times √width: fp32 [rows, tokens]; none where rows are padded."""
        noise = torch.zeros(len(rows), max(len(row.ids) for row in rows))
        for number, row in enumerate(rows):
            starts = np.flatnonzero(row.positions == 0)
            lengths = np.diff(np.append(starts, len(row.ids)))
            noise[number, : len(row.ids)] = torch.from_numpy(np.repeat(lengths, lengths)).float().rsqrt()
        return noise * (self.neftune_alpha or 0.0)

    def counts(self, rows: Sequence[Row]) -> list[float]:
        """See Objective: supervised tokens by group."""
        return [float(sum(row.supervised() for row in rows if row.group == group)) for group in self.groups]

    def loss(self, sums: torch.Tensor, counts: Sequence[float]) -> torch.Tensor:
        """See Objective."""
        return sums.sum() / sum(counts)

    def figures(self, sums: Sequence[float], counts: Sequence[float]) -> dict[str, float]:
        """See Objective: the mean of each group."""
        found = zip(self.groups, sums, counts, strict=True)
        return {f"loss/{group}": value / count for group, value, count in found if count}
