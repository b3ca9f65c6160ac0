"""Pieces learned from text of scripts that share their first bytes with others, or with what nobody has."""

import json
import random
import unicodedata
from pathlib import Path

import pytest

from bllossom.errors import BllossomError
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer
from bllossom.vocab.families.bases import open_base
from bllossom.vocab.learning.from_text import learn_from_text
from tests.fixtures.vocabularies import KOREAN


def write_words(path: Path, letters: str) -> Path:
    """A text of made-up words of these letters."""
    generator = random.Random(0)
    words = ["".join(generator.choices(letters, k=generator.randrange(2, 6))) for _ in range(100)]
    lines = [" ".join(generator.choices(words, k=10)) for _ in range(200)]
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    return path


def test_a_script_at_the_edge_of_its_block_is_learned(
    byte_level_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sinhala begins with two bytes that the unassigned U+0D80 begins with, too; the base lacks them as a piece."""
    text = write_words(tmp_path / "si.txt", "\u0d9a\u0d9c\u0dad\u0db1\u0db8\u0dba\u0dbb\u0dbd\u0dc0\u0dc3")
    base, scripts = open_base(str(byte_level_base)), ["Sinhala"]
    learned, _ = learn_from_text(base, [text], 120, scripts)
    assert "no piece of their own" not in capsys.readouterr().err
    base.extend(learned, scripts, tmp_path, {"si": text.read_text(encoding="utf8").splitlines()})
    words = text.read_text(encoding="utf8").split()[:100]
    before, after = load_tokenizer(byte_level_base), load_tokenizer(tmp_path)
    assert sum(len(encode_text(after, word)) for word in words) * 4 < sum(len(encode_text(before, w)) for w in words)
    certificate = json.loads((tmp_path / "certificate.json").read_text(encoding="utf8"))
    assert "U+0D80" in certificate["unicode"]["unassigned_and_changed"]


def test_pieces_are_learned_from_text_as_prepare_makes_it(byte_level_base: Path, tmp_path: Path) -> None:
    """NFC takes Bengali's yya and rra apart, and composes Greek that was typed in two code points."""
    base = open_base(str(byte_level_base))
    for scripts, letters in ((["Bengali"], "\u0995\u09a8\u09df\u09dc\u09b0"), (["Greek"], "\u03b2\u03bb\u03b1\u0301")):
        typed, composed = write_words(tmp_path / "typed.txt", letters), tmp_path / "composed.txt"
        composed.write_text(unicodedata.normalize("NFC", typed.read_text(encoding="utf8")), encoding="utf8")
        assert typed.read_bytes() != composed.read_bytes()
        assert learn_from_text(base, [typed], 60, scripts) == learn_from_text(base, [composed], 60, scripts)


def test_letters_that_stay_bytes_are_counted(
    byte_level_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mongolian's first letters have their two bytes in common with a comma that Phags-pa uses, too."""
    text = write_words(tmp_path / "mn.txt", "\u1820\u1821\u1840\u1841\u1842")
    learn_from_text(open_base(str(byte_level_base)), [text], 10, ["Mongolian"])
    said = " ".join(capsys.readouterr().err.split())
    assert "2 of the text's 5 letters of Mongolian get no piece of their own (\u1820, \u1821)" in said


def test_letters_whose_first_bytes_are_a_piece_that_is_never_made_are_told_as_those(
    byte_level_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = json.loads((byte_level_base / "tokenizer.json").read_text(encoding="utf8"))
    settings["model"]["vocab"]["\u00e1\u0142"] = len(settings["model"]["vocab"])  # the bytes E1 A0
    settings["added_tokens"] = []
    (tmp_path / "base").mkdir()
    (tmp_path / "base/tokenizer.json").write_text(json.dumps(settings), encoding="utf8")
    text = write_words(tmp_path / "mn.txt", "\u1820\u1821\u1822\u1823\u1824\u1825\u1840")
    learn_from_text(open_base(str(tmp_path / "base")), [text], 5, ["Mongolian"])
    said = " ".join(capsys.readouterr().err.split())
    told = "7 letters of Mongolian get no piece of their own (\u1820, \u1821, \u1822, \u1823, \u1824, …)"
    assert f"6 of the text's {told}: the base has them, or their first bytes, as a piece that its merges do" in said
    assert "other scripts'" not in said


def test_auto_takes_few_pieces_of_a_text_with_many_seldom_words(
    byte_level_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator, often, text = random.Random(0), KOREAN.split(), tmp_path / "ko.txt"
    letters = sorted(set("".join(often)))
    seldom = ["".join(generator.choices(letters, k=4)) for _ in range(4000)]
    text.write_text(" ".join([*often * 150, *seldom * 2]), encoding="utf8")
    learned, curve = learn_from_text(open_base(str(byte_level_base)), [text], "auto", ["Hangul"])
    assert 0 < len(learned.pieces) < curve[0]["pieces"]
    said = " ".join(capsys.readouterr().err.split())
    assert f"of {curve[0]['pieces']:,} pieces more than a tenth would occur less than 100 times" in said


def test_auto_that_takes_parts_of_letters_alone_is_refused(byte_level_base: Path, tmp_path: Path) -> None:
    text = tmp_path / "ko.txt"
    text.write_text("한국 나라 한국어 나라는\n" * 50, encoding="utf8")
    with pytest.raises(BllossomError, match="has often enough none is a whole letter; name more text"):
        learn_from_text(open_base(str(byte_level_base)), [text], "auto", ["Hangul"])
