"""Dialogues of uneven length into rows of at most so many tokens, and rows to ranks. Pure functions of the lengths.

lengths    9 3 6 2 8 1        rows of 10    [9 1] [8 2] [6 3]
"""

from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of indices into `lengths`, whose sums are at most `capacity`: best fit, the longest first.

    Each takes the fullest row that has room for it. Equal lengths keep their order, so that the same lengths give the
    same rows. Best-fit decreasing needs at most 11/9 of the fewest rows (Johnson, 1973).
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = [row for row, left in enumerate(room) if left >= lengths[index]]
        if fitting:
            best = min(fitting, key=lambda row: room[row])
            rows[best].append(index)
            room[best] -= lengths[index]
        else:
            rows.append([index])
            room.append(capacity - lengths[index])
    return [sorted(row) for row in rows]


def deal(tokens: Sequence[int], ranks: int) -> list[list[int]]:
    """The rows of each rank, by their `tokens`: the longest first, each to the rank with the fewest tokens so far."""
    hands: list[list[int]] = [[] for _ in range(ranks)]
    held = [0] * ranks
    for index in sorted(range(len(tokens)), key=lambda i: -tokens[i]):
        rank = held.index(min(held))
        hands[rank].append(index)
        held[rank] += tokens[index]
    return hands
