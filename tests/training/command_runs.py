"""Runs of the command, and what they leave, for the tests of training."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import bllossom


def start(*arguments: object, before: tuple[Path, ...] = ()) -> subprocess.Popen[str]:
    """Python as a process of its own group, on one thread; `before` goes first on its path."""
    paths = [
        str(Path(bllossom.__file__).parent.parent),
        *filter(None, [os.environ.get("PYTHONPATH")]),
        *map(str, before),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # A DeepSpeed run in this process leaves it, and accelerate would take the new process for a rank.
    environment.pop("LOCAL_RANK", None)
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def log_lines(folder: Path) -> list[dict[str, Any]]:
    """The training log of a published or unfinished run."""
    return [json.loads(line) for line in (folder / "logs" / "train.jsonl").read_text().splitlines()]


def partial_of(output: Path) -> Path:
    """The folder of an unfinished run."""
    [partial] = output.parent.glob(f"{output.name}.partial-*")
    return partial


def wait_for_step(output: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Return once the log holds this step."""
    while process.poll() is None:
        found = list(output.parent.glob(f"{output.name}.partial-*/logs/train.jsonl"))
        if found and len(found[0].read_text().splitlines()) >= step:
            return
        time.sleep(0.005)
    pytest.fail(f"ended before step {step}: {process.communicate()[1]}")


def assert_same_run(one: Path, other: Path) -> None:
    """The same losses at every step, and the same weights, bit for bit."""
    exact = ("step", "loss", "loss/en", "loss/ko", "gradient_norm", "learning_rate")
    lines = [[{key: line.get(key) for key in exact} for line in log_lines(folder)] for folder in (one, other)]
    assert len(lines[0]) == 20
    assert lines[0] == lines[1]
    weights = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def assert_only_new_rows_moved(before: Path, after: Path, old_rows: int = 200) -> None:
    """Everything is bit-equal but the rows from `old_rows` on of the two embedding matrices, which moved."""
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    for name, weight in new.items():
        if name not in ("model.embed_tokens.weight", "lm_head.weight"):
            assert torch.equal(weight, old[name]), name
            continue
        assert torch.equal(weight[:old_rows], old[name][:old_rows]), name
        moved = (weight[old_rows:] != old[name][old_rows:]).any(dim=1)
        # Every row of the output moves; an input row moves when its piece is met.
        assert moved.all() if name == "lm_head.weight" else moved.sum() > 60
