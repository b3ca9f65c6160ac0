"""Which pieces are missing before every donor piece can be joined from two that exist.

A piece can be made if some binary tree over its atoms has only pieces as its nodes. The fewest nodes that are missing
are found by dynamic programming over the stretches of the piece; which missing nodes serve most pieces is a set cover,
done greedily. On KoBERT's pieces the greedy cover is as small as any can be (a mixed-integer program gives the same
868), so what is left to choose is the text: of equal candidates, the one that saves most tokens.
"""

import functools
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

from bllossom.console import progress
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


def steps_nearer(
    atoms: Atoms, pieces: Collection[str], chosen: Collection[str], possible: Collection[str]
) -> tuple[int, set[str]]:
    """What `missing` gives, and which of the possible nodes would, each by itself, make it less.

    Of all trees at once: `inside` is the least that a stretch lacks, `outside` the least that all else does.
    """
    count = len(atoms)
    stretches = iter(_stretches(atoms))
    text = [[""] * (count + 1) for _ in range(count)]  # [i][j]: of the stretch from i up to j
    own = [[0] * (count + 1) for _ in range(count)]
    below = [[0] * (count + 1) for _ in range(count)]
    inside = [[0] * (count + 1) for _ in range(count)]
    for length in range(2, count + 1):
        for i in range(count - length + 1):
            j, found = i + length, next(stretches)
            text[i][j] = found
            own[i][j] = 0 if found in pieces or found in chosen else 1 if found in possible else IMPOSSIBLE
            row = inside[i]
            below[i][j] = min([row[k] + inside[k][j] for k in range(i + 1, j)])
            row[j] = below[i][j] + own[i][j]
    lacks = inside[0][count]
    if not lacks:
        return 0, set()
    outside = [[lacks + IMPOSSIBLE] * (count + 1) for _ in range(count)]
    outside[0][count] = 0
    helps: set[str] = set()
    repeated: set[str] = set()
    seen: set[str] = set()
    for length in range(count, 1, -1):
        for i in range(count - length + 1):
            j = i + length
            around = outside[i][j] + own[i][j]
            if own[i][j] == 1:
                string = text[i][j]
                if outside[i][j] + below[i][j] < lacks:
                    helps.add(string)
                (repeated if string in seen else seen).add(string)
            if around >= lacks:  # no tree through here lacks fewer, with any one node more
                continue
            row = inside[i]
            for k in range(i + 1, j):
                if (left := around + inside[k][j]) < outside[i][k]:
                    outside[i][k] = left
                if (right := around + row[k]) < outside[k][j]:
                    outside[k][j] = right
    # What stands in a tree twice is counted twice: together they may bring it nearer where each alone does not.
    helps |= {s for s in repeated - helps if missing(atoms, pieces, {*chosen, s}, possible) < lacks}
    return lacks, helps


def cover(atoms: Mapping[str, Atoms], worth: Mapping[str, int]) -> set[str]:
    """The strings to add, out of those that `worth` gives a value (tokens saved), so that every piece can be made."""
    chosen: set[str] = set()
    todo: dict[str, int] = {}
    helps: dict[str, set[str]] = {}  # for each piece that cannot be made yet, the strings that would bring it nearer
    gains: Counter[str] = Counter()
    for piece in atoms:
        lacks, strings = steps_nearer(atoms[piece], atoms, (), worth)
        if lacks:
            todo[piece], helps[piece] = lacks, strings
            gains.update(strings)
    inside = {piece: {part for part in parts(atoms[piece]) if part in worth} for piece in todo}
    holders: dict[str, list[str]] = defaultdict(list)
    for piece, strings in inside.items():
        for string in strings:
            holders[string].append(piece)
    known = dict(gains)  # as the heap has them: looked at again only where a piece came nearer
    best_first = [(-mended, -worth[string], len(string), string) for string, mended in gains.items()]
    heapq.heapify(best_first)
    with progress("choosing intermediates", total=sum(todo.values())) as advance:
        while todo:
            mended, _, _, best = heapq.heappop(best_first)
            if -mended != known[best]:  # it has changed since; its new entry is in the heap
                continue
            chosen.add(best)
            known[best] = 0
            nearer = []
            for piece in holders[best]:
                if piece not in todo:
                    continue
                lacks, strings = steps_nearer(atoms[piece], atoms, chosen, worth)
                gains.update(strings - helps[piece])
                gains.subtract(helps[piece] - strings)
                if lacks < todo[piece]:
                    nearer.append(piece)
                    advance(todo[piece] - lacks)
                todo[piece], helps[piece] = lacks, strings
                if not lacks:
                    del todo[piece]
            for string in {part for piece in nearer for part in inside[piece]} - chosen:
                if gains[string] != known.get(string, 0):
                    known[string] = gains[string]
                    heapq.heappush(best_first, (-gains[string], -worth[string], len(string), string))
    return _exchange(chosen, atoms, worth, holders)


def _exchange(
    chosen: set[str], atoms: Mapping[str, Atoms], worth: Mapping[str, int], holders: Mapping[str, Sequence[str]]
) -> set[str]:
    """Put a worthier string in the place of each one that has such a substitute; drop those that nothing needs."""
    for string in sorted(chosen, key=lambda string: (worth[string], string)):
        chosen.discard(string)
        found = {piece: steps_nearer(atoms[piece], atoms, chosen, worth) for piece in holders[string]}
        broken = {piece: lacks for piece, (lacks, _) in found.items() if lacks}
        if not broken:
            continue
        substitutes = set.intersection(*(found[piece][1] for piece in broken))
        if any(lacks > 1 for lacks in broken.values()):  # it stands in a tree twice: who brings it nearer need not do
            whole = [(piece, other) for piece in broken for other in substitutes]
            short = {o for p, o in whole if missing(atoms[p], atoms, chosen | {o}, worth)}
            substitutes -= short
        chosen.add(min(substitutes, key=lambda other: (-worth[other], other != string, other)))
    return chosen
