"""A checkpoint for other ranks: converted with the one that a run may end with, and beside no running run."""

import json
import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bllossom.artifacts import lock_of
from bllossom.errors import BllossomError, Stopped
from bllossom.files import locked
from bllossom.provenance.manifest import UNFINISHED
from bllossom.ranks.ranks import Ranks
from bllossom.training import sft as sft_module
from bllossom.training.engines.rows import Row
from bllossom.training.runs import checkpoints
from bllossom.training.runs.reshard import reshard
from bllossom.training.sft import SftConfig, sft
from bllossom.training.tuning.example_rows import PackedSteps
from tests.fixtures.command_runs import flip, partial_of
from tests.fixtures.tiny_chat import write_tiny_model

EXAMPLES = [{"instruction": f"Count to {n}.", "output": " ".join(map(str, range(n + 1)))} for n in range(1, 15)]
NO_DEEPSPEED = "DeepSpeed is not installed (pip install 'bllossom[deepspeed]')"
Make = Callable[..., SftConfig]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """`make(name, key=value, …)`: a run that scores best after its first epoch, which is step 3."""
    model, data, worse = write_tiny_model(tmp_path / "model"), tmp_path / "examples.json", count()
    data.write_text(json.dumps(EXAMPLES))
    monkeypatch.setattr(sft_module, "mean_loss", lambda *_, **__: {"outputs": float(next(worse))})

    def config(name: str, **changes: object) -> SftConfig:
        values = {"output": tmp_path / name, "model": str(model), "data": [data], "examples_per_step": 4, "epochs": 3}
        values |= {"learning_rate": {"peak": 0.01, "warmup_fraction": 0, "schedule": "constant"}, "micro_batch": 2}
        values |= {"gpus": 0, "template": "plain", "samples": 0, "holdout": 0.2}
        return SftConfig.model_validate(values | changes)

    return config


def stop_behind_the_best(config: SftConfig, patch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Stop a run after step 4; gives its checkpoints: the best one, and the newest."""

    class Stopping(PackedSteps):
        def micro_batches(self, step: int, ranks: Ranks) -> list[list[Row]]:
            if step == 3:
                signal.raise_signal(signal.SIGTERM)
            return super().micro_batches(step, ranks)

    with patch.context() as stopping:
        stopping.setattr(sft_module, "PackedSteps", Stopping)
        with pytest.raises(Stopped):
            sft(config)
    best, newest = checkpoints.complete_ones(partial_of(config.output) / "checkpoints")
    assert checkpoints.read_state(newest).best_step == 3
    return best, newest


@pytest.mark.parametrize("engine", [None, "zero2", "zero3"])
def test_a_resharded_run_ends_with_its_best_epoch(
    engine: str | None, make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if engine is not None:
        pytest.importorskip("deepspeed", reason=NO_DEEPSPEED)
    whole, again = make("whole", deepspeed=engine), make("again", deepspeed=engine)
    assert sft(whole).figures["best_step"] == 3
    best, newest = stop_behind_the_best(again, monkeypatch)
    reshard(newest)
    assert [checkpoints.read_state(path).ranks for path in (best, newest)] == ["any", "any"]
    assert sft(again).figures["best_step"] == 3
    assert "the weights after step 3 of 9 scored best on what was held out: they are kept" in capsys.readouterr().err
    weights = [load_file(config.output / "model.safetensors") for config in (whole, again)]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_a_run_ends_with_a_best_epoch_of_another_form_than_the_newest(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the newest checkpoint alone was converted, by a version of before."""
    pytest.importorskip("deepspeed", reason=NO_DEEPSPEED)
    config = make("out", deepspeed="zero2")
    best, newest = stop_behind_the_best(config, monkeypatch)
    shutil.copytree(best, tmp_path / "kept")
    reshard(newest)
    shutil.rmtree(best)
    shutil.copytree(tmp_path / "kept", best)
    assert sft(config).figures["best_step"] == 3


def test_a_best_epoch_of_other_ranks_is_refused_before_a_step_is_made(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("deepspeed", reason=NO_DEEPSPEED)
    config = make("out", deepspeed="zero2")
    best, _ = stop_behind_the_best(config, monkeypatch)
    state = checkpoints.read_state(best)
    checkpoints.write_state(best, state.model_copy(update={"ranks": 2}), state.checksums)
    with monkeypatch.context() as patch:
        patch.setattr("bllossom.training.runs.trainer.accumulate", lambda *_: pytest.fail("a step was made"))
        with pytest.raises(BllossomError, match=f"made by 2 ranks, this run has 1; convert it with .* {best}"):
            sft(config)


def test_a_damaged_best_epoch_is_left_to_the_run_to_refuse(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make("out")
    best, newest = stop_behind_the_best(config, monkeypatch)
    flip(best / "engine/optimizer.pt")
    reshard(newest)
    with pytest.raises(BllossomError, match="which scored best, is damaged"):
        sft(config)


def test_the_best_one_of_a_run_that_ends_with_its_last_is_left_as_it_is(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make("out")
    best, newest = stop_behind_the_best(config, monkeypatch)
    origin = partial_of(config.output) / UNFINISHED
    origin.write_text(origin.read_text().replace('"sft"', '"pretrain"'))
    reshard(newest)
    assert [checkpoints.read_state(path).ranks for path in (best, newest)] == [1, "any"]


def test_nothing_is_converted_beside_a_running_run(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would remove what that writes."""
    config = make("out")
    _, newest = stop_behind_the_best(config, monkeypatch)
    writing = newest.with_name(checkpoints.WRITING)
    writing.mkdir()
    with locked(lock_of(config.output), "out"), pytest.raises(BllossomError, match="another process is working in"):
        reshard(newest)
    assert writing.is_dir()
    reshard(newest)
    assert not lock_of(config.output).exists()
    copied = shutil.copytree(newest, config.output.with_name("copies") / newest.name)
    reshard(copied)
