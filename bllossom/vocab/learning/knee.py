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
AUTO_POINTS = 32  # sizes that it chooses from at a time
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


def spread(most: int, points: int) -> list[int]:
    """So many sizes up to `most`, evenly."""
    step = -(-most // points)
    return sorted({*range(step, most, step), most})


def choose_size(curve: Sequence[Point], measure: Callable[[Sequence[int]], Sequence[Point]]) -> int:
    """The largest size with few enough rare pieces; where the curve has none, of those that are measured below it.

    Raises:
        BllossomError: there is none.
    """
    tried, points = [*curve], [*curve]
    while not (fitting := [point.pieces for point in points if point.rare <= RARE_SHARE * point.pieces]):
        if points[0].pieces == 1:
            nearest = min(tried, key=lambda point: point.rare / point.pieces)
            raise BllossomError(
                f"donor: of any number of pieces more than a tenth occur less than {RARE} times in this text (of "
                f"{nearest.pieces:,}, which comes nearest, {nearest.rare:,}); name more text, or set pieces to a number"
            )
        points = [*measure(spread(points[0].pieces - 1, AUTO_POINTS))]
        tried += points
    return max(fitting)


def as_table(curve: Sequence[Point]) -> list[dict[str, Any]]:
    """The curve for report.json."""
    return [asdict(point) for point in curve]
