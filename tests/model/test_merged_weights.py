"""Adapters that peft itself made, of every kind that is merged: the logits are those that peft computes with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from bllossom.errors import BllossomError
from bllossom.model.merge_adapter import MergeAdapterConfig, dry_run, merge_adapter
from bllossom.model.merged_weights import ADAPTER_WEIGHTS
from bllossom.training.pretrain import PretrainConfig, pretrain

pytestmark = pytest.mark.usefixtures("one_thread")
peft = pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")

Settings = Callable[..., dict[str, Any]]
IDS = torch.arange(10, 290).view(7, 40)
KINDS: dict[str, dict[str, Any]] = {
    "one side saved": {"modules_to_save": ["embed_tokens"]},
    "the other side saved": {"modules_to_save": ["lm_head"]},
    "both saved": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "saved as one": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "lora on the input": {"target_modules": ["q_proj", "embed_tokens"]},
    "lora on the output": {"target_modules": ["q_proj", "lm_head"]},
    "lora on both": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "biases": {"bias": "all"},
}


def logits(model: PreTrainedModel) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS % model.config.vocab_size).logits


def make_base(folder: Path, *, tied: bool, both_stored: bool = False) -> Path:
    """A small Qwen2, which has biases. Tied, it may store its one matrix twice."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=300, tie_word_embeddings=tied, **shape, **heads)).save_pretrained(folder)
    if both_stored:
        weights = load_file(folder / "model.safetensors")
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def trained_adapter(base: Path, folder: Path, rows: int = 300, **kind: Any) -> torch.Tensor:
    """Save an adapter with random values in everything that trains; gives the logits that peft computes with it."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows != 300:
        model.resize_token_embeddings(rows, mean_resizing=False)
    lora = {"target_modules": ["q_proj", "up_proj"]} | kind
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, **lora))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape) * 0.1)
    model.save_pretrained(folder)
    return logits(model)


@pytest.mark.filterwarnings("ignore")  # peft warns of tied models at length
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base_kind", ["untied", "tied", "tied, stored twice"])
def test_merged_computes_what_peft_does(kind: str, base_kind: str, tmp_path: Path) -> None:
    tied = base_kind != "untied"
    base = make_base(tmp_path / "base", tied=tied, both_stored=base_kind == "tied, stored twice")
    expected = trained_adapter(base, tmp_path / "adapter", **KINDS[kind])
    merge_adapter(MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged"))
    merged, told = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(told.values())
    assert (expected - logits(AutoModelForCausalLM.from_pretrained(base))).abs().max() > 0.01
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    stays_one = tied and kind in ("saved as one", "biases")
    assert json.loads((tmp_path / "merged/config.json").read_text())["tie_word_embeddings"] is stays_one
    one = merged.get_input_embeddings().weight is merged.get_output_embeddings().weight
    assert one is stays_one


@pytest.mark.filterwarnings("ignore")
def test_index_of_a_sharded_base_tells_of_the_new_matrix(tmp_path: Path) -> None:
    base = make_base(tmp_path / "whole", tied=True)
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(tmp_path / "base", max_shard_size="30KB")
    expected = trained_adapter(tmp_path / "base", tmp_path / "adapter", modules_to_save=["embed_tokens"])
    config = MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged")
    assert "both are written" in dry_run(config)[1]
    merge_adapter(config)
    index = json.loads((tmp_path / "merged/model.safetensors.index.json").read_text())
    files = {name: load_file(tmp_path / "merged" / name) for name in set(index["weight_map"].values())}
    assert all(tensor in files[name] for tensor, name in index["weight_map"].items())
    assert index["metadata"]["total_size"] == sum(t.nbytes for weights in files.values() for t in weights.values())
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tied", [False, True])
def test_adapter_with_more_rows_than_its_base(tied: bool, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tied=tied)
    expected = trained_adapter(base, tmp_path / "adapter", rows=320)
    manifest = merge_adapter(MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged"))
    assert manifest.figures["rows"] == 320
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.config.vocab_size == 320
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)

    weights = load_file(tmp_path / "adapter" / ADAPTER_WEIGHTS)
    half = {name: tensor for name, tensor in weights.items() if "lm_head" not in name}
    save_file(half, tmp_path / "adapter" / ADAPTER_WEIGHTS)
    config = MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "half")
    if tied:  # one matrix is enough for both sides
        merge_adapter(config)
        return
    with pytest.raises(BllossomError, match=r"matrices of different heights .*320, .*300.*resize_token_embeddings"):
        merge_adapter(config)


def test_our_own_adapter_on_a_base_that_stores_its_one_matrix_twice(settings: Settings, tmp_path: Path) -> None:
    tied = {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "window": 64, "tied": True}
    pretrain(PretrainConfig(**settings(tmp_path / "once", model={"init": tied}, steps=1)))
    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(tmp_path / "once").save_pretrained(base)
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    lora = {"lora": {"rank": 4, "alpha": 8}, "trainable": "embeddings"}
    pretrain(PretrainConfig(**settings(tmp_path / "adapter", model=str(base), **lora, steps=3)))
    merge_adapter(MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged"))
    through_peft = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.get_input_embeddings().weight is merged.get_output_embeddings().weight
    torch.testing.assert_close(logits(merged), logits(through_peft), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tied", [False, True])
def test_resized_matrices_that_were_trained_as_wholes_come_in_copies(tied: bool, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tied=tied)
    whole = {"modules_to_save": ["embed_tokens", "lm_head"]}
    expected = trained_adapter(base, tmp_path / "adapter", rows=320, **whole)
    names = load_file(tmp_path / "adapter" / ADAPTER_WEIGHTS).keys()
    assert sum("embed_tokens" in name for name in names) == 3  # peft saves what it was, what it is, and it once more
    manifest = merge_adapter(MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged"))
    assert manifest.figures["rows"] == 320
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
