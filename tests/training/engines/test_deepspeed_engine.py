"""What DeepSpeed is told, seen in the model that it makes."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from bllossom.errors import Stopped
from bllossom.training.block_rows import BlockRows
from bllossom.training.engines.deepspeed_engine import PRESETS
from bllossom.training.engines.engine import Engine
from bllossom.training.engines.rows import Row
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.runs import train_segment
from tests.fixtures.command_runs import assert_same_run

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
    make_engine = train_segment.make_engine

    def look(model: PreTrainedModel, *rest: Any) -> Engine:
        made = make_engine(model, *rest)
        types.update(weight.dtype for weight in model.parameters())
        return made

    monkeypatch.setattr(train_segment, "make_engine", look)
    changes = {"model": str(expanded), "precision": "bf16", "deepspeed": engine, "steps": 1}
    changes |= {"lora": lora, "trainable": "embeddings" if lora else "all"}
    pretrain(PretrainConfig(**settings(tmp_path / "model", **changes)))
    assert types == {torch.bfloat16}


@pytest.mark.parametrize("engine", ["zero2", "zero3"])
def test_stopped_bf16_run_goes_on_exactly(
    engine: str, settings: Settings, expanded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16 weights are made anew from fp32 masters at every step: both have to come back."""
    changes = {"model": str(expanded), "precision": "bf16", "deepspeed": engine}
    pretrain(PretrainConfig(**settings(tmp_path / "whole", **changes)))
    row = BlockRows.row

    def stopping(self: BlockRows, index: int) -> Row:
        if index == 8 * 11:
            signal.raise_signal(signal.SIGTERM)
        return row(self, index)

    monkeypatch.setattr(BlockRows, "row", stopping)
    with pytest.raises(Stopped, match="stopped after step 12 of 20"):
        pretrain(PretrainConfig(**settings(tmp_path / "model", **changes)))
    monkeypatch.undo()
    pretrain(PretrainConfig(**settings(tmp_path / "model", **changes)))
    assert_same_run(tmp_path / "whole", tmp_path / "model")
