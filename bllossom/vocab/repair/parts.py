"""Parts for very many pieces: by learning merges on the pieces themselves.

The search for the fewest intermediates (intermediates.py) looks at every stretch of every piece. For an alphabet whose
syllables the base lacks, a Unigram donor of some thousand words has a hundred thousand stretches, and it would not end
in hours. BPE on the list of pieces ends in seconds, makes every piece, and gives an order that works.
"""

from collections.abc import Callable, Collection, Mapping

from bllossom.vocab.families.vocabulary import Atoms
from bllossom.vocab.learning.learn import learn, without_loose_ends

MANY = 20_000
"""Stretches that are no pieces, above which the search is not tried: KoBERT's list on Llama 2 has 5,000."""


def learn_parts(
    wanted: Mapping[str, Atoms], uses: Mapping[str, int], allowed: Callable[[str], bool]
) -> tuple[set[str], list[str]]:
    """The strings to add so that each wanted piece can be made, and all of them with the pieces, first priority first.

    `uses` says how often each piece stands in the text: what is used more is joined earlier.
    """
    words = {atoms: 1.0 + uses.get(piece, 0) for piece, atoms in wanted.items()}
    possible = set(wanted)
    merges = learn(words, _most(wanted), lambda text: text in possible or allowed(text), frozenset(), bool)
    kept = without_loose_ends(merges, lambda text: text in possible)
    order = list(dict.fromkeys(left + right for left, right in kept))
    return set(order) - possible, order


def _most(wanted: Collection[str]) -> int:
    """More merges than all pieces can take: the learner ends by itself."""
    return sum(map(len, wanted)) + 1
