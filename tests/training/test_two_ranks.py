"""Two ranks on the CPU (gloo): real processes, started by torchrun and by our own launcher."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bllossom.artifacts import verify
from bllossom.errors import BllossomError
from bllossom.ranks import ranks
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.runs import checkpoints
from bllossom.training.runs.reshard import reshard
from tests.fixtures.command_runs import (
    assert_only_new_rows_moved,
    assert_same_run,
    log_lines,
    partial_of,
    start,
    wait_for_step,
)
from tests.fixtures.two_ranks import global_gradient

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'bllossom[deepspeed]')")

Settings = Callable[..., dict[str, Any]]

BATCHES: dict[str, dict[str, Any]] = {
    "replicas": {},
    "zero1": {"deepspeed": "zero1", "loss_chunk": None},
    "zero2": {"deepspeed": "zero2", "micro_batch": 1},
    "zero2, no accumulation": {"deepspeed": "zero2", "micro_batch": 4},
    "zero3": {"deepspeed": "zero3"},
    "zero3, small chunks": {"deepspeed": "zero3", "micro_batch": 1, "loss_chunk": 7},
    "zero3-offload": {"deepspeed": "zero3-offload", "micro_batch": 4},
}

DIES_WHILE_WRITING = """
import os, signal, sys

seen = []

def watch(event, arguments):
    # Rank 0 opens a checkpoint's state.json once the engines' files are written: the second time it dies there.
    path = "/checkpoints/writing/state.json.unfinished"
    if event == "open" and arguments[1] == "w" and str(arguments[0]).endswith(path):
        seen.append(arguments[0])
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def torchrun(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One launch by torchrun: the runs `zero2` and `zero3`, and a global batch by every engine."""
    folder = tmp_path_factory.mktemp("torchrun")
    tasks = {
        "runs": [settings(folder / name, deepspeed=name) for name in ("zero2", "zero3")],
        "stopped": [settings(folder / f"stopped-{name}", deepspeed=name) for name in ("zero2", "zero3")],
        "batches": {name: settings(folder / "unused", **changes) for name, changes in BATCHES.items()},
        "gradients": str(folder),
    }
    (folder / "tasks.json").write_text(json.dumps(tasks))
    script = Path(__file__).parents[1] / "fixtures/two_ranks.py"
    process = start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, folder / "tasks.json")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    return folder


def test_loss_and_gradient_are_those_of_the_global_batch(torchrun: Path, settings: Settings, tmp_path: Path) -> None:
    one = PretrainConfig(**settings(tmp_path / "one", micro_batch=8, loss_chunk=None))
    loss, gradient = global_gradient(one, ranks.alone("cpu"), tmp_path)
    norm = torch.stack([part.norm() for part in gradient.values()]).norm()
    losses = json.loads((torchrun / "losses.json").read_text())
    assert losses.keys() == BATCHES.keys()
    for name, other_loss in losses.items():
        other = load_file(torchrun / f"{name}.safetensors")
        assert other_loss == pytest.approx(loss, rel=1e-6), name
        difference = torch.stack([(other[key] - part).norm() for key, part in gradient.items()]).norm()
        assert difference / norm < 5e-6, name


def test_ranks_under_torchrun_publish_one_whole_model(torchrun: Path) -> None:
    for name in ("zero2", "zero3"):
        assert verify(torchrun / name) == []
        assert len(log_lines(torchrun / name)) == 20


@pytest.mark.parametrize("engine", ["zero2", "zero3"])
def test_another_number_of_ranks_after_reshard(torchrun: Path, settings: Settings, engine: str) -> None:
    output = torchrun / f"stopped-{engine}"
    alone = PretrainConfig(**settings(output, deepspeed=engine))
    checkpoint = checkpoints.newest(partial_of(output) / "checkpoints")
    assert checkpoint is not None
    with pytest.raises(BllossomError, match=f"made by 2 ranks, this run has 1; .*bllossom reshard {checkpoint}"):
        pretrain(alone)
    reshard(checkpoint)
    pretrain(alone)
    two, one = (
        [(line["loss"], line["gradient_norm"]) for line in log_lines(torchrun / name)]
        for name in (engine, f"stopped-{engine}")
    )
    assert two[:10] == one[:10]
    # The loss alone would hide a wrong update for some steps.
    assert one[10:] == [pytest.approx(pair, rel=1e-6) for pair in two[10:]]


@pytest.mark.parametrize("engine", ["zero1", "zero2", "zero3", "zero3-offload"])
def test_loaded_model_trains_alike_under_every_engine(
    engine: str, settings: Settings, expanded: Path, tmp_path: Path
) -> None:
    """Under ZeRO-3 a model is loaded in parts; the same weights have to decay all the same."""
    changes = {"model": str(expanded), "optimizer": {"weight_decay": 1.0}}
    pretrain(PretrainConfig(**settings(tmp_path / "plain", **changes)))
    pretrain(PretrainConfig(**settings(tmp_path / engine, **changes, deepspeed=engine)))
    plain, other = ([line["loss"] for line in log_lines(tmp_path / name)] for name in ("plain", engine))
    assert other == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("engine", ["zero2", "zero3"])
def test_new_rows_alone_move_under_deepspeed(engine: str, settings: Settings, expanded: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    changes = {"model": str(expanded), "trainable": "new_rows", "steps": 4, "deepspeed": engine}
    pretrain(PretrainConfig(**settings(output, **changes)))
    assert_only_new_rows_moved(expanded, output)


def test_rank_that_dies_while_writing_a_checkpoint(
    torchrun: Path, settings: Settings, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    output = tmp_path / "model"
    (tmp_path / "sitecustomize.py").write_text(DIES_WHILE_WRITING)
    command = ("-m", "bllossom.cli", "pretrain", "--config")
    config = write_yaml(settings(output, deepspeed="zero2", processes=2))
    process = start(*command, config, before=(tmp_path,))
    said = process.communicate()[1]
    assert process.returncode == 1
    assert "rank 0 was killed by SIGKILL" in said
    saved = partial_of(output) / "checkpoints"
    assert (saved / checkpoints.WRITING).is_dir()
    assert [path.name for path in checkpoints.complete_ones(saved)] == ["step-00000005"]

    process = start(*command, config)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "going on after step 5 of 20" in said
    assert_same_run(torchrun / "zero2", output)


def test_stopped_and_killed_under_zero3(
    torchrun: Path, settings: Settings, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    output = tmp_path / "model"
    command = (
        "-m",
        "bllossom.cli",
        "pretrain",
        "--config",
        write_yaml(settings(output, deepspeed="zero3", processes=2)),
    )
    process = start(*command)
    wait_for_step(output, 6, process)
    process.terminate()
    said = process.communicate()[1]
    assert process.returncode == 75, said
    assert "to go on, run the same command" in said

    process = start(*command)
    wait_for_step(output, 17, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    process = start(*command)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert_same_run(torchrun / "zero3", output)
