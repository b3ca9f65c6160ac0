"""The order in which the new pieces are joined: BPE's only freedom once the pieces stand.

BPE is greedy: a join that looks good now can leave an odd rest behind. Which of two competing joins comes first is
free for new pieces, and decides both how close the text comes to its shortest segmentation and whether a piece can be
made at all. The first order ranks a piece by how often the text's shortest segmentations hold it, as a piece or inside
one (so parts come before wholes). Then, as long as it helps: segments that are longer than need be name the join that
did the damage and those that would not have, and the one is moved past the other if all segments together get shorter.
"""

import bisect
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from bllossom.console import progress, say
from bllossom.vocab.families.vocabulary import Atoms
from bllossom.vocab.repair.segments import parts, shortest

ROUNDS = 5  # at most; the third already gains next to nothing
JOINED = 25_000_000  # atoms joined anew at most, about a minute: a count, so that the same input gives the same order
PIECE_WEIGHT = 50  # how often each piece counts as if it stood alone in the text, when the first order is made
UNMADE = 10**9  # cost of a piece that cannot be made: more than any text
CLOSE = 1e-9  # ranks nearer to each other than this are numbered anew
NEVER = float("inf")


def join(atoms: Sequence[str], ranks: Mapping[str, float]) -> list[str]:
    """BPE: join the neighbours that make the piece of the best (lowest) rank, the leftmost of equals, until none do."""
    symbols = list(atoms)
    while len(symbols) > 1:
        best, at = float("inf"), -1
        for i in range(len(symbols) - 1):
            rank = ranks.get(symbols[i] + symbols[i + 1])
            if rank is not None and rank < best:
                best, at = rank, i
        if at < 0:
            break
        symbols[at] += symbols.pop(at + 1)
    return symbols


def shortest_by_joins(symbols: Sequence[str], pieces: Collection[str]) -> int:
    """The length of the shortest segmentation whose pieces can be made from these symbols, two at a time."""
    count = len(symbols)
    made = [1 << (i + 1) for i in range(count)]  # bit j of made[i]: symbols[i:j] can become one symbol
    fewest = [0] * (count + 1)
    for i in range(count - 1, -1, -1):
        text, ends, best = symbols[i], made[i], 1 + fewest[i + 1]
        for j in range(i + 2, count + 1):
            text += symbols[j - 1]
            if text in pieces and any(ends >> k & 1 and made[k] >> j & 1 for k in range(i + 1, j)):
                ends |= 1 << j
                best = min(best, 1 + fewest[j])
        made[i], fewest[i] = ends, best
    return fewest[0]


def find_culprit(atoms: Atoms, ranks: Mapping[str, float]) -> tuple[str, list[str]] | None:
    """The first join after which the shortest segmentation is out of reach, and the joins that would have kept it."""
    symbols = list(atoms)
    goal = shortest_by_joins(symbols, ranks)
    while True:
        options = [(ranks[text], i) for i in range(len(symbols) - 1) if (text := symbols[i] + symbols[i + 1]) in ranks]
        if not options:
            return None
        _, at = min(options)
        joined = _join_at(symbols, at)
        if shortest_by_joins(joined, ranks) > goal:
            harmless = [i for _, i in sorted(options) if shortest_by_joins(_join_at(symbols, i), ranks) == goal]
            return joined[at], list(dict.fromkeys(symbols[i] + symbols[i + 1] for i in harmless))
        symbols = joined


def _join_at(symbols: list[str], at: int) -> list[str]:
    return [*symbols[:at], symbols[at] + symbols[at + 1], *symbols[at + 2 :]]


