"""What was made from what: the recipe as a picture, and each step with its time, memory and size."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bllossom.report.blocks import Block, Cell, Drawing, Section, Table
from bllossom.report.page import show
from bllossom.report.run_folder import Figure, RunFolder, RunStep

SIZES = "sizes.json"  # in the run's folder
BOX_HEIGHT, ROW, GAP = 62, 80, 40  # pixels, as below
LEAST_WIDTH, LETTER = 168, 8.2  # of a box, and of a letter of its name
PARTS = {  # the part of the page that a step's box leads to
    "train-vocab": "overview",
    "merge-vocab": "vocabulary",
    "prepare": "corpus",
    "expand": "initialisation",
    "distill-rows": "initialisation",
    "pretrain": "training",
    "sft": "training",
    "dpo": "training",
    "eval": "scores",
    "answers": "answers",
    "judge": "judging",
}


def overview(runs: Sequence[RunFolder]) -> Section:
    """The picture and the table of every run's steps; what is not finished is named."""
    blocks: list[Block] = []
    for run in runs:
        if run.steps:
            blocks += [Drawing(draw(run.steps, _sizes(run))), _table(run)]
        if run.unfinished:
            names = ", ".join(path.name for path in run.unfinished)
            blocks.append(f"Not finished, so not on this page: {names} in {run.name}.")
        if run.unknown:
            names = ", ".join(path.name for path in run.unknown)
            blocks.append(f"Without a manifest, so not on this page: {names} in {run.name}.")
    return Section("overview", "What was made from what", blocks)


def sources_of(step: RunStep, steps: Sequence[RunStep]) -> list[RunStep]:
    """The steps whose output this one read: by the fingerprints of its inputs, or, where it read some files of a folder
    only, by the paths in its config, which lie in what was that step's output when it was made."""
    read = set(step.manifest.inputs.values())
    named = [Path(text) for key, value in step.manifest.config.items() if key != "output" for text in _texts(value)]
    return [
        other
        for other in steps
        if other is not step
        and (
            other.manifest.fingerprint in read
            or any(path.is_relative_to(other.manifest.config.get("output") or other.folder) for path in named)
        )
    ]


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else [str(value)]


def draw(steps: Sequence[RunStep], sizes: Mapping[str, Figure]) -> str:
    """Boxes in columns, each to the right of all that it was made from, with its time and size; every box leads to its
    part of the page."""
    width = max(LEAST_WIDTH, *(round(20 + LETTER * len(step.name)) for step in steps))
    column: dict[str, int] = {}
    for step in steps:  # in the order in which they were made
        column[step.name] = 1 + max((column.get(other.name, 0) for other in sources_of(step, steps)), default=-1)
    filled: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for step in steps:
        at = column[step.name]
        place[step.name] = (10 + at * (width + GAP), 10 + filled.get(at, 0) * ROW)
        filled[at] = filled.get(at, 0) + 1
    arrows, boxes = [], []
    for step in steps:
        x, y = place[step.name]
        for other in sources_of(step, steps):
            left, top = place[other.name]
            start, middle = left + width, (left + width + x) // 2
            ends = f"{start},{top + BOX_HEIGHT // 2} C{middle},{top + BOX_HEIGHT // 2} {middle},{y + BOX_HEIGHT // 2}"
            arrows.append(f'<path class="arrow" d="M{ends} {x},{y + BOX_HEIGHT // 2}"/>')
        boxes.append(
            f'<a href="#{PARTS.get(step.stage, "overview")}"><rect class="box" x="{x}" y="{y}" width="{width}" '
            f'height="{BOX_HEIGHT}" rx="8"/><text x="{x + 10}" y="{y + 19}" class="name">{escape(step.name)}</text>'
            f'<text x="{x + 10}" y="{y + 36}" class="stage">{escape(step.stage)}</text>'
            f'<text x="{x + 10}" y="{y + 53}" class="stage">{_figures(step, sizes)}</text></a>'
        )
    across, down = 20 + (max(column.values()) + 1) * (width + GAP), 20 + max(filled.values()) * ROW
    return (
        f'<svg class="recipe" viewBox="0 0 {across} {down}" role="img" aria-label="the steps of the recipe, and what '
        f'each was made from">{"".join(arrows)}{"".join(boxes)}</svg>'
    )


def _figures(step: RunStep, sizes: Mapping[str, Figure]) -> str:
    figures = [step.figure(["run", "wall_seconds"], "seconds"), sizes[step.name]]
    return " · ".join(
        f'<tspan data-value="{figure.value}" data-source="{escape(figure.source)}">{escape(show(figure))}</tspan>'
        for figure in figures
        if figure is not None
    )


def _sizes(run: RunFolder) -> dict[str, Figure]:
    """The bytes of all files of each step, which stand in sizes.json: in a manifest there is only each file's."""
    sizes = {step.name: sum(record.bytes for record in step.manifest.files.values()) for step in run.steps}
    (run.folder / SIZES).write_text(json.dumps(sizes, ensure_ascii=False, indent=1) + "\n", encoding="utf8")
    return {name: Figure(size, f"{run.name}/{SIZES}#/{name}", "bytes") for name, size in sizes.items()}


def _table(run: RunFolder) -> Table:
    rows: list[list[Cell]] = []
    for step in run.steps:
        name = step.at("manifest.json", ["stage"], step.stage)
        made_from = ", ".join(other.name for other in sources_of(step, run.steps))
        rows.append(
            [
                step.label,
                name,
                made_from,
                step.figure(["run", "wall_seconds"], "seconds"),
                step.figure(["run", "peak_memory_bytes"], "bytes"),
                step.figure(["fingerprint"], "fingerprint"),
            ]
        )
    return Table(["step", "stage", "made from", "time", "peak memory", "fingerprint"], rows)
