"""Families that share Llama's shape: expanded, they compute what the base computes, and their rows can be distilled."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    MistralConfig,
    Olmo2Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from bllossom.model.distillation import RowLearner, make_snippet
from bllossom.model.expand import ExpandConfig, expand
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer

SHAPE = {
    "vocab_size": 330,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", [MistralConfig, Qwen2Config, Qwen3Config, Olmo2Config, Gemma2Config, Gemma3TextConfig])
def test_old_text_is_computed_as_before_and_rows_can_be_distilled(
    kind: type[PretrainedConfig], tied: bool, vocabularies: tuple[Path, Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    base = tmp_path / "base"
    AutoModelForCausalLM.from_config(kind(**SHAPE, tie_word_embeddings=tied)).save_pretrained(base)
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(vocabularies[0] / name, base / name)
    output = tmp_path / "out"
    figures = expand(ExpandConfig(model=str(base), tokenizer=vocabularies[1], output=output)).figures
    assert figures["tied"] is tied
    before = AutoModelForCausalLM.from_pretrained(base).eval()
    after, told = AutoModelForCausalLM.from_pretrained(output, output_loading_info=True)
    assert not any(told.values())
    ids = torch.tensor([[1, *encode_text(load_tokenizer(base), "The baker sells 12 loaves.")]])
    with torch.no_grad():
        old, new = before(ids, output_hidden_states=True), after.eval()(ids, output_hidden_states=True)
    assert torch.equal(old.hidden_states[-1], new.hidden_states[-1])
    assert torch.allclose(old.logits, new.logits[..., :330], atol=1e-5)
    learner = RowLearner(after, 330, figures["new_pieces"], output_weight=0.1)
    spelled = make_snippet([5, 330, 6], 330, [[7, 8]] * figures["new_pieces"], [False] * 3)
    assert spelled.student == spelled.teacher == [5, 7, 8, 6]
    plain = type(spelled)(spelled.student, spelled.teacher, spelled.ends, [True] * 4)
    assert float(learner.losses([plain])[0].detach()) == pytest.approx(
        0, abs=1e-10
    )  # scaled embeddings are scaled here too
