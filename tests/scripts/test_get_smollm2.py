"""A plain folder of SmolLM2: its digits stand alone, its weights are all there, and it answers."""

from pathlib import Path

import pytest
from get_smollm2 import check_pre_tokenizer, split_digits
from gguf import GGUFWriter
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

PARAMETERS = 134_515_008


def write_gguf(path: Path, pre_tokenizer: str) -> Path:
    writer = GGUFWriter(str(path), "llama")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_digits_stand_alone_again() -> None:
    pieces = {"2": 0, "0": 1, "4": 2, "20": 3, "24": 4, "Ġ": 5}
    model = models.BPE(pieces, [("2", "0"), ("2", "4")])
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert tokenizer(" 2024")["input_ids"] == [5, 3, 4]
    split_digits(tokenizer)
    assert tokenizer(" 2024")["input_ids"] == [5, 0, 1, 0, 2]


def test_a_file_of_another_family_is_refused(tmp_path: Path) -> None:
    check_pre_tokenizer(write_gguf(tmp_path / "right.gguf", "smollm"))
    with pytest.raises(SystemExit, match="is 'llama-bpe', not 'smollm'; name SmolLM2's GGUF file"):
        check_pre_tokenizer(write_gguf(tmp_path / "wrong.gguf", "llama-bpe"))


@pytest.mark.real_data
def test_the_folder_is_smollm2(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    assert tokenizer("2024")["input_ids"] == [34, 32, 34, 36]
    assert tokenizer("in 2024,")["input_ids"] == [254, 216, 34, 32, 34, 36, 28]
    with safe_open(smollm2 / "model.safetensors", framework="pt") as weights:
        assert sum(weights.get_tensor(name).numel() for name in weights.keys()) == PARAMETERS  # noqa: SIM118


@pytest.mark.real_data
def test_it_knows_the_capital_of_france(smollm2: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=10, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])
