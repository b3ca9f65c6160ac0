"""Checkpoints to go on from after a kill. One is complete once it has its name: it is written beside, then renamed.

<partial output>/checkpoints/step-00000200/   model.safetensors  optimizer.pt  state.json
<partial output>/checkpoints/writing/         being written, or left by a kill: never read
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

WRITING = "writing"


def save(folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Write the checkpoint after `step` steps, and remove the older ones once it is complete."""
    writing, complete = folder / WRITING, folder / f"step-{step:08d}"
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    # Named parameters, not the state dict: tied weights are one tensor there.
    save_file({name: weight.detach() for name, weight in model.named_parameters()}, writing / "model.safetensors")
    torch.save(optimizer.state_dict(), writing / "optimizer.pt")
    (writing / "state.json").write_text(json.dumps(state | {"step": step}))
    for file in writing.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if complete.exists():
        shutil.rmtree(complete)
    writing.rename(complete)
    for older in complete_steps(folder):
        if older != complete:
            shutil.rmtree(older)


def complete_steps(folder: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def load_latest(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Bring model and optimizer to the newest complete checkpoint and give its state; None where there is none."""
    found = complete_steps(folder)
    if not found:
        return None
    saved = load_file(found[-1] / "model.safetensors")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(saved[name])
    optimizer.load_state_dict(torch.load(found[-1] / "optimizer.pt", weights_only=True))
    return json.loads((found[-1] / "state.json").read_text())
