"""What is no SentencePiece model, or not one that can be a base, is told apart and told so."""

import base64
import json
from pathlib import Path

import pytest

from bllossom.errors import BllossomError
from bllossom.tokenizer.sentencepiece_file import UNUSED, USER_DEFINED, check_base, find_model_file, read_model


def test_a_text_file_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_text("this is no model\n" * 50)
    with pytest.raises(BllossomError, match=r"not a SentencePiece model; name a tokenizer\.model"):
        read_model(path)


def test_an_empty_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(BllossomError, match="not a SentencePiece model"):
        read_model(tmp_path / "tokenizer.model")


def test_a_cut_off_model_is_no_model(small_base: Path, tmp_path: Path) -> None:
    raw = (small_base / "tokenizer.model").read_bytes()
    (tmp_path / "cut.model").write_bytes(raw[: len(raw) // 2 + 1])
    with pytest.raises(BllossomError, match="not a SentencePiece model"):
        read_model(tmp_path / "cut.model")


def test_llama_3s_tiktoken_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"".join(base64.b64encode(bytes([i])) + b" %d\n" % i for i in range(256)))
    with pytest.raises(BllossomError, match=r"byte-level BPE .* without the tokenizer.json .*; name the folder"):
        read_model(path)


def test_a_folder_with_a_byte_level_tokenizer_json_only(tmp_path: Path) -> None:
    spec = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]}, "model": {"type": "BPE"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(BllossomError, match=r"byte-level BPE .* without the tokenizer.json"):
        find_model_file(tmp_path)
    with pytest.raises(BllossomError, match=r"byte-level BPE .* without the tokenizer.json"):
        read_model(tmp_path / "tokenizer.json")


def test_a_folder_is_searched_and_doubt_is_not_resolved_by_guessing(tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match=r"holds no SentencePiece model \(\*\.model\)"):
        find_model_file(tmp_path)
    (tmp_path / "spiece.model").touch()
    assert find_model_file(tmp_path) == tmp_path / "spiece.model"
    (tmp_path / "other.model").touch()
    with pytest.raises(BllossomError, match=r"several models \(other\.model, spiece\.model\); name the file itself"):
        find_model_file(tmp_path)
    (tmp_path / "tokenizer.model").touch()
    assert find_model_file(tmp_path) == tmp_path / "tokenizer.model"


def test_what_is_not_here(tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match="no such file, folder or hub id"):
        find_model_file(tmp_path / "nothing" / "here.model")


def test_a_hub_id_offline_says_what_to_do() -> None:
    with pytest.raises(BllossomError, match=r"nobody/no-such-model: tokenizer\.model is not in the hub's cache"):
        find_model_file("nobody/no-such-model")


def test_a_unigram_model_can_be_no_base(small_donor: Path) -> None:
    path = small_donor / "tokenizer.model"
    with pytest.raises(BllossomError, match=r"is a Unigram model, not BPE, so it cannot be a base"):
        check_base(read_model(path), path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m.pieces.pop(10), "has 255 of the 256 byte pieces"),
        (lambda m: setattr(m.normalizer_spec, "precompiled_charsmap", b"x"), "changes text with its normaliser"),
        (lambda m: setattr(m.normalizer_spec, "remove_extra_whitespaces", True), "changes text with its normaliser"),
        (lambda m: setattr(m.trainer_spec, "treat_whitespace_as_suffix", True), "writes spaces behind words"),
        (lambda m: setattr(m.pieces[300], "type", USER_DEFINED), "user-defined piece"),
        (lambda m: setattr(m.pieces[300], "type", UNUSED), "holds the unused piece"),
    ],
)
def test_a_base_whose_ids_could_not_be_kept_is_refused(small_base: Path, change, told: str) -> None:
    path = small_base / "tokenizer.model"
    model = read_model(path)
    check_base(model, path)
    change(model)
    with pytest.raises(BllossomError, match=rf"{told}.*so it cannot be a base; choose one such as Llama 2's"):
        check_base(model, path)


@pytest.mark.real_data
def test_the_real_vocabularies(llama2: Path, kobert: Path) -> None:
    check_base(read_model(llama2), llama2)
    assert len(read_model(kobert).pieces) == 8000
    assert find_model_file(kobert.parent) == kobert
