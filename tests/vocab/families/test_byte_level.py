"""Byte-level pieces: which bytes can occur in a script alone, and how words are cut."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from bllossom.tokenizer.byte_level_file import alphabet, to_bytes
from bllossom.tokenizer.scripts import code_points
from bllossom.vocab.families.byte_level import ByteLevelVocabulary, only_in
from tests.fixtures.vocabularies import to_piece, train_byte_level


@pytest.fixture(scope="module")
def vocabulary(byte_level_base: Path) -> ByteLevelVocabulary:
    return ByteLevelVocabulary(json.loads((byte_level_base / "tokenizer.json").read_text(encoding="utf8")))


def test_the_alphabet_is_gpt_2s() -> None:
    assert len(set(alphabet().values())) == 256
    assert to_piece(" 한\n".encode()) == "ĠíķľĊ"
    assert to_bytes("<|end|>한") is None


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("한".encode(), True),
        (" 한".encode(), True),
        (b"\xed\x95", True),  # every character that begins so is a syllable
        (b" \xea\xb0", True),
        (b"\xed\x9e", True),  # so are the twelve behind 힣 that nobody has
        (b"\x95\x9c", False),  # two continuation bytes occur anywhere
        (b"\x84\xeb", False),
        (b"\x9c\xed\x95", False),
        (b"\xe3\x84", False),  # Bopomofo, and then jamo
        (b"\xe3\x85", True),
        (b'."', False),
        (b"a", False),
        (b"\xea", False),
    ],
)
def test_bytes_that_can_occur_in_hangul_alone(raw: bytes, safe: bool) -> None:
    assert only_in(code_points(("Hangul",)))(to_piece(raw)) is safe


@given(st.text(max_size=12), st.integers(0, 30), st.integers(2, 6))
def test_no_text_without_hangul_holds_a_safe_piece(text: str, start: int, length: int) -> None:
    points = code_points(("Hangul",))
    raw = text.encode(errors="ignore")
    piece = raw[start : start + length]
    if piece and only_in(points)(to_piece(piece)):
        assert points.holds(raw.decode())


def test_words_are_cut_as_the_base_cuts_them(vocabulary: ByteLevelVocabulary) -> None:
    assert vocabulary.split("the old 강물") == ["the", "Ġold", to_piece(" 강물".encode())]
    assert "".join(vocabulary.spell(to_piece(" 강".encode()))) == to_piece(" 강".encode())
    assert vocabulary.write("▁강물은") == to_piece(" 강물은".encode())
    assert vocabulary.write("강물. 은") is None
    assert vocabulary.read(to_piece(" 강물".encode()[:-1])) == "▁강▯"
    assert vocabulary.text(to_piece(" ▁\ufffd강".encode())) == " ▁\ufffd강"
    assert [vocabulary.is_whole(to_piece(raw)) for raw in ("강".encode(), "강".encode()[:2])] == [True, False]


def test_a_run_of_the_first_piece_is_not_one_token(vocabulary: ByteLevelVocabulary) -> None:
    assert vocabulary.pieces[0] == "!"
    assert vocabulary.shortest(Counter({"!!!!!!": 2, "!": 1})) == 13


@pytest.mark.parametrize("nfc", [False, True])
def test_added_tokens_that_text_holds_are_words_and_cost_one(nfc: bool, texts: dict[str, Path], tmp_path: Path) -> None:
    base = train_byte_level(tmp_path, texts["en"], nfc=nfc)
    own = Tokenizer.from_file(str(base / "tokenizer.json"))
    own.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    own.add_tokens([AddedToken("<think>", normalized=False), AddedToken("<mask>", lstrip=True), AddedToken("한")])
    vocabulary = ByteLevelVocabulary(json.loads(own.to_str()))
    own.encode_special_tokens = True
    nfd = unicodedata.normalize("NFD", "한é")
    for text in (
        " " * 8 + "the river" + " " * 30 + "old",
        "<think>the<|end|> <think>",
        "old  <mask>the",
        "the 한é",
        f"the{nfd}<think>{nfd}  ",
        "",
    ):
        ids = own.encode(text, add_special_tokens=False).ids
        words = vocabulary.split(text)
        assert [number for encoded in vocabulary.encode(words) for number in encoded] == ids
        assert vocabulary.shortest(Counter(words)) <= len(ids)
    assert vocabulary.split("the    river") == ["the", "    ", "river"]
