"""What the models answer to the same prompts, side by side, in each language."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bllossom.report.blocks import Block, Cell, Section, Table
from bllossom.report.run_folder import RunFolder, RunStep

PROMPTS = 10  # of each language


def answers(runs: Sequence[RunFolder]) -> Section | None:
    """A table for each step and language: prompts in rows, models in columns; None where nothing answered."""
    blocks: list[Block] = []
    for step in (step for run in runs for step in run.of("answers")):
        order = list(step.manifest.figures)  # the models as the config names them
        files = sorted(
            step.folder.glob("*.jsonl"), key=lambda path: order.index(path.stem) if path.stem in order else -1
        )
        read = {file.stem: (file, step.lines(file.name)[0]) for file in files}
        languages = dict.fromkeys(row.get("language") for _, rows in read.values() for row in rows)
        for language in languages:
            rows = _rows(step, read, language)
            name = f"{step.label}, {language or 'language not named'}"
            blocks.append(Table([name, *read], rows, f"the first {PROMPTS} prompts; longer answers are cut here"))
    return Section("answers", "Answers side by side", blocks) if blocks else None


def _rows(step: RunStep, read: dict[str, tuple[Path, list[dict[str, Any]]]], language: str | None) -> list[list[Cell]]:
    places: dict[str, dict[str, int]] = {}
    questions: dict[str, str] = {}
    for model, (_, rows) in read.items():
        for number, row in enumerate(rows):
            if row.get("language") == language:
                places.setdefault(row["id"], {})[model] = number
                questions.setdefault(row["id"], _question(row))
    table: list[list[Cell]] = []
    for identity in list(places)[:PROMPTS]:
        cells: list[Cell] = [questions[identity]]
        for model, (file, rows) in read.items():
            at = places[identity].get(model)
            cells.append(None if at is None else step.at(file.name, [at, "answer"], rows[at]["answer"], "answer"))
        table.append(cells)
    return table


def _question(row: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in row.get("messages", []) if message.get("role") == "user")
