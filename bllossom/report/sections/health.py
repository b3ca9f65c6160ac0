"""Each new piece's health: how long its row is, and how far training moved it, beside the rows that were there before.

    norm     ‖row‖ after training                      L2, float32
    update   of row after training − row before it,    0 for a piece that training never met, but for rounding: weight
             what is orthogonal to the latter          decay, which shortens every row, is no part of it

The figures are read off the weights, and kept in health.json in the run's folder: the page's numbers come from there.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bllossom.errors import BllossomError
from bllossom.model.checkpoint import Checkpoint, open_checkpoint
from bllossom.model.safetensors import FLOAT_DTYPES, Rows
from bllossom.report.blocks import Block, Cell, Section, Table
from bllossom.report.run_folder import Figure, RunFolder, RunStep
from bllossom.report.sections.overview import sources_of
from bllossom.tokenizer.load import load_tokenizer

HEALTH = "health.json"
BLOCK_ROWS = 1024
SHOWN = 20  # best and worst
HARDLY = 0.05  # of the median update of the new rows that moved: what has moved less was hardly trained
ROUNDING = 1e-5  # of a row's norm: what thousands of steps of weight decay round to in fp32, and no gradient
UPDATE_MEANS = "the update is how far training turned a row from where it was; weight decay alone turns none"


def health(runs: Sequence[RunFolder]) -> Section | None:
    """A part for each model that was trained from an expanded one; None where there is none."""
    blocks: list[Block] = []
    for run in runs:
        found: dict[str, dict[str, Any]] = {}
        for step, before in _trained_pairs(run):
            try:
                found[step.name] = measure(step, before)
            except BllossomError as error:  # weights take room, and so are the first to be removed
                blocks.append(f"Not measured, {step.label}: {error}.")
        if found:
            (run.folder / HEALTH).write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf8")
        for name, figures in found.items():
            blocks += _tables(run, name, figures)
    return Section("health", "The new pieces' health", blocks) if blocks else None


def measure(step: RunStep, before: RunStep) -> dict[str, Any]:
    """Norms and updates of the embedding's rows, old and new, and the pieces that moved most and least."""
    old_rows = int(before.manifest.figures["old_rows"])
    new_rows = int(before.manifest.figures.get("new_pieces", before.manifest.figures["rows"] - old_rows))
    one, other = open_checkpoint(before.folder), open_checkpoint(step.folder)
    norms, updates = _norms_and_updates(one, other)
    new, moved = norms[old_rows : old_rows + new_rows], updates[old_rows : old_rows + new_rows]
    met = moved > max(_rounding(one), _rounding(other)) * new
    hardly = ~met | (moved <= HARDLY * moved[met].median())  # without one that moved the median is nan, above nothing
    tokenizer = load_tokenizer(step.folder)
    order = moved.argsort(descending=True).tolist()
    pieces = [
        {"piece": tokenizer.convert_ids_to_tokens(old_rows + at), "norm": float(new[at]), "update": float(moved[at])}
        for at in [*order[:SHOWN], *order[max(SHOWN, len(order) - SHOWN) :]]
    ]
    return {
        "from": before.name,
        "old": {"rows": old_rows, **_medians(norms[:old_rows], updates[:old_rows])},
        "new": {"rows": new_rows, **_medians(new, moved)},
        "hardly_trained": int(hardly.sum()),
        "never_moved": int((~met).sum()),
        "pieces": pieces,
    }


def _trained_pairs(run: RunFolder) -> Iterator[tuple[RunStep, RunStep]]:
    """Each full model that was trained from an expanded one, and that one."""
    for step in run.of("pretrain"):
        for before in sources_of(step, run.steps):
            if before.stage in ("expand", "distill-rows") and not (step.folder / "adapter_config.json").is_file():
                yield step, before


def _norms_and_updates(before: Checkpoint, after: Checkpoint) -> tuple[torch.Tensor, torch.Tensor]:
    if before.find(before.input_name)[1].shape != after.find(after.input_name)[1].shape:
        raise BllossomError(f"{before.folder} and {after.folder} have embeddings of other shapes; make them again")
    norms, updates = [], []
    for one, other in zip(_blocks(before), _blocks(after), strict=True):
        norms.append(other.norm(dim=1))
        direction = torch.nn.functional.normalize(one, dim=1)  # zeros of a row of zeros
        along = (other * direction).sum(dim=1, keepdim=True)
        updates.append((other - along * direction).norm(dim=1))
    return torch.cat(norms), torch.cat(updates)


def _rounding(checkpoint: Checkpoint) -> float:
    """How far a row that has no gradient may turn, as a share of its norm: it is rounded to the type it is saved in."""
    _, tensor = checkpoint.find(checkpoint.input_name)
    return max(ROUNDING, torch.finfo(FLOAT_DTYPES[tensor.dtype]).eps / 2)


def _blocks(checkpoint: Checkpoint) -> Iterator[torch.Tensor]:
    shard, tensor = checkpoint.find(checkpoint.input_name)
    return Rows(Path(shard.path), tensor, tensor.shape[0]).blocks(BLOCK_ROWS)


def _medians(norms: torch.Tensor, updates: torch.Tensor) -> dict[str, float]:
    if not len(norms):
        return {"norm": 0.0, "update": 0.0}
    return {"norm": float(norms.median()), "update": float(updates.median())}


def _tables(run: RunFolder, name: str, figures: dict[str, Any]) -> list[Block]:
    def at(*keys: str | int, style: str = "general") -> Figure:
        value: Any = figures
        for key in keys:
            value = value[key]
        pointer = "/".join(str(key) for key in keys)
        return Figure(value, f"{run.name}/{HEALTH}#/{name}/{pointer}", style)

    rows: list[list[Cell]] = [
        [f"{side} rows", at(side, "rows", style="integer"), at(side, "norm"), at(side, "update")]
        for side in ("old", "new")
    ]
    counts: list[list[Cell]] = [
        [f"moved by {HARDLY:.0%} of the median of those that moved, or less", at("hardly_trained", style="integer")],
        ["never moved", at("never_moved", style="integer")],
    ]
    pieces: list[list[Cell]] = [
        [entry["piece"], at("pieces", place, "norm"), at("pieces", place, "update")]
        for place, entry in enumerate(figures["pieces"])
    ]
    return [
        f"{name}, trained from {figures['from']}:",
        Table(["embedding", "rows", "median norm", "median update"], rows, UPDATE_MEANS),
        Table(["new pieces", "count"], counts),
        Table(["piece", "norm", "update"], pieces, f"the {SHOWN} that moved most, and the {SHOWN} that moved least"),
    ]
