"""Sides are balanced and hidden, and a page that was killed goes on where it was."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.errors import BllossomError
from bllossom.evaluation.judge.pairs import Item, Pair
from bllossom.evaluation.vote.ballots import Ballots


def many(count: int) -> Pair:
    question = [{"role": "user", "content": "?"}]
    return Pair("x", "y", [Item(f"q{n}", question, f"A{n}", f"B{n}", None, None) for n in range(count)])


@given(st.integers(1, 40), st.text(min_size=1, max_size=9))
def test_a_voter_has_each_model_on_the_left_in_half_of_the_pairs(count, voter):
    sequence = Ballots(many(count), []).sequence(voter)
    sides = Counter(order for _, order in sequence)
    assert abs(sides["ab"] - sides["ba"]) <= 1
    assert sorted(item.id for item, _ in sequence) == sorted(f"q{n}" for n in range(count))


def test_voters_have_sequences_of_their_own_and_both_sides_occur():
    ballots = Ballots(many(20), [])
    sequences = [[item.id for item, _ in ballots.sequence(f"voter {n}")] for n in range(6)]
    assert len(set(map(tuple, sequences))) == 6
    sides = {{item.id: order for item, order in ballots.sequence(f"voter {n}")}["q3"] for n in range(20)}
    assert sides == {"ab", "ba"}


def test_choices_are_told_of_the_models_whatever_side_they_stand_on():
    pair = many(10)
    ballots = Ballots(pair, [])
    for _ in pair.items:
        shown = ballots.next("미나")
        choice = "left" if shown["left"].startswith("A") else "right"
        record = ballots.vote("미나", shown["id"], choice)
        assert record["verdict"] == "a"
        assert (record["order"] == "ab") == (choice == "left")
        ballots.count(record)
    assert ballots.next("미나") == {"voter": "미나", "done": 10, "total": 10}
    assert ballots.next("another")["done"] == 0


def test_no_model_is_named_to_the_page():
    pair = replace(many(3), a="secret-one", b="secret-two")
    assert "secret" not in str(Ballots(pair, []).next("v"))


def test_votes_on_the_disk_are_gone_on_from_and_count_once(pair):
    ballots = Ballots(pair, [])
    first = ballots.next("v")
    record = ballots.vote("v", first["id"], "tie")
    again = Ballots(pair, [record])
    assert again.next("v")["done"] == 1
    assert again.next("v")["id"] != first["id"]
    assert again.vote(" v ", first["id"], "left") is None


@pytest.mark.parametrize(
    ("voter", "id_", "choice"),
    [("v", "q9", "left"), ("v", "q0", "up"), (" ", "q0", "left"), (3, "q0", "left"), ("v" * 61, "q0", "tie")],
)
def test_what_is_no_vote_is_refused(pair, voter, id_, choice):
    with pytest.raises(BllossomError):
        Ballots(pair, []).vote(voter, id_, choice)


def test_votes_on_others_are_refused(pair):
    vote = Ballots(pair, []).vote("v", "q0", "left")
    for other in (replace(pair, a="third"), replace(pair, items=pair.items[1:])):
        with pytest.raises(BllossomError, match="name another output for these files"):
            Ballots(other, [vote])


@pytest.mark.parametrize("changed", [{"answer_b": "another"}, {"messages": [{"role": "user", "content": "Why?"}]}])
def test_votes_on_answers_of_before_are_refused(pair, capsys, changed):
    vote = Ballots(pair, []).vote("v", "q0", "left")
    others = replace(pair, items=[replace(pair.items[0], **changed), *pair.items[1:]])
    with pytest.raises(BllossomError, match="on other answers of old and new to prompt q0; name another output"):
        Ballots(others, [vote])
    del vote["content"]
    assert Ballots(others, [vote]).cast == {"v": {"q0": vote["verdict"]}}
    assert "1 votes do not say on which answers they were cast" in capsys.readouterr().err
