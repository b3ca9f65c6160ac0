"""Dealing blocks out to many languages so that after every block each has had its share, to within one block.

Blocks are slots of time, and a language's k-th block (k from 0) is a job: not before slot ⌊k/s⌋, and done by slot
⌈(k + 1)/s⌉ for a share s. Keeping both is the same as never being a whole block ahead or behind (the windows of Baruah,
Cohen, Plaxton and Varvel, *Proportionate Progress*, 1996), and earliest deadline first does so.

That rule alone would have to be followed from block 0. So the counts at every `STRETCH` blocks are fixed by themselves,
and the rule fills the stretch between two of them, in O(STRETCH) wherever in training it lies. The counts are targets,
some rounded up: a job done already, which could also wait. The future can be kept if those done are the ones with the
nearest deadlines. The past can be kept if, for every slot before, the jobs released by then that are not done are no
more than there were others to fill the slots with (Hall's condition). So `_counts_at` takes jobs by release, does as
many as the past demands, nearest deadline first, and then those of the rest with the nearest deadlines. That there is
always such a choice is shown by the schedule that starts at block 0.
"""

import heapq
from collections.abc import Mapping

import numpy as np

from bllossom.tokens.schedule import SHARE_BITS, Ints

STRETCH = 1 << 14  # blocks; a language has to have one of them at least
STRETCHES = 4  # kept: training reads forwards
ONE = 1 << SHARE_BITS


class FairSplit:
    """Deals the natural numbers out to leaves, each by its share; after any n, less than one off n · share."""

    def __init__(self, shares: Mapping[int, float]) -> None:
        """Shares on any scale, none of them less than one in STRETCH."""
        self._leaves = sorted(shares)
        self._shares = _whole_shares([shares[leaf] for leaf in self._leaves])
        self._stretches: dict[int, tuple[Ints, Ints]] = {}

    def counts(self, blocks: int) -> dict[int, int]:
        """How many of the first `blocks` each leaf gets."""
        number, rest = divmod(blocks, STRETCH)
        counts = np.asarray(_counts_at(number * STRETCH, self._shares))
        if rest:
            counts += np.bincount(self._stretch(number)[0][:rest], minlength=len(counts))
        return dict(zip(self._leaves, counts.tolist(), strict=True))

    def locate(self, indices: Ints, leaves: Ints, ordinals: Ints) -> None:
        """Write for each index the leaf it goes to, and how many went there before it."""
        numbers, within = np.divmod(indices, STRETCH)
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            chosen, before = self._stretch(number)
            leaves[mine] = np.asarray(self._leaves)[chosen[within[mine]]]
            ordinals[mine] = before[within[mine]]

    def _stretch(self, number: int) -> tuple[Ints, Ints]:
        stretch = self._stretches.get(number)
        if stretch is None:
            if len(self._stretches) >= STRETCHES:
                del self._stretches[next(iter(self._stretches))]
            stretch = self._stretches[number] = _fill(number * STRETCH, self._shares)
        return stretch


def _whole_shares(shares: list[float]) -> list[int]:
    """Shares as integers whose sum is ONE, by largest remainder."""
    exact = [share * ONE / sum(shares) for share in shares]
    floors = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: floors[place] - exact[place])
    for place in by_remainder[: ONE - sum(floors)]:
        floors[place] += 1
    return floors


def _release(job: int, share: int) -> int:
    """The first slot of a language's job."""
    return job * ONE // share


def _deadline(job: int, share: int) -> int:
    """The slot before which it has to be done."""
    return -(-(job + 1) * ONE // share)


def _counts_at(blocks: int, shares: list[int]) -> list[int]:
    """How many of the first `blocks` each language gets, so that both what was and what comes can be kept."""
    counts = [blocks * share // ONE for share in shares]
    # The jobs that may be done by now or may wait, by release.
    jobs = sorted(
        (_release(count, share), _deadline(count, share), place)
        for place, (count, share) in enumerate(zip(counts, shares, strict=True))
        if blocks * share % ONE
    )
    waiting: list[tuple[int, int]] = []  # deadline, place
    done = 0
    for (_, deadline, place), demanded in zip(jobs, _demanded(blocks, [job[0] for job in jobs], shares), strict=True):
        heapq.heappush(waiting, (deadline, place))
        while done < demanded:
            counts[heapq.heappop(waiting)[1]] += 1
            done += 1
    for _, place in heapq.nsmallest(blocks - sum(counts), waiting):
        counts[place] += 1
    return counts


def _demanded(blocks: int, releases: list[int], shares: list[int]) -> list[int]:
    """How many of the first 1, 2, … jobs by release have to be done by `blocks`, or slots would have been empty."""
    if not releases:
        return []
    slots = np.arange(releases[0] + 1, blocks + 1, dtype=np.int64)
    released = np.searchsorted(releases, slots, side="left")
    # What the languages could have been given by a slot (every share rounded up) beyond the slots there were.
    to_spare = sum(-(slots * share) % ONE for share in shares) // ONE
    demanded = np.zeros(len(releases) + 1, np.int64)
    np.maximum.at(demanded, released, released - to_spare)
    return demanded[1:].tolist()


def _fill(first: int, shares: list[int]) -> tuple[Ints, Ints]:
    """The place of the language of each of the STRETCH blocks from `first` on, and how many it was given before."""
    jobs, ends = _counts_at(first, shares), _counts_at(first + STRETCH, shares)
    # The next job of each language: until its release in `coming`, then in `ready`.
    coming = [(_release(job, share), place) for place, (job, share) in enumerate(zip(jobs, shares, strict=True))]
    coming = [(release, place) for release, place in coming if jobs[place] < ends[place]]
    heapq.heapify(coming)
    ready: list[tuple[int, int]] = []  # deadline, place
    chosen, before = np.empty(STRETCH, np.int64), np.empty(STRETCH, np.int64)
    for slot in range(STRETCH):
        while coming and coming[0][0] <= first + slot:
            place = heapq.heappop(coming)[1]
            heapq.heappush(ready, (_deadline(jobs[place], shares[place]), place))
        place = heapq.heappop(ready)[1]
        chosen[slot], before[slot] = place, jobs[place]
        jobs[place] += 1
        if jobs[place] < ends[place]:
            heapq.heappush(coming, (_release(jobs[place], shares[place]), place))
    return chosen, before
