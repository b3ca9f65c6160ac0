"""Donors: the pieces of a tokenizer.json, whatever its type and age."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import BpeTrainer

from bllossom.errors import BllossomError
from bllossom.vocab.donor import read_donor


def write_donor(folder: Path, **model: Any) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({"added_tokens": [], "model": {"unk_token": "[UNK]"} | model}), encoding="utf8")
    return path


@pytest.mark.parametrize(
    "model",
    [
        {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
        {"type": "WordPiece"},
        {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100},  # before tokenizers 0.9
        {"max_input_chars_per_word": 100},
    ],
)
def test_wordpiece_marks_what_goes_on_whether_or_not_it_names_its_type(tmp_path: Path, model: dict[str, Any]) -> None:
    vocab = {"[UNK]": 0, "나라": 1, "##에서": 2, "##는": 3, "##": 4}
    assert read_donor(write_donor(tmp_path, **model, vocab=vocab)).pieces == ["▁나라", "에서", "는", "▁##"]


def test_wordpiece_whose_mark_is_null_or_empty(tmp_path: Path) -> None:
    null = write_donor(tmp_path, type="WordPiece", continuing_subword_prefix=None, vocab={"나라": 0, "##에서": 1})
    assert read_donor(null).pieces == ["▁나라", "에서"]
    empty = write_donor(tmp_path, type="WordPiece", continuing_subword_prefix="", vocab={"나라": 0, "##에서": 1})
    assert read_donor(empty).pieces == ["나라", "##에서"]


def test_words_of_scripts_without_spaces_get_no_mark_of_one(tmp_path: Path) -> None:
    words = write_donor(tmp_path, type="WordLevel", vocab={"中国": 0, "人民": 1, "Beijing": 2})
    assert read_donor(words).pieces == ["中国", "人民", "▁Beijing"]
    pieces = write_donor(tmp_path, type="WordPiece", vocab={"東京": 0, "##都": 1, "나라": 2, "ประเทศ": 3})
    assert read_donor(pieces).pieces == ["東京", "都", "▁나라", "ประเทศ"]


def test_wordpiece_with_a_mark_of_its_own(tmp_path: Path) -> None:
    path = write_donor(
        tmp_path, continuing_subword_prefix="@@", max_input_chars_per_word=100, vocab={"나라": 0, "@@에서": 1, "##": 2}
    )
    assert read_donor(path).pieces == ["▁나라", "에서", "▁##"]


@pytest.mark.parametrize("kind", [{"type": "BPE"}, {}])
def test_bpe_without_marks_is_taken_as_it_stands(tmp_path: Path, kind: dict[str, str]) -> None:
    marks = {"end_of_word_suffix": None, "continuing_subword_prefix": None, "merges": []}
    path = write_donor(tmp_path, **kind, **marks, vocab={"▁나라": 0, "에서": 1})
    assert read_donor(path).pieces == ["▁나라", "에서"]


def test_bpe_that_marks_what_goes_on_is_read_as_wordpiece_is(tmp_path: Path) -> None:
    trained = Tokenizer(BPE(unk_token="[UNK]"))
    trained.pre_tokenizer = Whitespace()
    trainer = BpeTrainer(special_tokens=["[UNK]"], continuing_subword_prefix="##", vocab_size=40)
    trained.train_from_iterator(["나라에서 나라는 에서 나라에서"] * 9, trainer)
    trained.save(str(tmp_path / "tokenizer.json"))
    assert "##에" in trained.get_vocab()
    pieces = read_donor(tmp_path / "tokenizer.json").pieces
    assert {"▁나라", "에서", "▁에서"} <= set(pieces)
    assert not any("#" in piece for piece in pieces)


@pytest.mark.parametrize("kind", [{"type": "WordLevel"}, {}])
def test_the_pieces_of_a_word_level_model_are_words(tmp_path: Path, kind: dict[str, str]) -> None:
    path = write_donor(tmp_path, **kind, vocab={"[UNK]": 0, "나라": 1, "▁에서": 2})
    assert read_donor(path).pieces == ["▁나라", "▁에서"]


def test_a_donor_that_marks_no_beginnings_of_words_is_taken_as_it_stands_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = Tokenizer(BPE(unk_token="[UNK]"))
    trained.pre_tokenizer = Whitespace()  # drops the spaces
    trained.train_from_iterator(["나라에서 나라는"] * 9, BpeTrainer(special_tokens=["[UNK]"], vocab_size=40))
    trained.save(str(tmp_path / "tokenizer.json"))
    unigram = tmp_path / "unigram.json"
    model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["ประเทศ", -1.0], ["ไทย", -2.0]]}
    unigram.write_text(json.dumps({"model": model}), encoding="utf8")
    assert "나라" in read_donor(tmp_path / "tokenizer.json").pieces
    assert read_donor(unigram).pieces == ["ประเทศ", "ไทย"]
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("marks no beginnings of words (▁): its pieces are taken as they stand, inside words") == 2
    read_donor(write_donor(tmp_path, type="BPE", merges=[], vocab={"▁나라": 0, "에서": 1}))
    assert capsys.readouterr().err == ""


def test_pieces_that_mark_where_words_end_are_refused(tmp_path: Path) -> None:
    vocab = {"[UNK]": 0, "się</w>": 1, "pro": 2, "wadzić</w>": 3}
    path = write_donor(tmp_path, type="BPE", end_of_word_suffix="</w>", merges=[], vocab=vocab)
    with pytest.raises(BllossomError, match=r"marks where words end .*'</w>'.*; name another vocabulary"):
        read_donor(path)
