"""A run that is stopped, killed, or killed while a checkpoint is written goes on to the same weights, bit for bit."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bllossom.artifacts import verify
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.runs import checkpoints
from tests.fixtures.command_runs import assert_same_run, log_lines, partial_of, start, wait_for_step

Settings = Callable[..., dict[str, Any]]

KILLED_WHILE_WRITING = """
import os, signal, sys
import torch
from bllossom.cli import main

save, calls = torch.save, []

def half(state, path):
    save(state, path)
    calls.append(path)
    if len(calls) == 2:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = half
main()
"""

KILLED_WHILE_THE_MODEL_IS_WRITTEN = """
import os, signal
from transformers import PreTrainedModel
from bllossom.cli import main

write = PreTrainedModel.save_pretrained

def half(self, folder):
    write(self, folder)
    path = os.path.join(folder, "model.safetensors")
    os.truncate(path, os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)

PreTrainedModel.save_pretrained = half
main()
"""

KILLED_WHILE_IT_IS_PUBLISHED = """
import os, signal
from bllossom import artifacts
from bllossom.cli import main

artifacts.payload = lambda _: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


@pytest.fixture(scope="module")
def whole(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happened to."""
    output = tmp_path_factory.mktemp("whole") / "model"
    pretrain(PretrainConfig(**settings(output)))
    assert verify(output) == []
    return output


def test_killed_run_goes_on_to_the_same_weights(
    settings: Settings, whole: Path, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    output = tmp_path / "model"
    process = start("-m", "bllossom.cli", "pretrain", "--config", write_yaml(settings(output)))
    wait_for_step(output, 12, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name for path in checkpoints.complete_ones(partial_of(output) / "checkpoints")] in (
        ["step-00000010"],
        ["step-00000015"],
    )
    pretrain(PretrainConfig(**settings(output)))
    assert_same_run(whole, output)


def test_killed_while_a_checkpoint_is_written(
    settings: Settings, whole: Path, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    output = tmp_path / "model"
    process = start("-c", KILLED_WHILE_WRITING, "pretrain", "--config", write_yaml(settings(output)))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    saved = partial_of(output) / "checkpoints"
    assert (saved / checkpoints.WRITING).is_dir()
    assert [path.name for path in checkpoints.complete_ones(saved)] == ["step-00000005"]
    pretrain(PretrainConfig(**settings(output)))
    assert_same_run(whole, output)


@pytest.mark.parametrize("killed", [KILLED_WHILE_THE_MODEL_IS_WRITTEN, KILLED_WHILE_IT_IS_PUBLISHED])
def test_killed_while_the_model_is_written_or_published_makes_no_step_again(
    killed: str,
    settings: Settings,
    whole: Path,
    tmp_path: Path,
    write_yaml: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last step is saved although nothing is scored after it, and no multiple of `checkpoint_every` was reached."""
    output = tmp_path / "model"
    values = settings(output, evaluate_every=False, checkpoint_every=1000)
    process = start("-c", killed, "pretrain", "--config", write_yaml(values))
    said = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, said
    newest = checkpoints.newest(partial_of(output) / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000020"
    monkeypatch.setattr("bllossom.training.runs.trainer.accumulate", lambda *_: pytest.fail("a step was made again"))
    pretrain(PretrainConfig(**values))
    assert_same_run(whole, output)
    assert not (output / "checkpoints").exists()


def test_stopped_run_saves_and_exits_75(
    settings: Settings, whole: Path, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    output = tmp_path / "model"
    arguments = ("-m", "bllossom.cli", "pretrain", "--config", write_yaml(settings(output)))
    process = start(*arguments)
    wait_for_step(output, 7, process)
    process.terminate()
    said = process.communicate()[1]
    assert process.returncode == 75
    assert "to go on, run the same command" in said
    stopped_after = len(log_lines(partial_of(output)))
    assert checkpoints.newest(partial_of(output) / "checkpoints").name == f"step-{stopped_after:08d}"
    pretrain(PretrainConfig(**settings(output)))
    assert_same_run(whole, output)


def test_looking_at_heldout_text_does_not_move_the_run(settings: Settings, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    pretrain(PretrainConfig(**settings(output, evaluate_every=3, checkpoint_every=4, keep=3)))
    assert_same_run(whole, output)
    measured = [line["step"] for line in log_lines(output) if "validation_loss_bits/ko" in line]
    assert measured == [3, 6, 9, 12, 15, 18, 20]
