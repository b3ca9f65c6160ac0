"""Sequences that begin alike, packed into one row, so that what they share is computed once.

    the sun │ rises            row        the sun rises sets slow      a node's parent is the token before it;
    the sun │ sets slow   →    parents     –   0    1    1    3        a node sees its ancestors and itself
                               positions   0   1    2    2    3

A row is a tree of tokens (SpecInfer, arXiv 2305.09781, section 4, calls the mask that goes with it tree attention). Its
choices share a question, and questions share the solved examples in front of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Tree:
    """One row. Node i stands for `tokens[i]`, comes after node `parents[i]` (-1: nothing), at place `positions[i]`."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    children: list[dict[int, int]] = field(default_factory=lambda: [{}])  # by token; [0] is of the root, [i + 1] of i

    @property
    def branches(self) -> bool:
        """True where some node is not simply behind the one before it: the row needs a mask."""
        return self.parents != list(range(-1, len(self.tokens) - 1))

    def add(self, ids: Sequence[int]) -> list[int]:
        """Add a sequence; the node of each of its tokens."""
        path, node = [], -1
        for position, token in enumerate(ids):
            following = self.children[node + 1].get(token)
            if following is None:
                following = len(self.tokens)
                self.children[node + 1][token] = following
                self.tokens.append(token)
                self.parents.append(node)
                self.positions.append(position)
                self.children.append({})
            path.append(following)
            node = following
        return path

    def mask(self, size: int) -> NDArray[np.bool_]:
        """Who sees whom: bool [size, size]; places behind the row's end see themselves alone."""
        seen = np.eye(size, dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


def grow(inputs: Sequence[tuple[int, ...]], longest: int, width: int) -> tuple[list[Tree], list[tuple[int, list[int]]]]:
    """Pack `inputs` into trees of at most `longest` nodes (one sequence may be longer).

    A sequence joins the tree of its neighbour in alphabetical order where that costs less than a row of its own. The
    cost of a row of n tokens is n · 6 · width for the matrices of a layer (24 · width² operations a token) and n² for
    its attention (4 · width a pair), masked or not.

    Returns:
        the trees, and for each input its tree and the node of each of its tokens.
    """
    order = sorted(range(len(inputs)), key=inputs.__getitem__)
    trees: list[Tree] = []
    places: list[tuple[int, list[int]]] = [(0, [])] * len(inputs)
    previous: tuple[int, ...] = ()
    for index in order:
        ids = inputs[index]
        if not trees or not _joins(len(trees[-1].tokens), len(ids), _shared(previous, ids), longest, width):
            trees.append(Tree())
        places[index] = (len(trees) - 1, trees[-1].add(ids))
        previous = ids
    return trees, places


def _joins(row: int, length: int, shared: int, longest: int, width: int) -> bool:
    together = row + length - shared
    saved = shared * 6 * width
    return shared == length or (together <= longest and together**2 - row**2 - length**2 <= saved)


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
