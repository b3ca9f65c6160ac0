"""What each rank reads in each step."""

from collections.abc import Sequence
from typing import Any, Protocol

from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.rows import Row, RowSource


class StepSource(Protocol):
    """Micro-batches by step: a pure function, so that a resume reads no row twice."""

    def micro_batches(self, step: int, ranks: Ranks) -> list[list[Any]]:
        """The rows of this rank in a step, by micro-batch: as many on every rank, none of them empty."""
        ...

    def describe(self, step: int) -> list[str]:
        """Where the rows of a step come from, a line each, for a person who has to look at them."""
        ...

    def leave_out(self, step: int) -> str:
        """What a person does to go on without such of a step's rows as are bad."""
        ...


class EvenSteps:
    """As many rows in every step and every micro-batch.

    global batch    rows 0 1 2 3 4 5 6 7     2 ranks, micro-batch 2, so 2 micro-batches each
    rank 0               0 1     4 5
    rank 1                   2 3     6 7
    """

    def __init__(self, source: RowSource, rows_per_step: int, micro_batch: int) -> None:
        self.source = source
        self.rows_per_step = rows_per_step
        self.micro_batch = micro_batch

    def micro_batches(self, step: int, ranks: Ranks) -> list[list[Row]]:
        """See StepSource."""
        rows = self.rank_rows(step, ranks)
        return [rows[start : start + self.micro_batch] for start in range(0, len(rows), self.micro_batch)]

    def rank_rows(self, step: int, ranks: Ranks) -> list[Row]:
        """The rows of a global batch that this rank reads (see the drawing above), one language after the other."""
        stride = self.micro_batch * ranks.world
        base = step * self.rows_per_step + ranks.rank * self.micro_batch
        starts = range(base, base + self.rows_per_step, stride)
        rows = [self.source.row(start + place) for start in starts for place in range(self.micro_batch)]
        # Their order does not move the sum, and micro-batches of one language make the head's gradient once, not twice.
        return sorted(rows, key=lambda row: self.source.groups.index(row.group))

    def describe(self, step: int) -> list[str]:
        """See StepSource."""
        return [self.source.describe(index) for index in self._indices(step)]

    def leave_out(self, step: int) -> str:
        """See StepSource."""
        return self.source.leave_out(self._indices(step))

    def _indices(self, step: int) -> Sequence[int]:
        return range(step * self.rows_per_step, (step + 1) * self.rows_per_step)
