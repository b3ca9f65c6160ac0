"""The room that is asked for on disk is what runs are seen to write."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bllossom.errors import BllossomError, Stopped
from bllossom.training.block_rows import BlockRows
from bllossom.training.engines.rows import Row
from bllossom.training.planning import disk
from bllossom.training.planning.disk import checkpoint_bytes, disk_need, strategy_of
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checkpoints import PHASES
from tests.fixtures.command_runs import partial_of

Settings = Callable[..., dict[str, Any]]
SHAPE = {"hidden_size": 128, "intermediate_size": 512, "layers": 3, "heads": 2}
EMBEDDINGS = 2 * 300 * 128
PARAMETERS = EMBEDDINGS + 3 * (4 * 128 * 128 + 3 * 128 * 512 + 2 * 128) + 128
RANK = 8
ADAPTERS = 3 * RANK * (4 * (128 + 128) + 3 * (128 + 512))
ENGINES = [None, "zero1", "zero2", "zero3", "zero3-offload"]
SMALL_FILES = 100_000
"""Bytes: names, states, and under DeepSpeed two scripts of 40 kB."""
TWO_PHASES = {
    "steps": None,
    "phases": [{"trainable": "embeddings", "tokens": 2 * 8 * 32}, {"trainable": "all", "tokens": 2 * 8 * 32}],
}


@pytest.fixture(scope="module")
def base(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for adapters."""
    output = tmp_path_factory.mktemp("base") / "model"
    pretrain(PretrainConfig(**settings(output, model={"init": SHAPE}, steps=1)))
    return output


def size_of(*folders: Path) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def stop_at_row(row: int, patch: pytest.MonkeyPatch) -> None:
    """SIGTERM while this row is read: its step is finished and a checkpoint written."""
    read = BlockRows.row

    def stopping(self: BlockRows, index: int) -> Row:
        if index == row:
            signal.raise_signal(signal.SIGTERM)
        return read(self, index)

    patch.setattr(BlockRows, "row", stopping)


def skip_without(package: str, extra: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed (pip install 'bllossom[{extra}]')")


@pytest.mark.parametrize(
    ("adapters", "precision"), [(False, "fp32"), (False, "bf16"), (True, "bf16")], ids=["fp32", "bf16", "lora in bf16"]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_has_the_bytes_that_are_planned(
    engine: str | None,
    adapters: bool,
    precision: str,
    base: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if engine is not None:
        skip_without("deepspeed", "deepspeed")
    changes: dict[str, Any] = {"model": {"init": SHAPE}}
    if adapters:
        skip_without("peft", "lora")
        changes = {"model": str(base), "lora": {"rank": RANK}, "trainable": "embeddings"}
    stop_at_row(0, monkeypatch)
    config = PretrainConfig(**settings(tmp_path / "model", deepspeed=engine, precision=precision, **changes))
    with pytest.raises(Stopped):
        pretrain(config)
    [saved] = checkpoints.complete_ones(partial_of(tmp_path / "model") / "checkpoints")
    trained = EMBEDDINGS + ADAPTERS if adapters else PARAMETERS
    planned = checkpoint_bytes(trained, strategy_of(config), bf16=precision == "bf16")
    assert size_of(saved) == pytest.approx(planned, abs=SMALL_FILES)


@pytest.mark.parametrize(("stage", "rule"), [(0, "zero1"), (1, "zero1"), (2, "zero1"), (3, "zero3")])
def test_a_deepspeed_json_counts_by_its_stage(stage: int, rule: str, settings: Settings, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(f'{{"zero_optimization": {{"stage": {stage}}}}}')
    assert strategy_of(PretrainConfig(**settings(tmp_path / "model", deepspeed=str(own)))) == rule


def test_a_run_of_phases_writes_what_is_planned(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"
    config = PretrainConfig(**settings(output, model={"init": SHAPE}, **TWO_PHASES))
    need = disk_need(config, "replicas", trained=PARAMETERS, parameters=PARAMETERS, phases=2)
    with monkeypatch.context() as patch:
        stop_at_row(2 * 8, patch)  # the first of the second phase
        with pytest.raises(Stopped):
            pretrain(config)
    partial = partial_of(output)
    assert size_of(partial / PHASES) == pytest.approx(need.left_by_phases, abs=SMALL_FILES)
    assert need.left_by_phases == need.published == 4 * PARAMETERS
    # What the run has written counts as there: it will be replaced, or is part of the need.
    written, noted = size_of(partial), 20  # bytes at most, of how long it took until it was stopped
    usage = disk.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=int(need.total) - written - noted))
        with pytest.raises(BllossomError, match=r"\S+ MB are free, .* \(3 checkpoints .* phases leave"):
            pretrain(config)
        patch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=int(need.total) - written))
        pretrain(config)
    assert (output / "model.safetensors").stat().st_size == pytest.approx(need.published, abs=SMALL_FILES)


def test_disk_without_room_is_told_before_the_first_phase(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first phase alone would fit: its checkpoints hold the embeddings only."""
    config = PretrainConfig(**settings(tmp_path / "model", model={"init": SHAPE}, **TWO_PHASES))
    first = disk_need(config, "replicas", trained=EMBEDDINGS, parameters=PARAMETERS, phases=2)
    usage = disk.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=int(first.total)))
    with pytest.raises(BllossomError, match="free some room, lower keep, or move the output"):
        pretrain(config)
    assert not list(tmp_path.glob("model*"))  # refused before anything was made


def test_an_adapters_run_needs_no_room_for_the_base(settings: Settings, tmp_path: Path) -> None:
    changes = {"model": "owner/base", "lora": {"rank": RANK}, "trainable": "embeddings", "save_dtype": "bf16"}
    config = PretrainConfig(**settings(tmp_path / "model", **changes))
    need = disk_need(config, "replicas", trained=ADAPTERS, parameters=PARAMETERS, phases=1)
    assert need.total == 3 * 12 * ADAPTERS + 2 * ADAPTERS
