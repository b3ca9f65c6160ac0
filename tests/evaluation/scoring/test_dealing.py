"""Work is dealt whole, and evenly; tests/evaluation/test_eval_ranks.py has real ranks."""

from hypothesis import given
from hypothesis import strategies as st

from bllossom.evaluation.scoring.dealing import deal, work_shared
from bllossom.ranks.ranks import alone


@given(st.lists(st.integers(1, 1000), max_size=40), st.integers(1, 9))
def test_each_piece_is_dealt_once_and_no_rank_is_ahead_by_more_than_a_piece(costs: list[int], ranks: int) -> None:
    dealt = deal(costs, ranks)
    assert sorted(piece for pieces in dealt for piece in pieces) == list(range(len(costs)))
    loads = [sum(costs[piece] for piece in pieces) for pieces in dealt]
    assert max(loads) - min(loads) <= max(costs, default=0)


def test_results_come_in_the_order_of_the_pieces_and_shares_sum_to_one() -> None:
    done: list[float] = []
    assert work_shared(alone("cpu"), [1, 5, 2], lambda piece: piece * 10, done.append) == [0, 10, 20]
    assert done == [5 / 8, 2 / 8, 1 / 8]
    assert work_shared(alone("cpu"), [], lambda piece: piece, done.append) == []
