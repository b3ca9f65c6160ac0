"""Trees hold each sequence, share what is shared, and say who sees whom."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bllossom.evaluation.scoring.prefix_trees import Tree, grow

INPUTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple), min_size=1, max_size=12)


@given(inputs=INPUTS, longest=st.integers(1, 40), width=st.integers(1, 64))
def test_every_sequence_can_be_read_from_its_place(inputs: list[tuple[int, ...]], longest: int, width: int) -> None:
    trees, places = grow(inputs, longest, width)
    for ids, (tree, path) in zip(inputs, places, strict=True):
        assert [trees[tree].tokens[node] for node in path] == list(ids)
        assert [trees[tree].positions[node] for node in path] == list(range(len(ids)))
        seen = trees[tree].mask(len(trees[tree].tokens) + 1)
        assert np.flatnonzero(seen[path[-1]]).tolist() == sorted(path)
    assert all(len(tree.tokens) <= max(longest, max(map(len, inputs))) for tree in trees)
    assert sum(len(tree.tokens) for tree in trees) <= sum(map(len, set(inputs)))


def test_choices_share_a_context_and_questions_their_shots() -> None:
    shots, questions = tuple(range(100, 200)), [tuple(range(n, n + 10)) for n in (0, 10, 20)]
    inputs = [shots + question + (choice, 7) for question in questions for choice in (90, 91, 92)]
    trees, _ = grow(inputs, 1000, 64)
    assert len(trees) == 1
    assert len(trees[0].tokens) == 100 + 3 * (10 + 3 * 2)
    assert trees[0].branches


def test_what_shares_little_stays_apart_and_what_is_equal_is_one() -> None:
    inputs = [(1, *range(10, 60)), (1, *range(60, 110)), (1, *range(10, 60))]
    trees, places = grow(inputs, 1000, 4)
    assert len(trees) == 2
    assert places[0] == places[2]
    assert not any(tree.branches for tree in trees)


def test_a_chain_needs_no_mask_and_padding_sees_itself() -> None:
    tree = Tree()
    tree.add((5, 6))
    assert not tree.branches
    assert tree.mask(3).tolist() == [[True, False, False], [True, True, False], [False, False, True]]
