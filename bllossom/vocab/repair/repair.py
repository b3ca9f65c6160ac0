"""Repair: give every new piece a way to be made, and the order of joins that serves the text best.

KoBERT's pieces come from a Unigram model, which takes a word whole; BPE can only join two pieces that exist. Of the
7,478 pieces that Llama 2 lacks, 1,117 have no such pair. `add` adds the fewest pieces that mend all (intermediates.py);
`swap` gives up donor pieces for them, so that the size stays. Both then choose the order of joins (priorities.py).
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.vocab.families.vocabulary import Atoms
from bllossom.vocab.repair.intermediates import count_savings, cover, find_candidates, missing
from bllossom.vocab.repair.letters import Letters
from bllossom.vocab.repair.parts import MANY, learn_parts
from bllossom.vocab.repair.priorities import Priorities, join
from bllossom.vocab.repair.segments import count_segments, count_uses

ATTEMPTS = 5
CHANGES_OTHERS = "cannot be made without changing text of other scripts"


@dataclass(frozen=True)
class Repaired:
    """The new pieces of a repaired vocabulary."""

    pieces: list[str]  # in the order of their ids: the donor's, in its order, then the intermediates
    ranks: dict[str, int]  # priority of each piece, 0 first
    intermediates: list[str]
    given_up: list[str]  # in the donor's order
    left_out: dict[str, list[str]] = field(default_factory=dict)  # the donor's that could not be added, by the reason


class Problem:
    """The donor's pieces as the base's merges leave them, and the text they are to serve."""

    def __init__(
        self,
        donor: Sequence[str],
        spell: Callable[[str], Atoms],
        words: Mapping[Atoms, int],
        allowed: Callable[[str], bool],
        is_whole: Callable[[str], bool] = bool,
    ) -> None:
        """`spell` gives a piece's atoms, `words` are the text's, as their atoms, with their counts; `allowed` says
        which strings may be added, `is_whole` which begin and end where characters do."""
        self.letters = Letters(donor, spell, is_whole, allowed)
        self.allowed = allowed
        self.atoms_of: Callable[[str], Atoms] = functools.cache(self.letters.of)
        self.donor = [piece for piece in donor if self.letters.impossible.isdisjoint(self.atoms_of(piece))]
        self.impossible = [piece for piece in donor if not self.letters.impossible.isdisjoint(self.atoms_of(piece))]
        atoms = self.multi(self.donor)
        self.candidates = find_candidates(atoms, allowed)
        longest = max(map(len, atoms.values()), default=1)
        joined: Counter[Atoms] = Counter()
        for word, count in words.items():
            joined[self.letters.joined(word)] += count
        self.segments = count_segments(joined, atoms.keys() | self.candidates, longest)

    def multi(self, pieces: Iterable[str]) -> dict[str, Atoms]:
        """The atoms of those pieces that are to be joined at all."""
        return {piece: atoms for piece in pieces if len(atoms := self.atoms_of(piece)) > 1}


def repair_by_adding(problem: Problem) -> Repaired:
    """Keep every donor piece, and add the fewest that mend all."""
    wanted, first_order = problem.multi(problem.donor), None
    if len(problem.candidates) > MANY:
        say(
            f"repair: {len(problem.candidates):,} possible intermediates are too many to search: learning them "
            "instead; a BPE donor (bllossom train-vocab, type: bpe) needs hardly any"
        )
        added, first_order = learn_parts(wanted, count_uses(wanted, problem.segments), problem.allowed)
    else:
        added = cover(wanted, count_savings(problem.candidates, problem.segments, wanted))
    priorities = Priorities(problem.multi([*problem.donor, *added]), problem.segments, first_order)
    priorities.improve()
    while unmade := priorities.unmade():
        # Some pieces exclude each other in every order that was tried. Joining two of what is left of them, after all
        # else, always brings them a step nearer.
        left = (join(problem.atoms_of(piece), priorities.ranks) for piece in unmade)
        pairs = Counter(a + b for symbols in left for a, b in itertools.pairwise(symbols) if problem.allowed(a + b))
        pair = max(pairs, key=lambda text: (pairs[text], text))
        added.add(pair)
        order = [*priorities.ordered(), pair]
        priorities = Priorities(problem.multi([*problem.donor, *added]), problem.segments, order)
        priorities.improve()
    added |= problem.letters.needed_by(problem.donor).difference(problem.donor)
    return _result(problem, problem.donor, added, priorities)


def repair_by_swapping(problem: Problem, keep: Collection[str], places: int, base_size: int) -> Repaired:
    """Fill exactly `places` with those pieces of `keep` that serve the text best, and what mends them.

    `base_size`, the ids before the places, is for what is said of sizes.

    Raises:
        BllossomError: there are not pieces enough, the single characters alone are too many, or some pieces exclude
            each other whatever the order.
    """
    barred: set[str] = set()
    for _ in range(ATTEMPTS):
        chosen = _choose(problem, [piece for piece in keep if piece not in barred], places, base_size)
        kept = [piece for piece in problem.donor if piece in chosen]
        priorities = Priorities(problem.multi(chosen), problem.segments)
        priorities.improve()
        unmade = priorities.unmade()
        if not unmade:
            return _result(problem, kept, chosen.difference(kept), priorities)
        barred |= set(unmade)
    raise BllossomError(f"repair: no order of joins makes {unmade[0]!r}; choose a donor_filter that leaves it out")


def _choose(problem: Problem, keep: Sequence[str], places: int, base_size: int) -> set[str]:
    """The pieces of `keep` that save most tokens for the places they take, and the intermediates they need."""
    single = [piece for piece in keep if len(problem.atoms_of(piece)) == 1]
    multi = problem.multi(keep)
    saved = count_savings(multi.keys() | problem.candidates, problem.segments, multi)
    lacking = {piece: missing(atoms, multi, (), problem.candidates) for piece, atoms in multi.items()}
    # Of equals, the donor's rarest (they stand last) go first. A single character is never given up: it would be bytes.
    best_first = sorted(multi, key=lambda piece: -saved[piece] / (1 + lacking[piece]))

    def mend(count: int) -> set[str]:
        taken = {piece: multi[piece] for piece in best_first[:count]}
        added = cover(taken, {text: saved[text] for text in problem.candidates.union(best_first[count:])})
        return added | (problem.letters.needed_by([*single, *taken]) - set(single))

    least = len(single) + len(mend(0))
    if least > places:
        raise BllossomError(
            f"repair: swap gives up no single character, and those of the donor's pieces take {least:,} places, not "
            f"{places:,}; raise expected_size to {base_size + least} or more, or use repair: add"
        )
    low, high = 0, len(best_first)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(single) + middle + len(mend(middle)) <= places
        low, high = (middle, high) if fits else (low, middle - 1)
    chosen = {*single, *best_first[:low], *mend(low)}
    # The last places, too few for the next piece and its parts, go to what can be made as it is: pieces, then any part.
    for text in [*best_first[low:], *sorted(problem.candidates, key=lambda text: (-saved[text], text))]:
        if len(chosen) < places and text not in chosen and missing(problem.atoms_of(text), chosen, (), {text}) == 1:
            chosen.add(text)
    if len(chosen) != places:
        raise BllossomError(
            f"repair: swap finds {len(chosen):,} pieces for {places:,} places; lower expected_size to "
            f"{base_size + len(chosen)}, or use repair: add"
        )
    return chosen


def _result(problem: Problem, kept: Sequence[str], added: Collection[str], priorities: Priorities) -> Repaired:
    intermediates = sorted(added)
    pieces = [*kept, *intermediates]
    chosen = set(pieces)
    ordered = [piece for piece in problem.letters.order if piece in chosen] + priorities.ordered()
    known, keeping = set(ordered), set(kept)
    ordered += [piece for piece in pieces if piece not in known]  # single characters: nothing to join
    return Repaired(
        pieces=pieces,
        ranks={piece: i for i, piece in enumerate(ordered)},
        intermediates=intermediates,
        given_up=[piece for piece in problem.donor if piece not in keeping],
        left_out={CHANGES_OTHERS: problem.impossible} if problem.impossible else {},
    )
