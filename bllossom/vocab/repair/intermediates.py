"""Which pieces are missing before every donor piece can be joined from two that exist.

A piece can be made if some binary tree over its atoms has only pieces as its nodes. The fewest nodes that are missing
are found by dynamic programming over the stretches of the piece; which missing nodes serve most pieces is a set cover,
done greedily. On KoBERT's pieces the greedy cover is as small as any can be (a mixed-integer program gives the same
868), so what is left to choose is the text: of equal candidates, the one that saves most tokens.
"""

import functools
import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from bllossom.vocab.families.vocabulary import Atoms
from bllossom.vocab.repair.segments import parts, shortest

IMPOSSIBLE = 1_000


def missing(atoms: Atoms, pieces: Collection[str], chosen: Collection[str], possible: Collection[str]) -> int:
    """The fewest of the `possible` nodes to be added before the piece can be joined; 0 where it can be already.

    A node that would stand twice in one tree counts twice.
    """
    count = len(atoms)
    cost = [[0] * (count + 1) for _ in range(count)]  # cost[i][j]: of the stretch from i up to j
    stretches = iter(_stretches(atoms))
    for length in range(2, count + 1):
        for i in range(count - length + 1):
            j, text = i + length, next(stretches)
            below = min(cost[i][k] + cost[k][j] for k in range(i + 1, j))
            is_piece = text in pieces or text in chosen
            cost[i][j] = below if is_piece else below + (1 if text in possible else IMPOSSIBLE)
    return cost[0][count]


@functools.lru_cache(maxsize=100_000)  # asked for again with every candidate that is tried
def _stretches(atoms: Atoms) -> tuple[str, ...]:
    """Every stretch of two atoms or more, short ones first."""
    count = len(atoms)
    return tuple("".join(atoms[i : i + length]) for length in range(2, count + 1) for i in range(count - length + 1))


def find_candidates(atoms: Mapping[str, Atoms], allowed: Callable[[str], bool]) -> set[str]:
    """The stretches of pieces that cannot be made: what might be added."""
    stuck = [piece for piece in atoms if missing(atoms[piece], atoms, (), ())]
    return {part for piece in stuck for part in parts(atoms[piece]) if part not in atoms and allowed(part)}


def count_savings(strings: Collection[str], segments: Mapping[Atoms, int], pieces: Collection[str]) -> dict[str, int]:
    """For each string, how many tokens fewer the shortest segmentation of all segments has with it than without it.

    Each is taken alone: where two would save the same tokens, both count them.
    """
    saved = dict.fromkeys(strings, 0)
    holding: dict[str, list[Atoms]] = defaultdict(list)
    for segment in segments:
        for part in set(parts(segment)):
            if part in saved:
                holding[part].append(segment)
    now = {segment: len(shortest(segment, pieces)) for found in holding.values() for segment in found}
    toggled = set(pieces)
    for string, found in holding.items():
        toggled ^= {string}
        for segment in found:
            if now[segment] > 1 or string in pieces:
                saved[string] += segments[segment] * abs(now[segment] - len(shortest(segment, toggled)))
        toggled ^= {string}
    return saved


def cover(atoms: Mapping[str, Atoms], worth: Mapping[str, int]) -> set[str]:
    """The strings to add, out of those that `worth` gives a value (tokens saved), so that every piece can be made."""
    chosen: set[str] = set()
    todo = {piece: lacks for piece in atoms if (lacks := missing(atoms[piece], atoms, (), worth))}
    inside = {piece: {part for part in parts(atoms[piece]) if part in worth} for piece in todo}
    holders: dict[str, list[str]] = defaultdict(list)
    for piece, strings in inside.items():
        for string in strings:
            holders[string].append(piece)

    def gain(string: str) -> int:
        if string in chosen:
            return 0
        chosen.add(string)
        mended = sum(missing(atoms[p], atoms, chosen, worth) < todo[p] for p in holders[string] if p in todo)
        chosen.discard(string)
        return mended

    gains = {string: gain(string) for string in holders}
    best_first = [(-mended, -worth[string], len(string), string) for string, mended in gains.items()]
    heapq.heapify(best_first)
    while todo:
        mended, _, _, best = heapq.heappop(best_first)
        if -mended != gains[best]:  # it has changed since; its new entry is in the heap
            continue
        chosen.add(best)
        gains[best] = 0
        nearer = [p for p in holders[best] if p in todo and missing(atoms[p], atoms, chosen, worth) < todo[p]]
        for piece in nearer:
            todo[piece] = missing(atoms[piece], atoms, chosen, worth)
            if todo[piece] == 0:
                del todo[piece]
        for string in {part for piece in nearer for part in inside[piece]}:
            if (now := gain(string)) != gains[string]:
                gains[string] = now
                heapq.heappush(best_first, (-now, -worth[string], len(string), string))
    return _exchange(chosen, atoms, worth, inside, holders)


def _exchange(
    chosen: set[str],
    atoms: Mapping[str, Atoms],
    worth: Mapping[str, int],
    inside: Mapping[str, set[str]],
    holders: Mapping[str, list[str]],
) -> set[str]:
    """Put a worthier string in the place of each one that has such a substitute; drop those that nothing needs."""
    for string in sorted(chosen, key=lambda string: (worth[string], string)):
        chosen.discard(string)
        broken = [piece for piece in holders[string] if missing(atoms[piece], atoms, chosen, worth)]
        if not broken:
            continue
        substitutes = set.intersection(*(inside[piece] for piece in broken)) - chosen
        for other in sorted(substitutes, key=lambda other: (-worth[other], other != string, other)):
            if not any(missing(atoms[piece], atoms, chosen | {other}, worth) for piece in broken):
                chosen.add(other)
                break
    return chosen
