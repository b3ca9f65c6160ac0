"""Models load whole or are refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from bllossom.errors import BllossomError
from bllossom.model.load import load_causal

MISSING = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(params=[False, True], ids=["two matrices", "tied"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    shape = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=request.param,
    )
    LlamaForCausalLM(shape).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_whole_model_loads_with_its_own_weights(folder: Path) -> None:
    loaded = load_causal(str(folder), dtype=torch.float32).state_dict()
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(loaded[name], weight) for name, weight in stored.items())


@pytest.mark.parametrize("name", [MISSING, "model.norm.weight", "model.embed_tokens.weight"])
def test_missing_weights_are_named(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BllossomError, match=rf"1 weights are missing.*\({name}\); get the model anew"):
        load_causal(str(folder), dtype=torch.float32)


def test_what_else_is_wrong_with_the_weights_is_one_message(folder: Path) -> None:
    shape = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(shape | {"intermediate_size": 24}))
    with pytest.raises(BllossomError, match=r"3 weights are missing, or have another shape.*layers\.0\.mlp\.down_proj"):
        load_causal(str(folder), dtype=torch.float32)
    (folder / "config.json").write_text(json.dumps(shape))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BllossomError, match=r"no model loads .*; name a model folder or a hub id"):
        load_causal(str(folder), dtype=torch.float32)
