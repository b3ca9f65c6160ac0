"""Which script a piece belongs to."""

import pytest
import regex

from bllossom.errors import ConfigError
from bllossom.tokenizer.scripts import (
    KNOWN,
    OTHER,
    SYMBOLS,
    ScriptCodePoints,
    check_scripts,
    holds_script,
    main_scripts,
    script_of,
)


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


@pytest.mark.parametrize("script", KNOWN)
def test_what_no_text_has_keeps_no_script_from_its_letters(script: str) -> None:
    """Two bytes of three may be joined unless an assigned character that is not the script's begins with them."""
    points = ScriptCodePoints([script])
    blocks = {number >> 6 for number in (*range(0x800, 0xD800), *range(0xE000, 0x10000)) if number in points}
    for block in blocks:
        behind = [chr(number) for number in range(block << 6, block + 1 << 6)]
        others = [c for c in behind if not regex.match(rf"\p{{Script={script}}}|\p{{Cn}}", c)]
        assert (chr(block << 6).encode()[:2] in points.heads) is not bool(others)
    assert all(regex.match(r"\p{Cn}", chr(number)) for number in points.reserved)


@pytest.mark.parametrize(
    ("script", "heads", "reserved"),
    [
        ("Sinhala", "e0b6 e0b7", 0x0D80),
        ("Oriya", "e0ac e0ad", 0x0B00),
        ("Lao", "e0ba e0bb", 0x0E80),
        ("Gujarati", "e0aa", 0x0A80),
        ("Khmer", "e19f", 0x17FA),
        ("Kannada", "e0b3", 0x0CF4),
        ("Gurmukhi", "e0a8 e0a9", 0x0A00),
    ],
)
def test_the_edges_of_a_block_are_its_scripts(script: str, heads: str, reserved: int) -> None:
    points = ScriptCodePoints([script])
    assert points.heads.issuperset(map(bytes.fromhex, heads.split()))
    assert reserved in points.reserved
    assert reserved in points


def test_bytes_before_letters_of_two_scripts_are_no_ones() -> None:
    assert bytes.fromhex("e0b8") not in ScriptCodePoints(["Thai"]).heads  # ฿ is Common
    assert bytes.fromhex("e1a0") not in ScriptCodePoints(["Mongolian"]).heads  # as is its comma
    assert b"\xed" not in ScriptCodePoints(["Hangul"]).heads  # one byte is a piece already: joins nobody needs
