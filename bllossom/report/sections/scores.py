"""What the models can do: bits per byte and tasks, beside floors, with their standard errors."""

from collections.abc import Iterator, Sequence

from bllossom.evaluation.metrics import is_share
from bllossom.report.blocks import Block, Cell, Section, Table
from bllossom.report.charts import bar_chart
from bllossom.report.floors import UNIGRAM, same_pieces
from bllossom.report.run_folder import RunFolder, RunStep


def scores(runs: Sequence[RunFolder]) -> Section | None:
    """A column for each evaluation, in order; None where nothing was evaluated."""
    steps = [step for run in runs for step in run.of("eval")]
    if not steps:
        return None
    blocks: list[Block] = []
    languages = list(dict.fromkeys(name for step in steps for name in step.manifest.figures.get("bits_per_byte") or {}))
    labels = [step.label for step in steps]
    if languages:
        bits = {
            language: [step.figure(["figures", "bits_per_byte", language], "decimals3") for step in steps]
            for language in languages
        }
        blocks.append(bar_chart("Bits per byte of held-out text (lower is better)", "bits per byte", labels, bits))
        prepared = [prepares for run in runs for prepares in _prepared(run)]
        rows: list[list[Cell]] = []
        for language in languages:
            rows.append([f"bits per byte, {language}", *bits[language]])
            found = zip(bits[language], prepared, strict=True)
            rows.append(
                [f"their floor, {language}", *(_unigram(steps, language) if bit else None for bit, steps in found)]
            )
        caption = "the floor is a unigram model over the model's own pieces, where the run prepared text with them"
        blocks.append(Table(["", *labels], rows, caption))
    tasks = _tasks(steps)
    if tasks:
        blocks.append(
            Table(
                ["task", "rows", "floor", "chance", *(name for label in labels for name in (label, "±"))],
                tasks,
                "± is the standard error; at its floor: the 95 % interval reaches the best constant answer, or chance",
            )
        )
    return Section("scores", "Scores", blocks)


def _prepared(run: RunFolder) -> Iterator[list[RunStep]]:
    """For each evaluation the steps that prepared text with its model's pieces."""
    steps = {step.folder: step for step in run.steps}
    folders = {folder: step.manifest for folder, step in steps.items()}
    for step in run.of("eval"):
        yield [steps[folder] for folder in same_pieces(step.manifest, folders)]


def _unigram(prepared: Sequence[RunStep], language: str) -> Cell:
    found = (step.figure(["figures", UNIGRAM, language], "decimals3") for step in prepared)
    return next(filter(None, found), None)


def _tasks(steps: Sequence[RunStep]) -> list[list[Cell]]:
    named = {
        task: cell["score"]
        for step in steps
        for task, cell in (step.manifest.figures.get("tasks") or {}).items()
        if isinstance(cell, dict) and "score" in cell
    }
    rows: list[list[Cell]] = []
    for task, metric in named.items():
        at = ["figures", "tasks", task]
        cells: list[Cell] = []
        style = "percent1" if is_share(metric) else "general"
        for step in steps:
            at_floor = step.figure([*at, metric, "at_floor"])
            shown = f"{style}_at_floor" if at_floor is not None and at_floor.value else style
            cells += [step.figure([*at, metric, "value"], shown), step.figure([*at, metric, "stderr"], style)]
        bounds = [
            next(filter(None, (step.figure([*at, metric, bound], style) for step in steps)), None)
            for bound in ("floor", "chance")
        ]
        counts = [step.figure([*at, "rows"], "integer") for step in steps]
        rows.append([f"{task} {metric}", next((count for count in counts if count), None), *bounds, *cells])
    return rows
