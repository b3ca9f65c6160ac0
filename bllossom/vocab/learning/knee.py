"""How many pieces are worth their rows: tokens per word against the number of new pieces.

An embedding row that is seldom trained stays close to its first value. `auto` takes the largest number of which at
most a tenth occur less than a hundred times in the text they were learned on.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bllossom.errors import BllossomError
from bllossom.vocab.families.vocabulary import Atoms
from bllossom.vocab.learning.learn import Pair

MOST = 32_000  # pieces that auto tries at most
RARE = 100  # occurrences, below which a piece counts as rare
RARE_SHARE = 0.1


@dataclass(frozen=True)
class Point:
    """What the first `pieces` merges come to on the learning text."""

    pieces: int
    tokens_per_word: float
    rare: int
    """New pieces that occur less than RARE times in the text so encoded; parts of characters count too."""


@dataclass(frozen=True)
class Remainder:
    """Of a text, how many words stand between spaces, and the tokens that no new piece is in."""

    spaced_words: int
    tokens: int


def make_curve(
    merges: Sequence[Pair],
    words: Mapping[Atoms, int],
    remainder: Remainder,
    encode: Callable[[Sequence[Pair], Sequence[Atoms]], list[Sequence[str]]],
    sizes: Sequence[int],
) -> list[Point]:
    """Encode the words anew with the first so many merges, for each size."""
    keys = list(words)
    counts = np.array([words[key] for key in keys])
    points = []
    for size in sizes:
        new = {left + right for left, right in merges[:size]}
        uses: Counter[str] = Counter()
        encoded = encode(merges[:size], keys)
        for pieces, count in zip(encoded, counts.tolist(), strict=True):
            for piece in pieces:
                if piece in new:
                    uses[piece] += count
        tokens = int((np.array([len(pieces) for pieces in encoded]) * counts).sum())
        rare = sum(uses[piece] < RARE for piece in new)
        points.append(Point(size, round((tokens + remainder.tokens) / max(remainder.spaced_words, 1), 4), rare))
    return points


def choose_size(curve: Sequence[Point]) -> int:
    """The largest size with few enough rare pieces.

    Raises:
        BllossomError: there is none.
    """
    fitting = [point.pieces for point in curve if point.rare <= RARE_SHARE * point.pieces]
    if not fitting:
        raise BllossomError(
            f"donor: more than a tenth of even {curve[0].pieces:,} pieces occur less than {RARE} times in this text; "
            "name more text, or set pieces to a number"
        )
    return max(fitting)


def as_table(curve: Sequence[Point]) -> list[dict[str, Any]]:
    """The curve for report.json."""
    return [asdict(point) for point in curve]
