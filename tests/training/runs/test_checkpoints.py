"""A checkpoint that is not what was written any more is never trained on; the newest whole one is, and it is said."""

import contextlib
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.errors import BllossomError, Stopped
from bllossom.training.block_rows import BlockRows
from bllossom.training.engines.rows import Row
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checkpoints import State
from bllossom.training.runs.checksums import seal, unseal
from bllossom.training.runs.reshard import reshard
from tests.fixtures.command_runs import assert_same_run, flip, partial_of

Settings = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def runs(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole`, a run that nothing happened to, and `model`, one that was stopped after step 12: three checkpoints."""
    folder = tmp_path_factory.mktemp("runs")
    pretrain(PretrainConfig(**settings(folder / "whole", keep=3)))
    read = BlockRows.row

    def stopping(self: BlockRows, index: int) -> Row:
        if index == 11 * 8:
            signal.raise_signal(signal.SIGTERM)
        return read(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockRows, "row", stopping)
        with pytest.raises(Stopped):
            pretrain(PretrainConfig(**settings(folder / "model", keep=3)))
    return folder


@pytest.fixture
def stopped(runs: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run; gives its output."""
    partial = partial_of(runs / "model")
    shutil.copytree(partial, tmp_path / partial.name)
    return tmp_path / "model"


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a bit of the weights": lambda folder: flip(folder / "engine/model.safetensors"),
    "a bit of the moments": lambda folder: flip(folder / "engine/optimizer.pt"),
    "a bit of the state": lambda folder: flip(folder / "state.json"),
    "cut": lambda folder: (folder / "engine/optimizer.pt").write_bytes(b"PK"),
    "empty": lambda folder: (folder / "state.json").write_bytes(b""),
    "no object": lambda folder: (folder / "state.json").write_bytes(b"[]"),
    "weights missing": lambda folder: (folder / "engine/model.safetensors").unlink(),
    "state missing": lambda folder: (folder / "state.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_whole_checkpoint_is_gone_on_from(
    damage: str, runs: Path, stopped: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = partial_of(stopped) / "checkpoints"
    assert [path.name for path in checkpoints.complete_ones(saved)] == [f"step-{step:08d}" for step in (5, 10, 12)]
    DAMAGES[damage](saved / "step-00000012")
    pretrain(PretrainConfig(**settings(stopped, keep=3)))
    said = capsys.readouterr().err
    assert "step-00000012 is damaged (" in said
    assert "going on from step-00000010; it is kept as damaged-step-00000012" in said
    assert "going on after step 10 of 20" in said
    assert_same_run(runs / "whole", stopped)


def test_a_damaged_older_checkpoint_stops_nothing(runs: Path, stopped: Path, settings: Settings) -> None:
    flip(partial_of(stopped) / "checkpoints/step-00000005/state.json")
    flip(partial_of(stopped) / "checkpoints/step-00000010/engine/optimizer.pt")
    pretrain(PretrainConfig(**settings(stopped, keep=1)))
    assert_same_run(runs / "whole", stopped)


def test_without_a_whole_checkpoint_nothing_is_trained(stopped: Path, settings: Settings) -> None:
    saved = partial_of(stopped) / "checkpoints"
    for checkpoint in checkpoints.complete_ones(saved):
        flip(checkpoint / "engine/model.safetensors")
    with pytest.raises(BllossomError) as refused:
        pretrain(PretrainConfig(**settings(stopped, keep=3)))
    told = str(refused.value)
    assert "every checkpoint is damaged (step-00000012: engine/model.safetensors is not what was written; " in told
    assert told.endswith("or remove that folder to start over from the first step")
    shutil.rmtree(saved)
    pretrain(PretrainConfig(**settings(stopped, keep=3)))


def test_a_checkpoint_of_before_checksums_goes_on_and_it_is_said(
    runs: Path, stopped: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = partial_of(stopped) / "checkpoints/step-00000012"
    state = json.loads((newest / "state.json").read_text())
    del state["checksum"], state["checksums"]
    (newest / "state.json").write_text(json.dumps(state))
    pretrain(PretrainConfig(**settings(stopped, keep=3)))
    said = capsys.readouterr().err
    assert "step-00000012 is of before there were checksums: its files are taken as they are" in said
    assert "going on after step 12 of 20" in said
    assert_same_run(runs / "whole", stopped)


def test_a_cut_file_of_before_checksums_is_told_in_one_line(stopped: Path, settings: Settings) -> None:
    newest = partial_of(stopped) / "checkpoints/step-00000012"
    state = json.loads((newest / "state.json").read_text())
    del state["checksum"], state["checksums"]
    (newest / "state.json").write_text(json.dumps(state))
    (newest / "engine/model.safetensors").write_bytes(b"cut")
    with pytest.raises(BllossomError, match=r"step-00000012 cannot be loaded \(.*\); remove it to go on from an older"):
        pretrain(PretrainConfig(**settings(stopped, keep=3)))


def test_a_damaged_checkpoint_is_not_resharded(stopped: Path) -> None:
    newest = partial_of(stopped) / "checkpoints/step-00000012"
    reshard(newest)
    assert checkpoints.damage(newest) is None
    flip(newest / "engine/optimizer.pt")
    with pytest.raises(BllossomError, match=r"is damaged \(engine/optimizer.pt is not what .*\); name an older"):
        reshard(newest)


def test_what_a_phase_left_is_checked_too(
    settings: Settings, expanded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = BlockRows.row

    def stopping(self: BlockRows, index: int) -> Row:
        if index == 5 * 8:
            signal.raise_signal(signal.SIGTERM)
        return read(self, index)

    phases = [{"trainable": "new_rows", "tokens": 4 * 256}, {"trainable": "all", "tokens": 4 * 256}]
    config = PretrainConfig(**settings(tmp_path / "model", model=str(expanded), phases=phases, steps=None))
    monkeypatch.setattr(BlockRows, "row", stopping)
    with pytest.raises(Stopped):
        pretrain(config)
    monkeypatch.undo()
    kept = partial_of(tmp_path / "model") / "phases/0"
    flip(kept / "model/model.safetensors")
    with pytest.raises(BllossomError, match=r"phases/0 is damaged \(model/model.safetensors .*; remove .*phases"):
        pretrain(config)
    shutil.rmtree(kept.parent)
    shutil.rmtree(partial_of(tmp_path / "model") / "checkpoints")
    pretrain(config)


def test_the_best_of_pairs_is_the_one_of_the_lowest_loss(tmp_path: Path) -> None:
    """Not by the mean of loss and accuracy, of which more is better. A version of before went by that: what it took for
    the best is spared until there is a better one, and the best by loss beside it."""
    first = checkpoints.scored(State(step=10), {"loss": 0.50, "accuracy": 0.90})
    second = checkpoints.scored(first.model_copy(update={"step": 20}), {"loss": 0.55, "accuracy": 0.10})
    assert (second.best_step, second.best_score) == (10, 0.50)
    assert checkpoints.scored(State(), {"ko": 1.0, "en": 3.0}).best_score == 2.0
    of_before = {"best_step": 20, "best_score": 0.325}
    for state in (first, second.model_copy(update=of_before), State(step=30, **of_before), State(step=40, **of_before)):
        folder = checkpoints.at_step(tmp_path, state.step)
        folder.mkdir()
        checkpoints.write_state(folder, state, {})
    assert checkpoints.unneeded(tmp_path) == [checkpoints.at_step(tmp_path, 30)]


VALUES = {"step": 7, "recent": [0.1, 1e-30, 2.0 / 3.0], "losses": {"loss/ko": 1.25}, "checksums": {"a": "b"}}


@given(st.integers(0, 8 * len(seal(VALUES)) - 1))
def test_any_bit_of_sealed_values_matters(bit: int) -> None:
    sealed = bytearray(seal(VALUES).encode())
    assert unseal(sealed) == VALUES
    sealed[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(ValueError):
        assert unseal(sealed) == VALUES  # 1e-30 and 1E-30 are the same
