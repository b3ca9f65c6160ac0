"""How the new rows began: the initialiser of each matrix, and what distilling them came to."""

from collections.abc import Sequence

from bllossom.report.blocks import Block, Cell, Section, Table
from bllossom.report.run_folder import RunFolder, RunStep

ROWS = (
    ("rows", "rows", "integer"),
    ("of the base", "old_rows", "integer"),
    ("new pieces", "new_pieces", "integer"),
    ("rows of padding", "padding_rows", "integer"),
    ("written", "bytes_written", "bytes"),
)


def initialisation(runs: Sequence[RunFolder]) -> Section | None:
    """A table for every model that was expanded; None where none was."""
    steps = [step for run in runs for step in run.of("expand", "distill-rows")]
    blocks: list[Block] = [_table(step) for step in steps]
    return Section("initialisation", "How the new rows began", blocks) if steps else None


def _table(step: RunStep) -> Table:
    figures = step.manifest.figures
    rows: list[list[Cell]] = [[name, step.figure(["figures", key], style)] for name, key, style in ROWS]
    rows += [
        [f"first values: {matrix}", step.figure(["figures", "init", matrix])] for matrix in figures.get("init", {})
    ]
    known = {key for _, key, _ in ROWS} | {"init", "shards", "tied"}
    rows += [
        [key.replace("_", " "), step.figure(["figures", key], "general")]
        for key, value in figures.items()
        if key not in known and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return Table([step.label, ""], [row for row in rows if row[1] is not None])
