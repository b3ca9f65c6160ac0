import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bllossom.tokens.schedule import shuffled, split_by

SHARES = st.floats(0.01, 100)


@given(size=st.integers(1, 3000), key=st.text(max_size=8))
def test_a_shuffle_is_a_permutation(size: int, key: str) -> None:
    assert np.array_equal(np.sort(shuffled(size, key, np.arange(size))), np.arange(size))


@given(size=st.integers(1, 2**34), key=st.text(max_size=8), data=st.data())
def test_a_place_does_not_depend_on_what_else_is_asked(size: int, key: str, data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20))
    together = shuffled(size, key, np.asarray(asked))
    assert together.tolist() == [shuffled(size, key, np.asarray([one]))[0] for one in asked]
    assert (together < size).all()


def test_the_order_of_training_does_not_change_from_version_to_version() -> None:
    assert shuffled(12, "0/ko/news/0", np.arange(12)).tolist() == [6, 7, 4, 11, 3, 2, 1, 8, 9, 5, 10, 0]
    assert shuffled(10**6, "7/en/wiki/3", np.asarray([0, 1, 2, 999_999])).tolist() == [450280, 799386, 490012, 13804]


def test_keys_give_other_orders_and_neighbours_part() -> None:
    one, other = (shuffled(10_000, key, np.arange(10_000)) for key in ("0", "1"))
    assert (one == other).mean() < 0.01
    # Of a random order, neighbours are a third of the size apart on average.
    assert np.abs(np.diff(one)).mean() == pytest.approx(10_000 / 3, rel=0.05)


@given(shares=st.lists(SHARES, min_size=2, max_size=4), blocks=st.integers(0, 10**6))
def test_every_prefix_is_within_one_block_of_its_target(shares: list[float], blocks: int) -> None:
    counts = split_by(dict(enumerate(shares))).counts(blocks)
    assert sum(counts.values()) == blocks
    for leaf, share in enumerate(shares):
        assert abs(counts[leaf] - blocks * share / sum(shares)) < 1


@given(ko=SHARES, en=SHARES, blocks=st.integers(0, 10**6))
def test_two_languages_stay_within_half_a_block(ko: float, en: float, blocks: int) -> None:
    counts = split_by({0: ko, 1: en}).counts(blocks)
    assert abs(counts[0] - blocks * ko / (ko + en)) <= 0.5 + 1e-3


@settings(max_examples=30)
@given(shares=st.lists(SHARES, min_size=1, max_size=7), start=st.integers(0, 10**7))
def test_locating_agrees_with_counting(shares: list[float], start: int) -> None:
    split = split_by(dict(enumerate(shares)))
    indices = np.arange(start, start + 50)
    leaves, ordinals = np.empty(50, np.int64), np.empty(50, np.int64)
    split.locate(indices, leaves, ordinals)
    for index, leaf, ordinal in zip(indices.tolist(), leaves.tolist(), ordinals.tolist(), strict=True):
        before, after = split.counts(index), split.counts(index + 1)
        assert ordinal == before[leaf]
        assert {place for place in before if after[place] != before[place]} == {leaf}
