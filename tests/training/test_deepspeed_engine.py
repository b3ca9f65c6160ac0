"""What DeepSpeed is told, seen in the model that it makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from bllossom.training import run
from bllossom.training.deepspeed_engine import PRESETS
from bllossom.training.engine import Engine
from bllossom.training.pretrain import PretrainConfig, pretrain

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'bllossom[deepspeed]')")

Settings = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8}], ids=["all weights", "lora"])
@pytest.mark.parametrize("engine", PRESETS)
def test_bf16_weights_are_bf16(
    engine: str,
    lora: dict[str, int] | None,
    settings: Settings,
    expanded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under ZeRO-3 a model is loaded in parts, whose type DeepSpeed chooses: fp32 would take twice the memory."""
    if lora is not None:
        pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")
    types: set[torch.dtype] = set()
    make_engine = run.make_engine

    def look(model: PreTrainedModel, *rest: Any) -> Engine:
        made = make_engine(model, *rest)
        types.update(weight.dtype for weight in model.parameters())
        return made

    monkeypatch.setattr(run, "make_engine", look)
    changes = {"model": str(expanded), "precision": "bf16", "deepspeed": engine, "steps": 1}
    changes |= {"lora": lora, "trainable": "embeddings" if lora else "all"}
    pretrain(PretrainConfig(**settings(tmp_path / "model", **changes)))
    assert types == {torch.bfloat16}
