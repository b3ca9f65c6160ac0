"""Packing loses nothing, overfills nothing, and wastes little."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bllossom.instructions.packing import deal, pack

LENGTHS = st.lists(st.integers(1, 100), min_size=1, max_size=60)


@given(lengths=LENGTHS)
def test_every_dialogue_is_in_one_row_that_holds_it(lengths: list[int]) -> None:
    rows = pack(lengths, 100)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    tokens = [sum(lengths[index] for index in row) for row in rows]
    assert max(tokens) <= 100
    # No two rows could be one: best fit would have put the later's longest into the earlier.
    assert all(first + second > 100 for i, first in enumerate(tokens) for second in tokens[i + 1 :])
    assert pack(lengths, 100) == rows


def test_packing_is_near_the_best_there_is() -> None:
    lengths = np.random.default_rng(0).integers(10, 300, 400).tolist()
    assert len(pack(lengths, 1000)) <= 1.03 * sum(lengths) / 1000 + 1
    assert pack([9, 3, 6, 2, 8, 1], 10) == [[0, 5], [3, 4], [1, 2]]


@given(tokens=LENGTHS, ranks=st.integers(1, 8))
def test_rows_are_dealt_by_tokens(tokens: list[int], ranks: int) -> None:
    hands = deal(tokens, ranks)
    assert sorted(index for hand in hands for index in hand) == list(range(len(tokens)))
    held = [sum(tokens[index] for index in hand) for hand in hands]
    assert max(held) - min(held) <= max(tokens)
