import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bllossom.corpus.clean import CleaningConfig, make_cleaner, script_ratio, script_table
from bllossom.errors import ConfigError
from bllossom.text.normalise import remove_controls


@given(st.text())
def test_cleaned_text_is_composed_and_has_no_controls(text: str) -> None:
    data, came_as, _ = make_cleaner(CleaningConfig())(text)
    cleaned = data.decode()
    assert came_as == len(text.encode())
    assert unicodedata.is_normalized("NFC", cleaned)
    assert all(unicodedata.category(c) != "Cc" or c in "\t\n" for c in cleaned)
    assert make_cleaner(CleaningConfig())(cleaned).data == data


def test_decomposed_hangul_is_composed() -> None:
    decomposed = unicodedata.normalize("NFD", "한글 문서")
    assert make_cleaner(CleaningConfig())(decomposed) == ("한글 문서".encode(), len(decomposed.encode()), "")
    assert make_cleaner(CleaningConfig(nfc=False))(decomposed).data == decomposed.encode()


def test_controls_go_and_line_ends_become_one_kind() -> None:
    assert remove_controls("one.\x0btwo.\x0cthree.\x85four.\x1efive") == "one.\ntwo.\nthree.\nfour.\nfive"
    assert remove_controls("a\r\nb\rc\x00\x9f\ufeffd\te\n") == "a\nb\ncd\te\n"
    # Joiners and soft hyphens carry meaning in some scripts: they are no control characters.
    assert remove_controls("👩\u200d👧 a\u00adb") == "👩\u200d👧 a\u00adb"


@given(
    st.text(st.characters(max_codepoint=0x100, categories=["Cc", "Lu", "Zs"]) | st.sampled_from("\ufeff\uffff가\t\n"))
)
def test_no_control_is_overlooked(text: str) -> None:
    assert make_cleaner(CleaningConfig(nfc=False))(text).data.decode() == remove_controls(text)


def test_each_drop_has_its_reason() -> None:
    clean = make_cleaner(CleaningConfig(min_characters=5, script="Hangul", min_script_ratio=0.5))
    assert [clean(text).reason for text in (" \n", "네 글자", "hello there", "안녕하세요 hi", "한글 abcde 12345")] == [
        "empty",
        "too short",
        "other script",
        "",
        "other script",
    ]


def test_script_ratio_counts_letters_only() -> None:
    hangul, latin = script_table("Hangul"), script_table("Latin")
    assert script_ratio("한글 ab 123 !?", hangul) == 0.5
    assert script_ratio("한글 ab 123 !?", latin) == 0.5
    assert script_ratio("123 !?", hangul) == 0


def test_an_unknown_script_is_refused() -> None:
    with pytest.raises(ConfigError, match="no Unicode script 'Hangulish'; name one as Hangul"):
        make_cleaner(CleaningConfig(script="Hangulish", min_script_ratio=0.5))


def test_a_script_without_a_ratio_is_refused() -> None:
    with pytest.raises(ValidationError, match="script and min_script_ratio go together"):
        CleaningConfig(script="Hangul")


def test_what_nobody_sees_goes_where_that_is_asked_for() -> None:
    text = "서\u200b울 co\u00adoperate\u2060d 👩\u200d👧 می\u200cخواهم"
    assert make_cleaner(CleaningConfig())(text).data.decode() == text
    cleaned = make_cleaner(CleaningConfig(zero_width_characters=True))(text).data.decode()
    assert cleaned == "서울 cooperated 👩\u200d👧 می\u200cخواهم"
