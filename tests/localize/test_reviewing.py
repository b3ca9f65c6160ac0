"""Decisions, names with their particles, and distances, without a browser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.errors import BllossomError
from bllossom.localize.exporting.distance import chrf, edit_distance
from bllossom.localize.language import load_language
from bllossom.localize.reviewing.book import Book, Decision, State, edited
from bllossom.localize.reviewing.particles import replace_entity


@pytest.fixture(scope="module")
def korean():
    return load_language("ko")


@pytest.mark.parametrize(
    ("text", "old", "new", "expected"),
    [
        ("mount Stuart는 높고 Mount Stuart로 간다.", "mount Stuart", "북한산", "북한산은 높고 북한산으로 간다."),
        ("스튜어트가 스튜어트를 스튜어트와", "스튜어트", "북한산", "북한산이 북한산을 북한산과"),
        ("북한산이 북한산을 북한산과 북한산은", "북한산", "한라", "한라가 한라를 한라와 한라는"),
        ("보스턴으로 보스턴으로부터 보스턴으로는", "보스턴", "서울", "서울로 서울로부터 서울로는"),
        ("보스턴에서 보스턴의 보스턴까지", "보스턴", "대구", "대구에서 대구의 대구까지"),
        ("보스턴, 보스턴. ‘보스턴’을", "보스턴", "대구", "대구, 대구. ‘대구’을"),
        ("뉴보스턴은 보스턴은행과 다르다.", "보스턴", "대구", "뉴보스턴은 대구은행과 다르다."),
        ("IRS는 IRS를", "IRS", "국세청", "국세청은 국세청을"),
        ("서울은 서울로", "서울", "KTX 3", "KTX 3은 KTX 3으로"),
        ("서울은 서울로", "서울", "행성 L", "행성 L은 행성 L로"),
        ("여기에는 없다.", "보스턴", "대구", "여기에는 없다."),
    ],
)
def test_particles_follow_the_new_name(korean, text, old, new, expected):
    assert replace_entity(text, old, new, korean).text == expected


@pytest.mark.parametrize("particle", ["은", "이", "을", "과", "으로"])
@pytest.mark.parametrize("name", ["서울", "북한산", "제주", "부산"])
def test_replacing_there_and_back_is_the_text(korean, particle, name):
    text = replace_entity(f"한강{particle} 넓다.", "한강", name, korean).text
    assert replace_entity(text, name, "한강", korean).text == f"한강{particle} 넓다."


@given(st.text("가나다abc ", max_size=12), st.text("가나다abc ", max_size=12))
def test_edit_distance_is_levenshteins(before, after):
    table = [[max(i, j) if not i or not j else 0 for j in range(len(after) + 1)] for i in range(len(before) + 1)]
    for i in range(1, len(before) + 1):
        for j in range(1, len(after) + 1):
            same = table[i - 1][j - 1] + (before[i - 1] != after[j - 1])
            table[i][j] = min(same, table[i - 1][j] + 1, table[i][j - 1] + 1)
    assert edit_distance(before, after) == table[-1][-1]


def test_chrf_is_100_for_equal_texts():
    assert chrf("같은 글입니다.", "같은 글입니다.") == pytest.approx(100)
    assert chrf("다른 글입니다.", "전혀 아닙니다.") < 60


def decision(book, reviewer, identity, action, after):
    made = Decision("2026-01-01", reviewer, identity, action, book.state(identity, reviewer), after)
    book.apply(Decision(**{**made.__dict__, "copy": book.copy_of(identity, reviewer)}))


def test_undo_goes_back_through_all_of_ones_own_decisions():
    book = Book({"a": ("질문", "답"), "b": ("질문", "답")})
    decision(book, "하나", "a", "edit", State(("질문", "새 답")))
    decision(book, "하나", "a", "accept", State(("질문", "새 답"), "accepted"))
    decision(book, "하나", "b", "drop", State(("질문", "답"), "dropped"))
    for identity, status, answer in (("b", "open", "답"), ("a", "open", "새 답"), ("a", "open", "답")):
        last = book.last("하나")
        decision(book, "하나", last.id, "undo", last.before)
        assert last.id == identity
        assert (book.state(identity, "하나").status, book.state(identity, "하나").texts[1]) == (status, answer)
    with pytest.raises(BllossomError, match="nothing to undo"):
        book.last("하나")


def test_what_somebody_else_has_changed_since_is_not_undone():
    book = Book({"a": ("질문", "답")})
    decision(book, "하나", "a", "edit", State(("질문", "새 답")))
    decision(book, "두리", "a", "accept", State(("질문", "새 답"), "accepted"))
    with pytest.raises(BllossomError, match="changed by somebody else"):
        book.last("하나")


def test_an_answer_is_rewritten_when_it_is_changed():
    state = State(("새 질문", "옛 답"), rewrite=(1,))
    assert edited(state, ["새 질문", "옛 답"]).rewrite == (1,)
    assert edited(state, ["새 질문", "새 답"]).rewrite == ()
    with pytest.raises(BllossomError, match="has 2 turns, not 1"):
        edited(state, ["새 질문"])
