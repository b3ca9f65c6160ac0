"""The order of joins: it only gets better, it makes every piece it can, and it comes near the limit."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bllossom.tokenizer.convert import encode_alone
from bllossom.vocab.repair.priorities import Priorities, find_culprit, join, shortest_by_joins
from bllossom.vocab.repair.segments import Atoms, shortest

pieces_and_parts = st.lists(st.text("abc", min_size=2, max_size=5), min_size=1, max_size=8).map(
    lambda pieces: sorted({piece[:k] for piece in pieces for k in range(2, len(piece) + 1)})
)
texts = st.dictionaries(st.lists(st.sampled_from("abc"), min_size=2, max_size=8).map(tuple), st.integers(1, 9))


def cost(priorities: Priorities, segments: dict[Atoms, int]) -> int:
    return sum(len(join(segment, priorities.ranks)) * count for segment, count in segments.items())


@settings(deadline=None)
@given(pieces_and_parts, st.text("abc", min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_join_is_bpe(pieces: list[str], text: str, generator) -> None:
    generator.shuffle(pieces)
    ranks = {piece: float(i) for i, piece in enumerate(pieces)}
    scores = {piece: -float(i) for i, piece in enumerate(pieces)}
    assert join(text, ranks) == encode_alone(text, scores)[-1]


@settings(deadline=None)
@given(pieces_and_parts, texts)
def test_improving_never_costs_and_makes_every_piece_that_has_a_prefix_chain(
    pieces: list[str], segments: dict[Atoms, int]
) -> None:
    atoms = {piece: tuple(piece) for piece in pieces}
    priorities = Priorities(atoms, segments)
    before, unmade = cost(priorities, segments), len(priorities.unmade())
    priorities.improve()
    assert len(priorities.unmade()) <= unmade
    if len(priorities.unmade()) == unmade:
        assert cost(priorities, segments) <= before
    assert sorted(priorities.ordered()) == sorted(pieces)
    assert priorities.unmade() == [
        "".join(of_piece) for of_piece in atoms.values() if join(of_piece, priorities.ranks) != ["".join(of_piece)]
    ]
    # What it keeps count of is true.
    for segment, length in zip(priorities.segments, priorities.lengths, strict=True):
        assert length == len(join(segment, priorities.ranks))
        assert length >= len(shortest(segment, atoms))


def test_the_culprit_and_its_better_are_named() -> None:
    # ▁시 first leaves 스 and 템 with nothing to join: 시스 has to come before it.
    ranks = {"▁시": 0.0, "시스": 1.0, "시스템": 2.0, "▁시스템": 3.0}
    assert join("▁시스템", ranks) == ["▁시", "스", "템"]
    assert find_culprit(tuple("▁시스템"), ranks) == ("▁시", ["시스"])
    segments = {("▁", "시"): 1000}
    priorities = Priorities({piece: tuple(piece) for piece in ranks}, segments)
    priorities.improve()
    assert priorities.unmade() == []
    assert join("▁시스템", priorities.ranks) == ["▁시스템"]


def test_the_goal_counts_only_pieces_that_can_be_joined_from_what_there_is() -> None:
    pieces = {"▁시", "시스", "시스템", "▁시스템"}
    assert shortest_by_joins(list("▁시스템"), pieces) == 1
    assert shortest_by_joins(["▁시", "스", "템"], pieces) == 3


def test_a_given_order_is_taken() -> None:
    priorities = Priorities({"ab": ("a", "b"), "bc": ("b", "c")}, {}, ["bc", "ab"])
    assert priorities.ordered() == ["bc", "ab"]
    assert join("abc", priorities.ranks) == ["a", "bc"]
