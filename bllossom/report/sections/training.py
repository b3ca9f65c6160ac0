"""How training went: losses by language, held-out text, learning rate, gradient norm, speed and memory."""

from collections.abc import Sequence

from bllossom.report.blocks import Block, Cell, Section, Table
from bllossom.report.charts import line_chart
from bllossom.report.run_folder import Figure, RunFolder, RunStep

LOG = "logs/train.jsonl"
STAGES = ("pretrain", "sft", "dpo")
AXES = (("step", "step"), ("tokens", "tokens"), ("flops", "floating-point operations"))
SCORES = (  # what is lower or higher over time, by key, or by what keys begin with; title and unit
    ("loss/", "Loss", "nats a token"),
    ("loss", "Loss of pairs", "a pair"),  # of dpo, which has no groups
    ("heldout_loss/", "Held-out examples: loss", "nats a token"),
    ("heldout/loss", "Held-out pairs: loss", "a pair"),
    ("heldout/accuracy", "Held-out pairs: the better answer has the higher reward", "share of pairs"),
)
CURVES = (
    ("Learning rate", "learning_rate", "learning rate", "general"),
    ("Gradient norm", "gradient_norm", "L2 norm before clipping", "decimals4"),
    ("Speed", "tokens_per_second", "supervised tokens a second", "integer"),
    ("Peak memory", "peak_memory_bytes", "bytes", "bytes"),
)

Points = list[tuple[Figure, Figure]]


def training(runs: Sequence[RunFolder]) -> Section | None:
    """The curves of all training steps over each other, and where each ended; None where nothing was trained."""
    steps = [step for run in runs for step in run.of(*STAGES)]
    if not steps:
        return None
    logs = {step.label: (step, *step.lines(LOG)) for step in steps}
    blocks: list[Block] = [_ends(steps)]
    blocks += [
        f"The log of {label} is cut in the middle of a line: what stands before it is shown."
        for label, (_, _, cut) in logs.items()
        if cut
    ]
    lines = {label: (step, rows) for label, (step, rows, _) in logs.items()}
    for key, title, unit in (*SCORES, *_bits(lines)):
        for axis, axis_title in AXES:
            series = _series(lines, key, axis)
            chart = line_chart(
                f"{title} over {axis_title}s" if axis == "step" else f"{title} over {axis_title}",
                axis_title,
                unit,
                series,
            )
            blocks += [chart] if chart else []
    for title, key, unit, style in CURVES:
        curve = {label: _points(step, rows, "step", key, style) for label, (step, rows) in lines.items()}
        chart = line_chart(title, "step", unit, curve)
        blocks += [chart] if chart else []
    return Section("training", "Training", blocks)


def _bits(lines: dict[str, tuple[RunStep, list[dict]]]) -> list[tuple[str, str, str]]:
    """What the logs hold of held-out text in bits, under whichever name."""
    keys = {key.partition("/")[0] for _, rows in lines.values() for row in rows for key in row if "/" in key}
    return [(f"{key}/", f"Held-out text: {key.replace('_', ' ')}", "bits") for key in sorted(keys) if "bits" in key]


def _series(lines: dict[str, tuple[RunStep, list[dict]]], key: str, axis: str) -> dict[str, Points]:
    """A line for each log and group: of all keys that begin with `key` where it ends in a slash, of that one else."""
    found: dict[str, Points] = {}
    for label, (step, rows) in lines.items():
        for name in _keys(rows, key):
            found[f"{label} {name.removeprefix(key)}".rstrip()] = _points(step, rows, axis, name, "decimals4")
    return {name: points for name, points in found.items() if points}


def _keys(rows: Sequence[dict], key: str) -> list[str]:
    keys = dict.fromkeys(name for row in rows for name in row)
    if key.endswith("/"):
        return [name for name in keys if name.startswith(key)]
    grouped = any(name.startswith(f"{key}/") for name in keys)  # then their mean says less than they
    return [key] if key in keys and not grouped else []


def _points(step: RunStep, rows: Sequence[dict], axis: str, key: str, style: str) -> Points:
    return [
        (
            step.at(LOG, [number, axis], row[axis], "integer" if axis != "flops" else "general"),
            step.at(LOG, [number, key], row[key], style),
        )
        for number, row in enumerate(rows)
        if row.get(key) is not None and row.get(axis)
    ]


def _ends(steps: Sequence[RunStep]) -> Table:
    groups = list(dict.fromkeys(group for step in steps for group in step.manifest.figures.get("last_loss", {})))
    rows: list[list[Cell]] = []
    for step in steps:
        rows.append(
            [
                step.label,
                step.figure(["figures", "parameters"], "integer"),
                step.figure(["figures", "steps"], "integer"),
                step.figure(["figures", "supervised_tokens"], "integer"),
                step.figure(["run", "wall_seconds"], "seconds"),
                *(step.figure(["figures", "last_loss", group], "decimals4") for group in groups),
            ]
        )
    header = [
        "step",
        "parameters",
        "optimizer steps",
        "supervised tokens",
        "time",
        *("last loss" if group == "loss" else f"last loss, {group}" for group in groups),
    ]
    return Table(header, rows)
