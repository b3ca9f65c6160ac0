"""Field paths, and what is said where they lead nowhere."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.errors import BllossomError
from bllossom.text.fields import Each, documents_of, extract, parse_field, written


def documents(value: Any, *fields: str, skip_missing: bool = False) -> tuple[Any, ...]:
    found = documents_of(value, [parse_field(field) for field in fields], skip_missing=skip_missing)
    return found.texts, found.errors, found.missing


@pytest.mark.parametrize(
    ("field", "value", "texts"),
    [
        (r"SJML\.text", {"SJML.text": "a"}, ("a",)),
        ("{}.text", {"17": {"text": "a"}, "4": {"text": "b"}}, ("a", "b")),
        ("all{+}", {"all": {"x": "a", "y": "b"}}, ("a\nb",)),
        ("[].text", [{"text": "a"}, {"text": "b"}], ("a", "b")),
        ("a[].b[+].c", {"a": [{"b": [{"c": "x"}, {"c": "y"}]}, {"b": [{"c": "z"}]}]}, ("x\ny", "z")),
        ("a[][]", {"a": [["x"], ["y", "z"]]}, ("x", "y", "z")),
    ],
)
def test_texts_at_a_field_path(field: str, value: Any, texts: tuple[str, ...]) -> None:
    assert documents(value, field) == (texts, (), 0)
    assert written(parse_field(field)) == field


KEYS = st.text(st.sampled_from(r"ab.\[]{}+"), min_size=1)


@given(steps=st.lists(KEYS | st.builds(Each, st.booleans(), st.booleans()), min_size=1))
def test_a_written_path_is_read_as_it_was(steps: list[str | Each]) -> None:
    assert parse_field(written(steps)) == steps


def test_fields_are_joined_where_they_stand_side_by_side() -> None:
    rows = [{"title": "T", "text": "a"}, {"title": None, "text": "b"}, {"title": "U", "text": "c"}]
    assert documents({"rows": rows}, "rows[].title", "rows[].text") == (("T\na", "b", "U\nc"), (), 0)
    [error] = documents({"title": "T", "rows": rows}, "title", "rows[].text")[1]
    assert error.startswith("its fields give 1 and 3 texts")


def test_a_broken_element_leaves_the_others_alone() -> None:
    value = {"named": [{"text": "a"}, {"text": 3}, {}, {"text": [1]}, {"text": "b"}]}
    texts, errors, missing = documents(value, "named[].text")
    assert (texts, missing) == (("a", "b"), 0)
    assert [error.split(";")[0] for error in errors] == [
        "the field holds a number, not text",
        "no field 'text'",
        "the field holds a list, not text",
    ]


def test_what_is_missing_is_left_out_and_counted_where_that_is_asked_for() -> None:
    value = {"named": [{"text": "a"}, {"text": None}, {}, {"text": 3}, {"text": ""}]}
    texts, errors, missing = documents(value, "named[].text", skip_missing=True)
    assert (texts, len(errors), missing) == (("a", ""), 1, 2)
    assert documents({}, "named[].text", skip_missing=True) == ((), (), 1)
    assert documents({"named": None}, "named[].text", skip_missing=True) == ((), (), 1)
    lines = {"lines": [{"s": "a"}, {}, {"s": None}, {"s": "b"}]}
    assert documents(lines, "lines[+].s", skip_missing=True) == (("a\nb",), (), 0)
    assert documents({"lines": [{}]}, "lines[+].s", skip_missing=True) == ((), (), 1)


def test_documents_are_named_by_what_is_nearest() -> None:
    value = {"id": "file", "rows": [{"id": 7, "text": "a"}, {"text": "b"}]}
    assert documents_of(value, [parse_field("rows[].text")]).ids == ("7", "file")
    keyed = {"p1": {"text": "a"}, "p2": {"text": "b", "doc_id": "own"}}
    assert documents_of(keyed, [parse_field("{}.text")]).ids == ("p1", "own")


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([{"text": "a"}], "text"),
        ({"data": [{"meta": {"text": "a"}}]}, "data.meta.text"),
        ({"17": {"text": "a"}, "18": {"text": "b"}}, "text"),
        ({"rows": {"1": {"text": "a"}}}, "rows[].text"),
        ({"rows": [{"text": "a"}]}, "rows{}.text"),
        ({"SJML.text": "a"}, "SJML.text"),
        ({"a": [[{"text": "x"}]]}, "a[].text"),
    ],
)
def test_a_hint_leads_to_the_text(value: Any, field: str) -> None:
    [error] = documents(value, field)[1]
    hint = error.rpartition(" ")[2]
    texts, errors, _ = documents(value, hint)
    assert (len(texts) > 0, errors) == (True, ()), error


def test_not_all_keys_of_a_large_object_are_told() -> None:
    with pytest.raises(ValueError, match=r"there are: k0, .* k11, … \(500 in all\); set field to one of them"):
        list(extract({f"k{i}": i for i in range(500)}, ["text"]))


@pytest.mark.parametrize("field", ["", "a..b", "a[", "a[x]", "[]a", "a{", "a.", "a[0]"])
def test_what_is_no_field_path_is_refused(field: str) -> None:
    with pytest.raises(BllossomError, match="is not a field path; write it like"):
        parse_field(field)
