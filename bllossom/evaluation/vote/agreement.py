"""How far raters agree: share, Cohen's κ for two, Krippendorff's α for any number with votes missing.

Votes are names ("a", "b", "tie"): no order stands between them, so that α is the nominal one. Both coefficients are 1
where all agree, 0 where they agree as often as chance has it, and None where everybody says the same throughout: then
there is no chance to compare with.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

Votes = Mapping[str, Mapping[str, str]]
"""Each rater's vote by item: `votes[rater][item]`. Items without a vote are left out."""


def shared(one: Mapping[str, str], other: Mapping[str, str]) -> list[tuple[str, str]]:
    """Both raters' votes on the items that both have rated."""
    return [(one[item], other[item]) for item in sorted(one.keys() & other.keys())]


def agreement_share(votes: Votes) -> float | None:
    """Of all pairs of votes on one item, the share that agrees; None where no item has two votes."""
    pairs = [pair for one, other in combinations(votes.values(), 2) for pair in shared(one, other)]
    return sum(first == second for first, second in pairs) / len(pairs) if pairs else None


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's κ of two raters (Educational and Psychological Measurement 20, 1960), from their votes on each item."""
    if not pairs:
        return None
    observed = sum(first == second for first, second in pairs) / len(pairs)
    firsts, seconds = Counter(first for first, _ in pairs), Counter(second for _, second in pairs)
    chance = sum(firsts[vote] * seconds[vote] for vote in firsts) / len(pairs) ** 2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def krippendorffs_alpha(votes: Votes) -> float | None:
    """Krippendorff's nominal α (Content Analysis, 2004, chapter 11), over the items that have two votes or more."""
    items: dict[str, Counter[str]] = {}
    for by_item in votes.values():
        for item, vote in by_item.items():
            items.setdefault(item, Counter())[vote] += 1
    rated = [counts for counts in items.values() if counts.total() > 1]
    totals: Counter[str] = sum(rated, Counter())
    total = totals.total()
    observed = sum(_disagreeing(counts) / (counts.total() - 1) for counts in rated)
    expected = _disagreeing(totals) / (total - 1) if total > 1 else 0.0
    return None if expected == 0 else 1 - observed / expected


def _disagreeing(counts: Counter[str]) -> int:
    """Ordered pairs of votes that differ."""
    return counts.total() ** 2 - sum(count**2 for count in counts.values())
