"""The table a recipe ends with, from the manifests of its steps."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from bllossom.artifacts import Manifest
from bllossom.evaluation.compare.read import table6_tasks
from bllossom.evaluation.metrics import is_share, score_text
from bllossom.files import write_whole
from bllossom.report.floors import UNIGRAM, floors

WIDTH = 110
EARLIER = "(earlier)"
AT_FLOOR = "(floor)"
AT_FLOOR_MEANS = f"{AT_FLOOR}: the score's 95 % interval reaches the best constant answer, or chance."
UNIGRAM_ROW = "their floor"
FLOORS_MEAN = (
    "The floor of bits per byte is a unigram model over the model's own pieces; of a task, the best constant answer."
)


def write(output: Path, earlier: Mapping[str, Manifest], ran: Mapping[str, Manifest]) -> str:
    """Write summary.md and summary.json into a recipe's folder, and give the table as text.

    `earlier` are results that this run started from, and did not look at: the table says so of them.
    """
    summary = summarise({f"{name} {EARLIER}": found for name, found in earlier.items()} | dict(ran))
    text = render(summary)
    output.mkdir(parents=True, exist_ok=True)  # not made by steps that all publish elsewhere
    write_whole(output / "summary.json", (json.dumps(summary, ensure_ascii=False, indent=1) + "\n").encode())
    write_whole(output / "summary.md", markdown(summary).encode())
    return text


def summarise(manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """Bring the figures of a recipe's steps together.

    `tokens_per_word`: by language, base and merged, of the (last) merge. `evaluations`: by eval step, in order: bits
    per byte by language with their floors (`unigram_bits_per_byte`), and each task's named score with its floor.
    """
    folders = {Path(manifest.config.get("output") or name): manifest for name, manifest in manifests.items()}
    merged = [manifest.figures for manifest in manifests.values() if manifest.stage == "merge-vocab"]
    return {
        "tokens_per_word": merged[-1].get("tokens_per_word", {}) if merged else {},
        "pieces": merged[-1]["pieces"] if merged else None,
        "evaluations": {
            name.removeprefix("eval-"): _evaluation(manifest, folders)
            for name, manifest in manifests.items()
            if manifest.stage == "eval"
        },
        "seconds": {name: manifest.run["wall_seconds"] for name, manifest in manifests.items()},
    }


def _evaluation(manifest: Manifest, folders: Mapping[Path, Manifest]) -> dict[str, Any]:
    figures = manifest.figures
    kept = {key: figures[key] for key in ("bits_per_byte", "tasks", "average") if figures.get(key) is not None}
    return kept | ({UNIGRAM: found} if figures.get("bits_per_byte") and (found := floors(manifest, folders)) else {})


def rows(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table: a measure a row, a model a column. Bits per byte have their floors below them, as
    each vocabulary has its own."""
    evaluations: Mapping[str, Any] = summary["evaluations"]
    header = ["", "floor", *evaluations]
    table: list[list[str]] = []
    languages = dict.fromkeys(language for found in evaluations.values() for language in found.get("bits_per_byte", {}))
    for language in languages:
        for key, what in (("bits_per_byte", "bits per byte"), (UNIGRAM, UNIGRAM_ROW)):
            values = [found.get(key, {}).get(language) for found in evaluations.values()]
            if any(value is not None for value in values):
                table.append([f"{what}, {language}", "", *(_number(value, 3) for value in values)])
    named = {task: cell["score"] for found in evaluations.values() for task, cell in found.get("tasks", {}).items()}
    for task, metric in named.items():
        cells = [found.get("tasks", {}).get(task, {}).get(metric) for found in evaluations.values()]
        floor = next((cell["floor"] for cell in cells if cell), None)
        row = [f"{task} {metric}, %" if is_share(metric) else f"{task} {metric}", score_text(floor, metric)]
        table.append(row + [_score(cell, metric) for cell in cells])
    return header, [*table, *_averages(evaluations)]


def _averages(evaluations: Mapping[str, Any]) -> list[list[str]]:
    """The row of averages, over the tasks that all columns with one have; none where there is no such task."""
    averaged = {name: found for name, found in evaluations.items() if "average" in found}
    shares = {name: _shares(found["tasks"]) for name, found in averaged.items()}
    shared = [task for task in table6_tasks() if all(task in found for found in shares.values())]
    label, values = "average, %", {name: found["average"] for name, found in averaged.items()}
    if any(len(found) > len(shared) for found in shares.values()):
        label = f"average of the {len(shared)} that all have, %"
        values = {name: fmean(found[task] for task in shared) for name, found in shares.items() if shared}
    return [[label, "", *(_number(values.get(name), 1, 100) for name in evaluations)]] if values else []


def _shares(tasks: Mapping[str, Any]) -> dict[str, float]:
    """The scores of Table 6's tasks, of those that are shares of 1."""
    scored = {task: tasks[task] for task in table6_tasks() if task in tasks and is_share(tasks[task]["score"])}
    return {task: cell[cell["score"]]["value"] for task, cell in scored.items()}


def render(summary: Mapping[str, Any]) -> str:
    """The tables as a terminal shows them."""
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    if summary["tokens_per_word"]:
        console.print(f"Tokens per word ({summary['pieces']:,} pieces)")
        fertility = Table()
        for column in ("language", "base", "merged"):
            fertility.add_column(column, justify="left" if column == "language" else "right")
        for language, values in summary["tokens_per_word"].items():
            fertility.add_row(language, *(_number(values[name], 3) for name in ("base", "merged")))
        console.print(fertility)
    header, body = rows(summary)
    if body:
        console.print("Each model's scores beside their floors")
        scores = Table()
        for index, column in enumerate(header):
            scores.add_column(column, justify="right" if index else "left")
        for row in body:
            scores.add_row(*row)
        console.print(scores)
        console.print(FLOORS_MEAN)
        if _any_at_floor(body):
            console.print(AT_FLOOR_MEANS)
        if any(name.endswith(EARLIER) for name in header):
            console.print(f"{EARLIER}: of a step that was not part of this run.")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip()


def markdown(summary: Mapping[str, Any]) -> str:
    """The same tables as Markdown."""
    parts = []
    if summary["tokens_per_word"]:
        body = [
            [language, *(_number(values[name], 3) for name in ("base", "merged"))]
            for language, values in summary["tokens_per_word"].items()
        ]
        parts.append(_markdown_table(["tokens per word", "base", "merged"], body))
    header, body = rows(summary)
    if body:
        parts.append(_markdown_table(header, body))
        if _any_at_floor(body):
            parts.append(f"{AT_FLOOR_MEANS}\n")
    return "\n".join(parts)


def _any_at_floor(body: Sequence[Sequence[str]]) -> bool:
    return any(cell.endswith(AT_FLOOR) for row in body for cell in row)


def _markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *("--:" for _ in header[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, ruler, *body])


def _score(cell: Mapping[str, Any] | None, metric: str) -> str:
    """A score, called so where it is at its floor."""
    if cell is None:
        return "–"
    return score_text(cell["value"], metric) + (f" {AT_FLOOR}" if cell.get("at_floor") else "")


def _number(value: float | None, digits: int, scale: float = 1.0) -> str:
    return "–" if value is None else f"{value * scale:.{digits}f}"
