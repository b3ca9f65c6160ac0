"""Loading a tokenizer and encoding outside text."""

from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer

TEXTS = ["", " leading", "trailing ", "two  spaces", "<s>literal</s> <unk>", "[INST] x [/INST]\n\n\ty", "공룡 🦕 é"]


def test_a_folder_and_a_bare_model_file_give_the_same_tokenizer(small_base: Path) -> None:
    slow = sentencepiece.SentencePieceProcessor(model_file=str(small_base / "tokenizer.model"))
    from_folder, from_file = load_tokenizer(small_base), load_tokenizer(small_base / "tokenizer.model")
    for text in TEXTS:
        assert encode_text(from_folder, text) == encode_text(from_file, text) == slow.encode(text)
        assert from_folder.decode(slow.encode(text)) == from_file.decode(slow.encode(text))
    assert from_folder.pad_token_id == from_file.pad_token_id == 0


def test_encoding_outside_text_leaves_special_tokens_active_for_the_rest(small_base: Path) -> None:
    tokenizer = load_tokenizer(small_base)
    split = encode_text(tokenizer, "a</s>")
    assert 2 not in split
    assert tokenizer("a</s>", add_special_tokens=False)["input_ids"][-1] == 2
    assert tokenizer("a")["input_ids"][0] == 1
    assert encode_text(tokenizer, "a</s>") == split


@pytest.mark.parametrize("loader", [AutoTokenizer, PreTrainedTokenizerFast])
def test_transformers_opens_what_was_written(small_base: Path, loader: type) -> None:
    tokenizer = loader.from_pretrained(small_base)
    mine = load_tokenizer(small_base)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ids == encode_text(mine, text)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)


def test_beside_a_llama_config_the_file_is_still_taken_as_it_is(small_base: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((small_base / name).read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    tokenizer, mine = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(small_base)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ids == encode_text(mine, text)


def test_what_cannot_be_loaded(small_donor: Path, small_base: Path, tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match="is a Unigram model"):
        load_tokenizer(small_donor)
    with pytest.raises(BllossomError, match="name the folder it lies in"):
        load_tokenizer(small_base / "tokenizer.json")
    with pytest.raises(BllossomError, match="holds no SentencePiece model"):
        load_tokenizer(tmp_path)
    with pytest.raises(BllossomError, match="not in the hub's cache"):
        load_tokenizer("nobody/no-such-model")
