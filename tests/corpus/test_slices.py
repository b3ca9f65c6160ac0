"""What a slice looks up."""

import timeit
from functools import partial

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bllossom.corpus.dedup import are_among

NUMBERS = st.lists(st.integers(0, 50)).map(lambda numbers: np.asarray(sorted(numbers), np.int64))


@given(numbers=NUMBERS, near=NUMBERS)
def test_near_duplicates_are_found_by_their_numbers(numbers: np.ndarray, near: np.ndarray) -> None:
    assert are_among(numbers, near).tolist() == np.isin(numbers, near).tolist()


def test_a_batch_costs_the_same_however_many_near_duplicates_there_are() -> None:
    batch = np.arange(500_000, 501_000)

    def seconds(near: np.ndarray) -> float:
        return min(timeit.repeat(partial(are_among, batch, near), number=20, repeat=5))

    # A thousand times as many: looking at all of them would take some hundred times as long.
    assert seconds(np.arange(0, 3_000_000, 3)) < 10 * seconds(np.arange(500_000, 503_000, 3))
