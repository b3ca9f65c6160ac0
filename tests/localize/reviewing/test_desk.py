"""Who has an example, and what stands of it when two people come to it."""

import pytest

from bllossom.errors import BllossomError
from bllossom.instructions.messages import Conversation, Message
from bllossom.localize.language import load_language, load_source_language
from bllossom.localize.records import Pair
from bllossom.localize.review import book_of
from bllossom.localize.reviewing.desk import LEASE_SECONDS, Desk
from bllossom.localize.rules.checker import Checker
from bllossom.serving.log import AppendLog, read_log

SOURCE = ("What is it?", "It is a house.")
MACHINE = ("Was ist das?", "Das ist ein Haus.")
BETTER = ["Was ist das?", "Das ist ein großes Haus."]


def sides(texts, identity):
    return Conversation((Message("user", texts[0]), Message("assistant", texts[1])), id=identity)


@pytest.fixture
def make_desk(tmp_path):
    """`make_desk(judged_twice)`: a desk of four examples; its clock stands until a test moves it."""
    pairs = [Pair(sides(SOURCE, name), sides(MACHINE, name)) for name in "abcd"]
    checker = Checker(load_language("de"), load_source_language("en"))
    with AppendLog(tmp_path / "reviews.jsonl") as log:
        yield lambda twice=0: Desk(pairs, checker, {}, book_of(pairs, twice), log, clock=lambda: 1000.0)


def shown(desk, reviewer, identity="a"):
    """What the page of a reviewer posts of an example that it has just been shown."""
    example = desk.open({"reviewer": reviewer, "id": identity})["example"]
    texts = [turn["text"] for turn in example["turns"]]
    return {"reviewer": reviewer, "id": identity, "version": example["version"], "texts": texts}


ACTS = {
    "decide": {"action": "accept"},
    "entity": {"old": "Haus", "new": "Hof"},
    "topic": {"turn": 0, "question": "Wer ist das?"},
}


@pytest.mark.parametrize("act", ACTS)
def test_work_of_others_is_not_overwritten_by_an_older_page(make_desk, tmp_path, act):
    desk = make_desk()
    old = shown(desk, "Ada")
    desk.clock = lambda: 1001 + LEASE_SECONDS
    desk.decide({**shown(desk, "Ben"), "action": "accept", "texts": BETTER})
    with pytest.raises(BllossomError, match="a has changed since this page showed it; copy what you typed and"):
        getattr(desk, act)({**old, **ACTS[act]})
    assert desk.book.state("a", "Ada").texts == tuple(BETTER)
    assert len(read_log(tmp_path / "reviews.jsonl")) == 1


@pytest.mark.parametrize("twice", [0, 4])
@pytest.mark.parametrize("act", ACTS)
def test_who_lost_an_example_to_others_is_told_how_to_go_on(make_desk, act, twice):
    desk = make_desk(twice)
    lost = shown(desk, "Ada")
    desk.clock = lambda: 1001 + LEASE_SECONDS
    for name in ("Ben", "Cem"):
        shown(desk, name, "a" if twice or name == "Ben" else "b")
    told = "two people have example a, or have judged it" if twice else "example a is with Ben now"
    with pytest.raises(BllossomError, match=f"{told}; copy what you typed and load the page again"):
        getattr(desk, act)({**lost, **ACTS[act], "texts": BETTER})
    with pytest.raises(BllossomError, match=f"{told}; go on to the next one"):
        desk.open({"reviewer": "Ada", "id": "a"})


def test_a_page_goes_on_from_its_own_decisions_and_may_say_a_thing_twice(make_desk):
    desk = make_desk()
    posted = shown(desk, "Ada")
    kept = desk.decide({**posted, "action": "edit", "texts": BETTER})
    accept = {**posted, "version": kept["example"]["version"], "action": "accept", "texts": BETTER}
    assert desk.decide(accept)["version"] == 2
    assert desk.decide(accept)["example"]["id"] == "b"  # pressed twice: nothing more is to be done


def test_an_example_with_an_empty_turn_can_be_dropped_and_nothing_else(make_desk):
    desk = make_desk()
    emptied = {**shown(desk, "Ada"), "texts": ["Was ist das?", " "]}
    for action in ("edit", "accept"):
        with pytest.raises(BllossomError, match="every turn needs a text"):
            desk.decide({**emptied, "action": action})
    desk.decide({**emptied, "action": "drop"})
    state = desk.book.state("a", "Ada")
    assert (state.status, state.texts) == ("dropped", MACHINE)


def test_what_is_judged_twice_goes_to_two_people_and_no_third(make_desk):
    desk = make_desk(twice=4)
    posted = {name: shown(desk, name) for name in ("Ada", "Ben")}
    assert desk.next({"reviewer": "Cem"})["example"]["id"] == "b"
    for decided in range(3):
        with pytest.raises(BllossomError, match="two people have example a, or have judged it"):
            desk.open({"reviewer": "Cem", "id": "a"})
        if decided < 2:
            name = ("Ada", "Ben")[decided]
            desk.decide({**posted[name], "action": "accept"})
    assert set(desk.book.copies("a")) == {"Ada", "Ben"}


def test_who_left_what_is_judged_twice_makes_room(make_desk):
    desk = make_desk(twice=4)
    for name in ("Ada", "Ben"):
        shown(desk, name)
    shown(desk, "Ben", "b")
    assert shown(desk, "Cem")["id"] == "a"
