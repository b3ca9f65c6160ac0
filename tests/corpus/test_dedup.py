import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bllossom.corpus.dedup import SeenHashes

# Few values, and many that share their low bits: collisions in the table are the rule.
HASHES = st.builds(lambda high, low: (high << 40) | low, st.integers(0, 50), st.integers(0, 3))


@given(st.lists(st.lists(HASHES, max_size=40), max_size=10))
def test_it_is_a_set_that_says_what_was_new(batches: list[list[int]]) -> None:
    seen, known = SeenHashes(), {0}
    for batch in batches:
        # 0 marks a free slot, and stands for 1.
        expected = []
        for value in batch:
            expected.append((value or 1) not in known)
            known.add(value or 1)
        assert seen.add(np.asarray(batch, np.uint64)).tolist() == expected
    assert len(seen) == len(known) - 1


def test_it_grows() -> None:
    seen, values = SeenHashes(), np.random.default_rng(0).integers(1, 2**63, 300_000, np.uint64)
    for part in np.array_split(values, 7):
        assert seen.add(part).all()
    assert not seen.add(values).any()
    assert len(seen) == 300_000
