"""Which script a piece belongs to."""

import pytest

from bllossom.errors import ConfigError
from bllossom.tokenizer.scripts import OTHER, SYMBOLS, check_scripts, holds_script, main_scripts, script_of


@pytest.mark.parametrize(
    ("piece", "script"),
    [
        ("▁대통령", "Hangul"),
        ("ㄱㄴ", "Hangul"),
        ("\u1112\u1161\u11ab", "Hangul"),  # 한, decomposed
        ("▁LG전자", "Latin"),  # two to two: the later name, so that it is settled
        ("▁LGs전자", "Latin"),
        ("大統領", "Han"),
        ("0.5%", SYMBOLS),
        ("▁", SYMBOLS),
        ("привет", "Cyrillic"),
        ("ᚠᚢᚦ", OTHER),  # runes
        ("é", "Latin"),
    ],
)
def test_script_of(piece: str, script: str) -> None:
    assert script_of(piece) == script


def test_one_letter_is_enough_to_hold_a_script() -> None:
    assert holds_script("▁2013년", ["Hangul"])
    assert not holds_script("▁2013", ["Hangul"])
    assert holds_script("▁2013", ["Hangul", "Common"])


def test_unknown_scripts_are_named() -> None:
    check_scripts(["Hangul", "Latin", "Cherokee"])
    with pytest.raises(ConfigError, match="'Hangeul' is no Unicode script; write one such as Hangul or Latin"):
        check_scripts(["Hangul", "Hangeul"])


def test_a_list_without_a_script_is_refused() -> None:
    with pytest.raises(ConfigError, match="donor_filter: is an empty list; write Unicode scripts such as Hangul"):
        check_scripts([], "donor_filter")


def test_a_donors_main_scripts_are_those_of_a_tenth_of_its_pieces() -> None:
    assert main_scripts(["가", "나", "다", "라", "마", "바", "사", "아", "자", "차", "a", "1"]) == ["Hangul"]
    assert main_scripts(["あ", "い", "カ", "漢", "字", "12"]) == ["Han", "Hiragana", "Katakana"]
    with pytest.raises(ConfigError, match="belong to no one script"):
        main_scripts(["1", "2"])
