"""Pairs of answers as what training reads."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig

from bllossom.instructions.dataset import epoch_order
from bllossom.instructions.preferences import EncodedPair
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.preference_loss import PairRow
from bllossom.training.engines.rows import PACKABLE


class PairSteps:
    """The same number of pairs in every step and on every rank, long and short ones alike; see runs.steps.StepSource.

    One pass after the other, each in an order of its own; the last step is filled from the pass that would follow.
    `references` is float64 [pairs, 2]: the reference's log-probabilities of chosen and rejected.
    """

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        references: NDArray[np.float64],
        seed: int,
        pairs_per_step: int,
        micro_batch: int,
    ) -> None:
        self.pairs = pairs
        self.references = references
        self.seed = seed
        self.pairs_per_step = pairs_per_step
        self.micro_batch = micro_batch

    def rows(self, step: int) -> list[PairRow]:
        """The pairs of a step."""
        return [self.row(place) for place in self._places(step)]

    def row(self, place: int) -> PairRow:
        """The pair at a place in the files, with its references."""
        chosen, rejected = self.references[place].tolist()
        return PairRow(self.pairs[place], chosen, rejected)

    def micro_batches(self, step: int, ranks: Ranks) -> list[list[PairRow]]:
        """See StepSource. Every rank has a pair, as the stage checks: pairs_per_step is a multiple of the ranks."""
        rows = self.rows(step)
        order = sorted(range(len(rows)), key=lambda index: -rows[index].pair.longest())
        hands = [order[rank :: ranks.world] for rank in range(ranks.world)]
        mine = [rows[index] for index in hands[ranks.rank]]
        return [mine[start : start + self.micro_batch] for start in range(0, len(mine), self.micro_batch)]

    def describe(self, step: int) -> list[str]:
        """See StepSource."""
        return [self.pairs[place].source for place in self._places(step)]

    def leave_out(self, step: int) -> str:
        """See StepSource."""
        return "take the bad ones out of the data and start over with --force"

    def _places(self, step: int) -> list[int]:
        count = len(self.pairs)
        indices = range(step * self.pairs_per_step, (step + 1) * self.pairs_per_step)
        orders = {epoch: epoch_order(count, self.seed, epoch) for epoch in {index // count for index in indices}}
        return [int(orders[index // count][index % count]) for index in indices]


def shares_prompt(shape: PretrainedConfig, attention: str) -> bool:
    """Whether a pair can be one row of a model: its attention takes a mask, no layer has a window of its own, and the
    positions are those that are given."""
    windowed = getattr(shape, "sliding_window", None) is not None
    return attention == "sdpa" and shape.model_type in PACKABLE and not windowed
