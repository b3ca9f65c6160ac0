"""What auto stands for follows from the device, is recorded, and is not changed in the middle of a run."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bllossom.errors import BllossomError, Stopped
from bllossom.ranks.device import DeviceType
from bllossom.training.block_rows import BlockRows
from bllossom.training.engines.rows import Row
from bllossom.training.pretrain import PretrainConfig, dry_run, pretrain
from bllossom.training.runs import checkpoints
from tests.fixtures.command_runs import assert_same_run, partial_of

Settings = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("device", "installed", "precision", "liger"),
    [("cuda", True, "bf16", True), ("cuda", False, "bf16", False), ("cpu", True, "fp32", False)],
)
def test_auto_follows_the_device(
    device: DeviceType, installed: bool, precision: str, liger: bool, settings: Settings, tmp_path: Path
) -> None:
    config = PretrainConfig(**settings(tmp_path / "model", precision="auto"))
    found = config.resolved(device, liger_installed=installed)
    assert (found.precision, found.liger, found.bf16) == (precision, liger, precision == "bf16")
    unchanged = {"precision": None, "liger": None}
    assert found.model_dump() | unchanged == config.model_dump() | unchanged


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("liger", [True, False])
def test_what_is_asked_for_stays(
    device: DeviceType, precision: str, liger: bool, settings: Settings, tmp_path: Path
) -> None:
    config = PretrainConfig(**settings(tmp_path / "model", precision=precision, liger=liger))
    assert config.resolved(device, liger_installed=True) == config


def test_nothing_computes_before_the_device_is_known(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="call resolved first"):
        _ = PretrainConfig(**settings(tmp_path / "model", precision="auto")).bf16


def test_the_precision_is_said_and_is_the_runs_own(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the CPU a run of auto is one of fp32, and so is what it publishes."""
    auto = PretrainConfig(**settings(tmp_path / "model", precision="auto"))
    assert "computes in fp32 on the CPU" in dry_run(auto)
    manifest = pretrain(auto)
    assert "computes in fp32 on the CPU" in capsys.readouterr().err
    assert (manifest.config["precision"], manifest.config["liger"]) == ("fp32", False)
    assert pretrain(PretrainConfig(**settings(tmp_path / "model", precision="fp32"))) == manifest
    with pytest.raises(BllossomError, match='precision: "fp32" there, "bf16" here'):
        pretrain(auto.resolved("cuda", liger_installed=False))


def test_a_run_does_not_change_its_precision_on_another_kind_of_device(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "model"
    pretrain(PretrainConfig(**settings(whole)))
    config = PretrainConfig(**settings(output, precision="auto"))
    read = BlockRows.row

    def stopping(self: BlockRows, index: int) -> Row:
        if index == 6 * 8:
            signal.raise_signal(signal.SIGTERM)
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(BlockRows, "row", stopping)
        with pytest.raises(Stopped):
            pretrain(config)
    saved = checkpoints.newest(partial_of(output) / "checkpoints")
    assert saved is not None
    assert checkpoints.read_state(saved).inputs["precision"] == "fp32"
    # What the same command asks for on a machine with GPUs.
    with pytest.raises(
        BllossomError, match=r"precision fp32 there, bf16 here.*after step 7; .* go on \(precision=fp32;"
    ):
        pretrain(config.resolved("cuda", liger_installed=False))
    pretrain(PretrainConfig(**settings(output, precision="fp32")))
    assert_same_run(whole, output)
