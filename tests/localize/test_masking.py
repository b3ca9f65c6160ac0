"""What is cut out before a translation comes back as it was, and what is lost is known."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.localize.masking import PLACEHOLDER, find_pieces, mask, unmask


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Run `git status` first.", [("inline code", "`git status`")]),
        ("A\n```py\nx = 1  # note\n```\nB", [("code block", "```py\nx = 1  # note\n```")]),
        ("```py\nnever closed", [("code block", "```py\nnever closed")]),
        ("See https://example.org/a_(b)?q=1. Then", [("URL", "https://example.org/a_(b)?q=1")]),
        ("Mail kim.lee+x@example.co.kr!", [("e-mail", "kim.lee+x@example.co.kr")]),
        ("It is 12.5 km and 30% of it.", [("number with unit", "12.5 km"), ("number with unit", "30%")]),
        ("Area $\\pi r^2$, $x$ and \\(a+b\\)", [("LaTeX", "$\\pi r^2$"), ("LaTeX", "$x$"), ("LaTeX", "\\(a+b\\)")]),
        ("From $5 to $60, and 5 miles", []),
        ("a < b and c > d", []),
        ('<a href="x">link</a>', [("tag", '<a href="x">'), ("tag", "</a>")]),
        ('{"name": "Kim"}', [("JSON key", '"name"')]),
        ("# Title\n- one\n2. two", [("heading", "#"), ("list mark", "-"), ("list mark", "2.")]),
        ("> said", [("quotation mark of Markdown", ">")]),
        ("a **bold** word, 2 ** 3", [("emphasis", "**"), ("emphasis", "**")]),
        ("|a|b|\n|---|---|", [("table bar", "|"), ("table bar", "|"), ("table bar", "|"), ("table rule", "|---|---|")]),
        ("A mark ⟦3⟧ of one's own", [("placeholder", "⟦3⟧")]),
    ],
)  # fmt: skip
def test_pieces_are_found(text, pieces):
    assert [(piece.kind, piece.text) for piece in find_pieces(text)] == pieces
    assert all(text[piece.start : piece.end] == piece.text for piece in find_pieces(text))


@given(st.text(alphabet='ab `*|$#<>/\n1.-⟦⟧0@:"{}', max_size=80))
def test_what_is_put_back_is_the_text(text):
    restored = unmask(mask(text).text, mask(text))
    assert (restored.text, restored.lost, restored.repeated) == (text, (), ())


@pytest.mark.real_data
def test_all_of_lima_comes_back(shared):
    dialogues = json.loads(shared("instructions/lima_en_train.json").read_text(encoding="utf8"))
    texts = [dialogue["output"] for dialogue in dialogues][::4]
    assert all(unmask(mask(text).text, mask(text)).text == text for text in texts)
    assert sum(len(mask(text).pieces) for text in texts) > 1_000


def test_what_a_translator_loses_repeats_or_invents_is_known():
    masked = mask("Use `a`, `b` and `c`.")
    restored = unmask("⟦0⟧와 ⟦0⟧, ⟦2⟧, ⟦9⟧를 쓰십시오.", masked)
    assert restored.text == "`a`와 `a`, `c`, 를 쓰십시오."
    assert restored.lost == ("`b`",)
    assert restored.repeated == ("`a`", "⟦9⟧")
    assert not PLACEHOLDER.search(restored.text)