class Priorities:
    """An order of the pieces, and what it costs on the segments; it changes only for the better."""

    def __init__(
        self, atoms: Mapping[str, Atoms], segments: Mapping[Atoms, int], order: Sequence[str] | None = None
    ) -> None:
        """`atoms` are those of each piece (two or more), `segments` the text's, with their counts."""
        ordered = _first_order(atoms, segments) if order is None else order
        self.ranks = {piece: float(i) for i, piece in enumerate(ordered)}
        atoms_alone = dict.fromkeys(atoms.values(), UNMADE)
        self.segments = [*atoms_alone, *(segment for segment in segments if segment not in atoms_alone)]
        self.weights = [atoms_alone.get(segment, 0) + segments.get(segment, 0) for segment in self.segments]
        self.goals = [len(shortest(segment, self.ranks)) for segment in self.segments]
        self._joined = 0
        self._number = {piece: number for number, piece in enumerate(ordered)}
        self._by_number = [*map(float, range(len(ordered))), NEVER]  # the ranks once more; -1 is no piece
        self._sorted = self._by_number[:-1]
        self.holding: dict[str, list[int]] = defaultdict(list)
        self._stretches = [self._hold(index, segment) for index, segment in enumerate(self.segments)]
        self.lengths = [self._joined_length(index) for index in range(len(self.segments))]

    def improve(self) -> None:
        """Move joins past each other until no move that a segment asks for shortens the text, or JOINED are joined."""
        self._joined = 0
        with progress("ordering joins", total=JOINED) as advance:
            for _ in range(ROUNDS):
                moved = 0
                for culprit, harmless in self._wishes():
                    before = self._joined
                    moved += self._try(culprit, harmless)
                    advance(self._joined - before)
                    if self._joined > JOINED:
                        say(f"ordering joins: {JOINED:,} atoms were joined anew, where it ends; more may be gained")
                        return
                if moved == 0:
                    break

    def unmade(self) -> list[str]:
        """The pieces that this order does not make."""
        return [
            "".join(segment)
            for segment, weight, length in zip(self.segments, self.weights, self.lengths, strict=True)
            if weight >= UNMADE and length > 1
        ]

    def ordered(self) -> list[str]:
        """The pieces, first priority first."""
        return sorted(self.ranks, key=self.ranks.__getitem__)

    def _wishes(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Which pieces should come before which culprit, the most wanted first."""
        wishes: Counter[tuple[str, tuple[str, ...]]] = Counter()
        for index, segment in enumerate(self.segments):
            if self.lengths[index] > self.goals[index] and (found := find_culprit(segment, self.ranks)):
                culprit, harmless = found
                for piece in harmless:
                    wishes[culprit, (piece,)] += self.weights[index]
                if self.weights[index] >= UNMADE:
                    for nodes in _trees(segment, self.ranks):
                        wishes[culprit, nodes] += self.weights[index]
        yield from (wish for wish, _ in sorted(wishes.items(), key=lambda item: (-item[1], item[0])))

    def _hold(self, index: int, segment: Atoms) -> dict[int, int]:
        """Which stretch of a segment is which piece: start · width + end → the piece's number."""
        width, stretches = len(segment) + 1, {}
        for start in range(width - 2):
            text = segment[start]
            for end in range(start + 2, width):
                text += segment[end - 1]
                if (number := self._number.get(text)) is not None:
                    stretches[start * width + end] = number
                    if not self.holding[text] or self.holding[text][-1] != index:
                        self.holding[text].append(index)
        return stretches

    def _joined_length(self, index: int) -> int:
        """What `join` leaves of a segment, by numbers: this is where the time goes."""
        width, find, ranks = len(self.segments[index]) + 1, self._stretches[index].get, self._by_number
        edges = list(range(width))
        options = [ranks[find(start * width + start + 2, -1)] for start in range(width - 2)]
        while options and (best := min(options)) is not NEVER:
            at = options.index(best)
            del edges[at + 1], options[at]
            if at:
                options[at - 1] = ranks[find(edges[at - 1] * width + edges[at + 1], -1)]
            if at < len(options):
                options[at] = ranks[find(edges[at] * width + edges[at + 2], -1)]
        return len(edges) - 1

    def _try(self, culprit: str, wanted: tuple[str, ...]) -> bool:
        """Move the wanted pieces before the culprit, or the culprit behind them, if that shortens the text."""
        late = sorted((p for p in wanted if self.ranks[p] > self.ranks[culprit]), key=self.ranks.__getitem__)
        if not late:
            return False
        return self._move(late, before=culprit) or self._move([culprit], behind=late[-1])

    def _move(self, pieces: Sequence[str], *, before: str = "", behind: str = "") -> bool:
        """Give the pieces, in their order, ranks next to another's; take it back if the text does not get shorter."""
        here = self.ranks[before or behind]
        at = bisect.bisect_left(self._sorted, here)
        low = here if behind else self._sorted[at - 1] if at else here - 1
        high = here if before else self._sorted[at + 1] if at + 1 < len(self._sorted) else here + 1
        step = (high - low) / (len(pieces) + 1)
        old = [self.ranks[piece] for piece in pieces]
        self._rank(pieces, [low + step * (i + 1) for i in range(len(pieces))])
        change, lengths = 0, {}
        touched = dict.fromkeys(index for piece in pieces for index in self.holding[piece])
        self._joined += sum(len(self.segments[index]) for index in touched)
        for index in touched:
            length = self._joined_length(index)
            if length != self.lengths[index]:
                lengths[index] = length
                change += (length - self.lengths[index]) * self.weights[index]
        if change >= 0:
            self._rank(pieces, old)
            return False
        for index, length in lengths.items():
            self.lengths[index] = length
        for rank in old:
            del self._sorted[bisect.bisect_left(self._sorted, rank)]
        for piece in pieces:
            bisect.insort(self._sorted, self.ranks[piece])
        if step < CLOSE:
            ordered = self.ordered()
            self._sorted = list(map(float, range(len(ordered))))
            self._rank(ordered, self._sorted)
        return True

    def _rank(self, pieces: Sequence[str], ranks: Sequence[float]) -> None:
        for piece, rank in zip(pieces, ranks, strict=True):
            self.ranks[piece] = self._by_number[self._number[piece]] = rank


def _first_order(atoms: Mapping[str, Atoms], segments: Mapping[Atoms, int]) -> list[str]:
    counts: Counter[str] = Counter()
    weighted = Counter(dict.fromkeys(atoms.values(), PIECE_WEIGHT)) + Counter(segments)
    for segment, weight in weighted.items():
        for piece in shortest(segment, atoms):
            for part in parts(piece):
                if part in atoms:
                    counts[part] += weight
    return sorted(atoms, key=lambda piece: (-counts[piece], len(piece), piece))


def _trees(atoms: Atoms, pieces: Collection[str], most: int = 30) -> list[tuple[str, ...]]:
    """The nodes of each binary tree that makes a piece, `most` trees at most."""
    if len(atoms) == 1:
        return [()]
    if "".join(atoms) not in pieces:
        return []
    word = "".join(atoms)
    found = [
        (*left, *right, word)
        for k in range(1, len(atoms))
        for left in _trees(atoms[:k], pieces)
        for right in _trees(atoms[k:], pieces)
    ]
    return found[:most]
