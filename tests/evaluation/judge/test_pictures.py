"""Bars are well-formed, as wide as their counts, and tell in words what they show."""

import xml.etree.ElementTree as ElementTree
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bllossom.evaluation.judge.pictures import SHOWN, WIDTH, bars
from bllossom.evaluation.judge.report import against_each
from bllossom.evaluation.judge.verdicts import Judged

SVG = "{http://www.w3.org/2000/svg}"
COUNTS = st.dictionaries(st.sampled_from([*SHOWN, "error"]), st.integers(0, 500))


@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf8", exclude_categories=["Cc", "Cs"]), max_size=20), COUNTS),
        min_size=1,
        max_size=4,
    )
)
def test_parts_are_as_wide_as_their_counts(rows):
    root = ElementTree.fromstring(bars("<title> & more", rows))
    drawn = [rect for rect in root.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    expected = [
        (outcome, counts[outcome] / sum(counts.get(name, 0) for name in SHOWN) * WIDTH)
        for _, counts in rows
        for outcome in SHOWN
        if counts.get(outcome)
    ]
    assert [rect.get("class") for rect in drawn] == [outcome for outcome, _ in expected]
    for rect, (_, width) in zip(drawn, expected, strict=True):
        assert abs(float(rect.get("width")) - width) <= 0.051


def test_what_is_shown_is_told_too_and_errors_stand_beside_the_name():
    svg = bars("x, 10 prompts", [("against y", {"win": 6, "lose": 2, "error": 2})])
    assert "<title>x, 10 prompts. against y: win 6, tie 0, inconsistent 0, lose 2</title>" in svg
    assert "against y (2 errors)" in svg


def test_a_korean_name_has_the_room_that_it_takes():
    svg = bars("x", [("against " + "가" * 40, {"win": 1})])
    (drawn,) = [rect for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    assert float(drawn.get("x")) > 13 * 40  # a syllable is as wide as it is high, and letters are 13 px


def test_a_models_outcomes_are_its_own_whichever_side_it_stood_on():
    pairs = {
        ("x", "y"): [Judged("1", {"ab": "a", "ba": "a"}, 1, 1), Judged("2", {"ab": "a", "ba": "b"}, 1, 1)],
        ("z", "x"): [Judged("1", {"ab": "a", "ba": "a"}, 1, 1), Judged("2", {"ab": "tie", "ba": "tie"}, 1, 1)],
    }
    assert against_each("x", pairs) == {
        "against y": Counter(win=1, inconsistent=1),
        "against z": Counter(lose=1, tie=1),
    }
