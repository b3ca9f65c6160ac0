"""The last tag is the verdict; both orders together make the outcome."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.evaluation.judge.verdicts import ORDERS, Judged, of_models, parse

TAGS = {"first": "[[A]]", "second": "[[B]]", "tie": "[[C]]"}


def judged(ab, ba):
    return Judged("1", {"ab": ab, "ba": ba}, 10, 10)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[[A]]", "first"),
        ("It could be [[A]] or [[C]], yet on reflection: [[B]].", "second"),
        ("[[ a ]]", "first"),
        ("**[[C]]**\n", "tie"),
        ("판정: [[B]]\n\n감사합니다.", "second"),
        ("[[A]][[B]]", "second"),
        ("The first one is better.", None),
        ("[A]", None),
        ("[[D]]", None),
        ("", None),
        ("[[A", None),
    ],
)
def test_the_last_tag_counts(text, place):
    assert parse(text, TAGS) == place


def test_a_prompt_names_its_own_tags():
    tags = {"first": "<1>", "second": "<2>", "tie": "<=>"}
    assert parse("[[A]] <2> <=>", tags) == "tie"
    assert parse("[[A]]", tags) is None


def test_a_tag_within_another_is_not_read_out_of_it():
    # "[[A]]" ends where "A]]" ends: the longer one is what was written.
    assert parse("x [[A]]", {"first": "[[A]]", "second": "[[B]]", "tie": "[[A]]]"}) == "first"


@given(st.lists(st.sampled_from(["first", "second", "tie", "prose [[ A", "]] then "]), max_size=8))
def test_any_prose_between_tags_changes_nothing(parts):
    text = " ".join(TAGS.get(part, part) for part in parts)
    places = [part for part in parts if part in TAGS]
    broken = "prose [[ A" in parts and "]] then " in parts  # these two may make a tag
    if not broken:
        assert parse(text, TAGS) == (places[-1] if places else None)


def test_places_stand_for_models_by_order():
    assert [of_models("first", order) for order in ORDERS] == ["a", "b"]
    assert [of_models("second", order) for order in ORDERS] == ["b", "a"]
    assert [of_models("tie", order) for order in ORDERS] == ["tie", "tie"]
    assert [of_models(None, order) for order in ORDERS] == ["error", "error"]


@pytest.mark.parametrize(
    ("ab", "ba", "outcome", "flipped"),
    [
        ("a", "a", "win", False),
        ("b", "b", "lose", False),
        ("tie", "tie", "tie", False),
        ("a", "b", "inconsistent", True),
        ("b", "a", "inconsistent", True),
        ("a", "tie", "inconsistent", False),
        ("tie", "b", "inconsistent", False),
        ("error", "a", "error", False),
        ("tie", "error", "error", False),
        ("error", "error", "error", False),
    ],
)
def test_outcomes(ab, ba, outcome, flipped):
    assert judged(ab, ba).outcome() == outcome
    assert judged(ab, ba).flipped() == flipped


def test_a_vote_is_one_order():
    assert Judged("1", {"ba": "a"}, 1, 1).outcome() == "win"
    assert Judged("1", {}, 1, 1).outcome() == "error"
