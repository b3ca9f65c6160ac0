"""What a tuned model's folder says of its tokenizer and chat format."""

import json
import shutil
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

from bllossom.instructions.formats.choose import chat_format
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.tuning.chat_files import write_companions


def test_beside_a_bare_tokenizer_model_the_tuned_one_is_written_as_it_was_read(
    small_base: Path, tmp_path: Path
) -> None:
    base, folder = tmp_path / "base", tmp_path / "tuned"
    for made in (base, folder):
        made.mkdir()
    shutil.copyfile(small_base / "tokenizer.model", base / "tokenizer.model")
    (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": False}))
    (base / "LICENSE").write_text("as it is")
    shape = LlamaConfig(vocab_size=704, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    before = load_tokenizer(base)
    chat = chat_format("plain", before)
    write_companions(str(base), LlamaForCausalLM(shape), chat, folder)
    after = load_tokenizer(folder)
    assert (after.bos_token, after.eos_token) == (before.bos_token, before.eos_token) == ("<s>", "</s>")
    assert encode_text(after, "the  river") == encode_text(before, "the  river")
    assert after.chat_template == chat.template
    assert (folder / "tokenizer.model").read_bytes() == (base / "tokenizer.model").read_bytes()
    assert (folder / "LICENSE").read_text() == "as it is"
