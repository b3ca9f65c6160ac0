"""Going on with the base's own BPE: the next merges that text asks for (the continued BPE of arXiv 2512.03989).

Plain counts make the pieces fit the text they are learned on: a source that repeats itself fills the vocabulary. So a
word weighs a power of its count, a little less in large sources, summed over the sources. And a donor's list of pieces
can be a source too: what it holds of the language at large, the text need not have. The three constants were
chosen on sources that learning did not see (docs/results/bytelevel.md, with what choosing so costs).
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bllossom.console import progress
from bllossom.vocab.families.vocabulary import Atoms

SEEN_ONCE = 1  # words that occur once in a source say little and are the most: they are left out
Pair = tuple[str, str]


@dataclass(frozen=True)
class Weighing:
    """What a word weighs."""

    damping: float = 0.7
    """Power of a word's count in a source, and of a donor's probabilities."""
    balance: float = 0.1
    """Power of a source's words that its counts are divided by: 0 leaves large sources large."""
    donor_ratio: float = 0.1
    """Weight of the donors' lists together, to that of all text."""


SERVES_UNSEEN_TEXT = Weighing()


def weigh(
    sources: Sequence[Mapping[Atoms, int]],
    donors: Sequence[Mapping[Atoms, float]] = (),
    weighing: Weighing = SERVES_UNSEEN_TEXT,
) -> dict[Atoms, float]:
    """The weight of each word, given as its atoms: from its counts by source, and from donors' probabilities.

    A donor that gives nothing takes no share of the donors' weight.
    """
    damping = weighing.damping
    weights: dict[Atoms, float] = defaultdict(float)
    for counts in sources:
        total = sum(counts.values())
        kept = {atoms: count for atoms, count in counts.items() if count > SEEN_ONCE} or counts
        for atoms, count in kept.items():
            weights[atoms] += count**damping / total**weighing.balance
    all_text = sum(weights.values())
    giving = [donor for donor in donors if any(donor.values())]
    for donor in giving:
        share = (
            weighing.donor_ratio * (all_text or 1.0) / len(giving) / sum(chance**damping for chance in donor.values())
        )
        for atoms, chance in donor.items():
            weights[atoms] += share * chance**damping
    return weights


def learn(
    words: Mapping[Atoms, float],
    count: int,
    allowed: Callable[[str], bool],
    known: frozenset[str],
    is_whole: Callable[[str], bool],
) -> list[Pair]:
    """Join, again and again, the two neighbours that weigh most together, if their concatenation is allowed and new.

    `known` are the base's pieces. Gives the merges in order, so many that `count` are left without loose ends, or all
    there are. Equals are taken in the order of their characters, so that the same words give the same merges.
    """
    learner = _Learner(words, allowed, known)
    merges: list[Pair] = []
    passed_over: set[str] = set()
    loose: dict[str, Pair] = {}  # merges of broken characters that no whole piece needs yet
    places = 0  # what is left without loose ends
    with progress("learning merges", total=count) as advance:
        while places < count and (pair := learner.best()) is not None:
            learner.join(pair)
            piece, parts = pair[0] + pair[1], _loose_parts(pair, loose)
            if not passed_over.isdisjoint(pair) or (is_whole(piece) and places + 1 + len(parts) > count):
                passed_over.add(piece)  # its parts would take more places than are left
                continue
            merges.append(pair)
            advance(1)
            if is_whole(piece):
                places += 1 + len(parts)
                for part in parts:
                    del loose[part]
            else:
                loose[piece] = pair
    return merges


def _loose_parts(pair: Pair, loose: Mapping[str, Pair]) -> set[str]:
    """The loose ends that a pair is made of, parts of parts included."""
    found: set[str] = set()
    todo = [part for part in pair if part in loose]
    while todo:
        part = todo.pop()
        found.add(part)
        todo += [inner for inner in loose[part] if inner in loose]
    return found


class _Learner:
    """The words as they stand, and which pairs they hold."""

    def __init__(self, words: Mapping[Atoms, float], allowed: Callable[[str], bool], known: frozenset[str]) -> None:
        self._words = [list(atoms) for atoms in words]
        self._weights = list(words.values())
        self._allowed, self._known = allowed, set(known)
        self._can: dict[str, bool] = {}
        self._totals: dict[Pair, float] = defaultdict(float)
        self._where: dict[Pair, set[int]] = defaultdict(set)
        for index, symbols in enumerate(self._words):
            for i in range(len(symbols) - 1):
                pair = symbols[i], symbols[i + 1]
                self._totals[pair] += self._weights[index]
                self._where[pair].add(index)
        self._heap = [(-total, pair) for pair, total in self._totals.items() if self._may(pair)]
        heapq.heapify(self._heap)

    def _may(self, pair: Pair) -> bool:
        text = pair[0] + pair[1]
        if text not in self._can:
            self._can[text] = self._allowed(text)
        return self._can[text] and text not in self._known

    def best(self) -> Pair | None:
        """The heaviest pair; entries of the heap that are out of date are put right when they come up."""
        while self._heap:
            minus, pair = heapq.heappop(self._heap)
            total = self._totals.get(pair, 0.0)
            if total <= 1e-12 or not self._may(pair):  # what sums and differences leave of 0
                continue
            if -minus > total * (1 + 1e-9):
                heapq.heappush(self._heap, (-total, pair))
                continue
            return pair
        return None

    def join(self, pair: Pair) -> None:
        left, right = pair
        new = left + right
        grown: set[Pair] = set()
        for index in self._where.pop(pair):
            symbols, weight = self._words[index], self._weights[index]
            i = 0
            while i < len(symbols) - 1:
                if symbols[i] != left or symbols[i + 1] != right:
                    i += 1
                    continue
                if i:
                    self._totals[symbols[i - 1], left] -= weight
                    grown.add(self._add((symbols[i - 1], new), index, weight))
                if i + 2 < len(symbols):
                    self._totals[right, symbols[i + 2]] -= weight
                    grown.add(self._add((new, symbols[i + 2]), index, weight))
                symbols[i : i + 2] = [new]
                i += 1
        self._totals.pop(pair, None)
        self._known.add(new)
        for changed in grown:
            if self._may(changed):
                heapq.heappush(self._heap, (-self._totals[changed], changed))

    def _add(self, pair: Pair, index: int, weight: float) -> Pair:
        self._totals[pair] += weight
        self._where[pair].add(index)
        return pair


def without_loose_ends(merges: Sequence[Pair], is_whole: Callable[[str], bool]) -> list[Pair]:
    """The merges without those of broken characters that no whole piece needs, as an end by number leaves some."""
    needed: set[str] = set()
    kept = []
    for left, right in reversed(merges):
        if is_whole(left + right) or left + right in needed:
            needed |= {left, right}
            kept.append((left, right))
    return kept[::-1]
