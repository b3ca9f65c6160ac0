"""Instruction examples as the rows that training reads: one a row, or packed."""

from collections.abc import Sequence

import numpy as np

from bllossom.instructions.dataset import epoch_order
from bllossom.instructions.formats.format import Example
from bllossom.instructions.packing import deal, pack
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.rows import IGNORED, Row

OUTPUTS = "outputs"
"""What the loss on examples is reported under."""


class ExampleRows:
    """Examples one a row: one pass after the other, each in an order of its own.

    The last step of a run is filled from the pass that would follow, so that every example is read at least `epochs`
    times and no step is smaller than the others.
    """

    def __init__(self, examples: Sequence[Example], seed: int) -> None:
        self.examples = examples
        self.seed = seed
        self.groups: tuple[str, ...] = (OUTPUTS,)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def example(self, index: int) -> Example:
        """Example `index` of the endless sequence of passes."""
        epoch, place = divmod(index, len(self.examples))
        if epoch != self._epoch:  # kept only because shuffling anew for each row is slow
            self._epoch, self._order = epoch, epoch_order(len(self.examples), self.seed, epoch)
        return self.examples[int(self._order[place])]

    def row(self, index: int) -> Row:
        """Example `index` as a row of its own."""
        return packed_row([self.example(index)])

    def describe(self, index: int) -> str:
        """Which example it is."""
        return self.example(index).source

    def leave_out(self, indices: Sequence[int]) -> str:
        """Other data are another run."""
        return "take the bad ones out of the data and start over with --force"


class PackedSteps:
    """The examples of each step packed into rows of `capacity` tokens; see runs.steps.StepSource.

    Only examples of one step share a row, so that packing changes the speed and nothing else. Rows go to ranks by their
    tokens; a rank with fewer micro-batches than another computes one that carries no loss.
    """

    def __init__(self, rows: ExampleRows, examples_per_step: int, capacity: int, micro_batch: int) -> None:
        self.rows = rows
        self.examples_per_step = examples_per_step
        self.capacity = capacity
        self.micro_batch = micro_batch

    def packed(self, step: int) -> list[list[Example]]:
        """The examples of a step, row by row."""
        examples = [self.rows.example(index) for index in self._indices(step)]
        return [[examples[i] for i in row] for row in pack([len(example.ids) for example in examples], self.capacity)]

    def micro_batches(self, step: int, ranks: Ranks) -> list[list[Row]]:
        """See StepSource."""
        rows = [packed_row(examples) for examples in self.packed(step)]
        hands = deal([len(row.ids) for row in rows], ranks.world)
        count = max(-(-len(hand) // self.micro_batch) for hand in hands)
        mine = [rows[index] for index in hands[ranks.rank]]
        # As even as may be, not full ones and a rest: the largest decides the memory, and as many are computed.
        batches = [list(part) for part in np.array_split(np.arange(len(mine)), count)]
        return [[mine[index] for index in batch] or [_without_loss(rows[0])] for batch in batches]

    def describe(self, step: int) -> list[str]:
        """See StepSource."""
        return [self.rows.describe(index) for index in self._indices(step)]

    def leave_out(self, step: int) -> str:
        """See StepSource."""
        return self.rows.leave_out(self._indices(step))

    def _indices(self, step: int) -> Sequence[int]:
        return range(step * self.examples_per_step, (step + 1) * self.examples_per_step)


def packed_row(examples: Sequence[Example]) -> Row:
    """Examples one behind the other. Positions begin anew at each, which keeps attention inside it; its first token has
    no label, since what stands before it belongs to another."""
    ids = np.concatenate([example.ids for example in examples])
    positions = np.concatenate([np.arange(len(example.ids)) for example in examples])
    supervised = np.concatenate([example.supervised for example in examples]) & (positions > 0)
    return Row(ids, np.where(supervised, ids, IGNORED), positions, OUTPUTS)


def _without_loss(row: Row) -> Row:
    """A row of one token, which nothing is predicted in."""
    return Row(row.ids[:1], np.full(1, IGNORED), row.positions[:1], row.group)
