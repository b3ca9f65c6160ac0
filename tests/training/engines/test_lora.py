"""Adapters train beside the embeddings, go on exactly after a stop, and are published as peft reads them."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from bllossom.errors import BllossomError, ConfigError
from bllossom.model.merged_weights import ADAPTER_WEIGHTS
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.runs import checkpoints
from bllossom.training.runs.reshard import reshard
from tests.fixtures.command_runs import log_lines, partial_of, start, wait_for_step

pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")

Settings = Callable[..., dict[str, Any]]
LORA = {"rank": 4, "alpha": 8}
PHASES = {
    "steps": None,
    "phases": [
        {"trainable": "new_rows", "tokens": 10 * 8 * 32},
        {"trainable": "embeddings", "tokens": 10 * 8 * 32, "learning_rate": {"peak": 0.005}},
    ],
}
"""Two phases of ten steps each."""
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")


@pytest.fixture(scope="module")
def make(settings: Settings, expanded: Path) -> Settings:
    """`make(output, key=value, …)`: a pretrain config with adapters of rank 4 and dropout on the expanded model."""

    def config(output: Path, **changes: Any) -> dict[str, Any]:
        lora = {"lora": LORA | {"dropout": 0.1}, "trainable": "new_rows"}
        return settings(output, **({"model": str(expanded)} | lora | changes))

    return config


def assert_same_adapter(one: Path, other: Path) -> None:
    """The same losses at every step, and the same published bytes."""
    assert [line["loss"] for line in log_lines(one)] == [line["loss"] for line in log_lines(other)]
    assert (one / ADAPTER_WEIGHTS).read_bytes() == (other / ADAPTER_WEIGHTS).read_bytes()


def kill_after(step: int, output: Path, config: Path) -> None:
    """Start the run of `config`, which publishes `output`, and kill all its processes once `step` is done."""
    process = start("-m", "bllossom.cli", "pretrain", "--config", config)
    wait_for_step(output, step, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def go_on(config: Path) -> str:
    """Let the run of `config` come to its end; gives what it said."""
    process = start("-m", "bllossom.cli", "pretrain", "--config", config)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    return said


def test_killed_run_with_dropout_goes_on_exactly(
    make: Settings, expanded: Path, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "model"
    pretrain(PretrainConfig(**make(whole)))
    kill_after(12, output, write_yaml(make(output)))
    [saved] = sorted(partial_of(output).glob("checkpoints/step-*/engine/model.safetensors"))[-1:]
    assert not any(".base_layer." in name for name in load_file(saved))  # the base is not copied into checkpoints
    pretrain(PretrainConfig(**make(output)))
    assert_same_adapter(whole, output)

    adapter, base = load_file(output / ADAPTER_WEIGHTS), load_file(expanded / "model.safetensors")
    for name in EMBEDDINGS:
        trained = adapter[f"base_model.model.{name}"]
        assert torch.equal(trained[:200], base[name][:200])
        assert (trained[200:] != base[name][200:]).any(dim=1).sum() > 60
    ups = [weight for name, weight in adapter.items() if name.endswith("lora_B.weight")]
    assert len(ups) == 2 * 7
    assert all(weight.any() for weight in ups)


def test_phases_hand_their_adapters_on(make: Settings, expanded: Path, tmp_path: Path) -> None:
    """A second phase that hardly moves anything leaves what the first one trained."""
    tokens = 4 * 8 * 32
    first = {"trainable": "new_rows", "tokens": tokens}
    second = {"trainable": "embeddings", "tokens": tokens, "learning_rate": {"peak": 1e-12}}
    pretrain(PretrainConfig(**make(tmp_path / "one", steps=None, phases=[first])))
    pretrain(PretrainConfig(**make(tmp_path / "two", steps=None, phases=[first, second])))
    one, two = (load_file(tmp_path / name / ADAPTER_WEIGHTS) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("changes", [{"steps": 4}, PHASES], ids=["one run", "phases"])
def test_engines_agree(changes: dict[str, Any], make: Settings, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'bllossom[deepspeed]')")
    for name in ("plain", "zero2", "zero3"):
        deepspeed = None if name == "plain" else name
        pretrain(PretrainConfig(**make(tmp_path / name, **changes, deepspeed=deepspeed)))
    plain, zero2, zero3 = ([line["loss"] for line in log_lines(tmp_path / n)] for n in ("plain", "zero2", "zero3"))
    assert zero2 == pytest.approx(plain, rel=1e-5)
    assert zero3 == pytest.approx(plain, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "changes", "killed_after"),
    [("zero2", {}, 12), ("zero3", {}, 12), ("zero3", PHASES, 17)],
    ids=["zero2", "zero3", "zero3, in the second phase"],
)
def test_two_ranks_go_on_exactly(
    engine: str,
    changes: dict[str, Any],
    killed_after: int,
    make: Settings,
    tmp_path: Path,
    write_yaml: Callable[..., Path],
) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'bllossom[deepspeed]')")
    whole, output = tmp_path / "whole", tmp_path / "model"
    changes = changes | {"deepspeed": engine, "processes": 2}
    go_on(write_yaml(make(whole, **changes)))
    config = write_yaml(make(output, **changes))
    kill_after(killed_after, output, config)
    assert "going on after step" in go_on(config)
    assert_same_adapter(whole, output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "changes", "killed_after"),
    [(None, {}, 12), ("zero1", {}, 12), ("zero2", {}, 12), ("zero3", {}, 12), ("zero3", PHASES, 17)],
    ids=["replicas", "zero1", "zero2", "zero3", "zero3, in the second phase"],
)
def test_one_rank_goes_on_from_two_after_reshard(
    engine: str | None,
    changes: dict[str, Any],
    killed_after: int,
    make: Settings,
    tmp_path: Path,
    write_yaml: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    if engine is not None:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'bllossom[deepspeed]')")
    whole, output = tmp_path / "whole", tmp_path / "model"
    changes = changes | {"lora": LORA, "deepspeed": engine}  # no dropout: each rank draws its own
    pretrain(PretrainConfig(**make(whole, **changes)))
    kill_after(killed_after, output, write_yaml(make(output, **changes, processes=2)))
    checkpoint = checkpoints.newest(partial_of(output) / "checkpoints")
    assert checkpoint is not None
    with pytest.raises(BllossomError, match=f"made by 2 ranks, this run has 1; .*bllossom reshard {checkpoint}"):
        pretrain(PretrainConfig(**make(output, **changes)))
    reshard(checkpoint)
    step = checkpoints.read_state(checkpoint).step
    pretrain(PretrainConfig(**make(output, **changes)))
    assert f"going on after step {step} of 20" in capsys.readouterr().err
    one, two = ([(line["loss"], line["gradient_norm"]) for line in log_lines(folder)] for folder in (whole, output))
    assert two == [pytest.approx(pair, rel=1e-6) for pair in one]


def test_what_lora_refuses(make: Settings, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match=r"set trainable to embeddings .* or new_rows"):
        PretrainConfig(**make(tmp_path / "x", trainable="all"))
    with pytest.raises(ValidationError, match="adapters need a trained model"):
        PretrainConfig(**settings(tmp_path / "x", lora=LORA, trainable="embeddings"))
    unknown = PretrainConfig(**make(tmp_path / "x", lora=LORA | {"target_modules": ["q_proj", "qkv_proj"]}))
    with pytest.raises(ConfigError, match=r"no qkv_proj in its blocks; .* down_proj, gate_proj, k_proj, o_proj"):
        pretrain(unknown)
    pretrain(PretrainConfig(**make(tmp_path / "adapter", steps=1)))
    with pytest.raises(BllossomError, match="is a LoRA adapter, not a model; run `bllossom merge-adapter adapter="):
        pretrain(PretrainConfig(**make(tmp_path / "x", model=str(tmp_path / "adapter"))))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'bllossom\[lora\]'"):
        pretrain(PretrainConfig(**make(tmp_path / "x")))


def test_only_the_named_modules_get_adapters(make: Settings, tmp_path: Path) -> None:
    pretrain(PretrainConfig(**make(tmp_path / "m", steps=1, lora=LORA | {"target_modules": ["q_proj", "v_proj"]})))
    names = {name.split(".")[-3] for name in load_file(tmp_path / "m" / ADAPTER_WEIGHTS) if "lora_A" in name}
    assert names == {"q_proj", "v_proj"}
