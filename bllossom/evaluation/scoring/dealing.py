"""Work dealt to ranks by what it costs. Each piece is done whole by one rank, so that its result is the same with any
number of ranks, to the last bit where they compute on the same kind of device."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from bllossom.ranks.ranks import Ranks

T = TypeVar("T")


def deal(costs: Sequence[int], ranks: int) -> list[list[int]]:
    """The pieces, by number, that each rank does: the dearest first, each to the rank that has least so far."""
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for piece in sorted(range(len(costs)), key=lambda piece: (-costs[piece], piece)):
        least = loads.index(min(loads))
        dealt[least].append(piece)
        loads[least] += costs[piece]
    return dealt


def work_shared(
    ranks: Ranks, costs: Sequence[int], work: Callable[[int], T], advance: Callable[[float], None] | None = None
) -> list[T]:
    """What `work(piece)` gives for each piece, each done by one of the ranks; on every rank, once all are done.

    `advance` is told the shares of this rank's own pieces as they are done: 1 in sum.
    """
    mine = deal(costs, ranks.world)[ranks.rank]
    whole = sum(costs[piece] for piece in mine)
    done = {}
    for piece in mine:
        done[piece] = work(piece)
        if advance is not None:
            advance(costs[piece] / whole)
    together: dict[int, T] = {}
    for part in ranks.gather(done):
        together |= part
    return [together[piece] for piece in range(len(costs))]
