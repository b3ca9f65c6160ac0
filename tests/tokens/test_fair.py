import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bllossom.tokens.fair import STRETCH, FairSplit

# Even and lopsided shares, ties among them; the smallest is above one in STRETCH however the others turn out.
SHARES = st.lists(st.floats(0.05, 10) | st.sampled_from([0.05, 1.0, 10.0]), min_size=5, max_size=12)
STARTS = st.integers(0, 3) | st.integers(0, 2**31 // STRETCH - 2)


def dealt(split: FairSplit, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    leaves, ordinals = np.empty(len(indices), np.int64), np.empty(len(indices), np.int64)
    split.locate(indices, leaves, ordinals)
    return leaves, ordinals


@settings(max_examples=40, deadline=None)
@given(shares=SHARES, stretch=STARTS)
def test_every_prefix_is_within_one_block_of_every_target(shares: list[float], stretch: int) -> None:
    split = FairSplit(dict(enumerate(shares)))
    first = stretch * STRETCH
    before = np.asarray(list(split.counts(first).values()))
    leaves, _ = dealt(split, np.arange(first, first + 2 * STRETCH))  # over the seam of two stretches
    counts = before + np.cumsum(leaves[:, None] == np.arange(len(shares)), axis=0)
    blocks = np.arange(first + 1, first + 2 * STRETCH + 1)
    targets = blocks[:, None] * (np.asarray(shares) / sum(shares))
    # Shares are kept in 2**-31, so that 2**31 blocks are one off by that alone.
    assert np.abs(counts - targets).max() < 1 + blocks[-1] / 2**31
    assert (counts.sum(axis=1) == blocks).all()


@settings(max_examples=25, deadline=None)
@given(shares=SHARES, stretch=STARTS, data=st.data())
def test_where_a_block_goes_does_not_depend_on_what_was_asked_before(
    shares: list[float], stretch: int, data: st.DataObject
) -> None:
    first = stretch * STRETCH
    forwards = FairSplit(dict(enumerate(shares)))
    leaves, ordinals = dealt(forwards, np.arange(first, first + 2 * STRETCH))
    for place in data.draw(st.lists(st.integers(0, 2 * STRETCH - 1), min_size=1, max_size=5)):
        alone = FairSplit(dict(enumerate(shares)))
        assert dealt(alone, np.asarray([first + place])) == (leaves[place], ordinals[place])
        counts, after = alone.counts(first + place), alone.counts(first + place + 1)
        assert ordinals[place] == counts[leaves[place]]
        assert {leaf for leaf in counts if after[leaf] != counts[leaf]} == {leaves[place]}
