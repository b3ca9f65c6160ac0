"""Models load whole or are refused by name."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from bllossom.errors import BllossomError
from bllossom.model.load import load_causal
from tests.evaluation.answers.conftest import save_adapter

COMMIT = "01" * 20
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


@pytest.mark.parametrize("dtype", ["auto", torch.float32])
def test_an_adapter_loads_on_its_base_as_transformers_puts_it_there(folder: Path, dtype: torch.dtype | str) -> None:
    adapter = save_adapter(folder.parent / "adapter", folder)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    loaded = load_causal(str(adapter), dtype=dtype)
    theirs = AutoModelForCausalLM.from_pretrained(adapter, dtype=dtype)
    weights, others = loaded.state_dict(), theirs.state_dict()
    assert any("lora" in name for name in weights)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) and weight.dtype == loaded.dtype for name, weight in weights.items())


def test_an_adapter_on_a_broken_base_is_refused(folder: Path) -> None:
    adapter = save_adapter(folder.parent / "adapter", folder)
    shape = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(shape | {"intermediate_size": 24}))
    with pytest.raises(BllossomError, match=r"model: 3 weights are missing, or have .*layers\.0\.mlp\.down_proj"):
        load_causal(str(adapter), dtype=torch.float32)
    (folder / "config.json").write_text(json.dumps(shape))
    weights = load_file(folder / "model.safetensors")
    del weights[MISSING]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BllossomError, match=rf"model: 1 weights are missing.*\({MISSING}\); get the model anew"):
        load_causal(str(adapter), dtype=torch.float32)


def test_an_adapter_on_the_hub_is_put_on_a_whole_base_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder.parent / "hub"))
    repository = folder.parent / "hub/models--owner--adapter"
    adapter = save_adapter(repository / "snapshots" / COMMIT, folder)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    loaded, local = (load_causal(source, dtype=torch.float32) for source in ("owner/adapter", str(adapter)))
    weights = local.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in loaded.state_dict().items())
    weights = load_file(folder / "model.safetensors")
    del weights[MISSING]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BllossomError, match="model: 1 weights are missing"):
        load_causal(f"owner/adapter@{COMMIT}", dtype=torch.float32)


@pytest.mark.parametrize("change", ["lacks", "of another rank"])
def test_a_broken_adapter_is_refused(folder: Path, change: str) -> None:
    adapter = save_adapter(folder.parent / "adapter", folder)
    weights = load_file(adapter / "adapter_model.safetensors")
    name = min(weights)
    short = weights.pop(name)[:1]
    if change == "of another rank":
        weights[name] = short.clone()
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BllossomError, match=r"adapter: 1 weights are .* its adapter_config\.json says \(.*lora_A"):
        load_causal(str(adapter), dtype=torch.float32)
