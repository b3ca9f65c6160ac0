"""Pieces that training never met are told from those that it moved, though weight decay shortens every row."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bllossom.report.run_folder import RunStep, read_run
from bllossom.report.sections.health import measure

INPUT = "model.embed_tokens.weight"


def trained(run: Path, dtype: torch.dtype, met: int, decay: float) -> tuple[RunStep, RunStep, int]:
    """The steps adapted and expanded, where training met the first new pieces, and shortened every row; and how many
    new pieces there are."""
    steps = {step.name: step for step in read_run(run).steps}
    before, after = steps["expanded"], steps["adapted"]
    old = int(before.manifest.figures["old_rows"])
    weights = load_file(after.folder / "model.safetensors")
    rows = load_file(before.folder / "model.safetensors")[INPUT].float()
    moved = torch.zeros_like(rows)
    moved[: old + met] = torch.randn(old + met, rows.shape[1], generator=torch.Generator().manual_seed(0)) * 0.05
    moved[old] *= 0.02  # met, but hardly
    for _ in range(1000):  # each step rounds to fp32
        rows = rows * (1 - decay / 1000)
    weights[INPUT] = (rows + moved).to(dtype)
    save_file(weights, after.folder / "model.safetensors", {"format": "pt"})
    return after, before, int(before.manifest.figures["new_pieces"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_pieces_that_only_decayed_never_moved(run: Path, dtype: torch.dtype, decay: float) -> None:
    after, before, new = trained(run, dtype, met=9, decay=decay)
    found = measure(after, before)
    assert json.loads(json.dumps(found)) == found
    if dtype == torch.float32:
        assert found["never_moved"] == new - 9
    assert found["hardly_trained"] == new - 8  # most were never met: the median is of the others


def test_without_a_piece_that_moved_none_was_trained(run: Path) -> None:
    after, before, new = trained(run, torch.float32, met=0, decay=0.3)
    weights = load_file(after.folder / "model.safetensors")
    weights[INPUT] = load_file(before.folder / "model.safetensors")[INPUT] * 0.5
    save_file(weights, after.folder / "model.safetensors", {"format": "pt"})
    found = measure(after, before)
    assert (found["never_moved"], found["hardly_trained"]) == (new, new)
