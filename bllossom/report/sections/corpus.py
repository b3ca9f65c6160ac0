"""What was read: sources, what cleaning dropped with samples of it, and the mixture, asked for and read."""

from collections.abc import Sequence

from bllossom.report.blocks import Block, Cell, Section, Table
from bllossom.report.run_folder import RunFolder, RunStep

REPORT, DROPPED = "report.json", "dropped.jsonl"
SAMPLES = 3  # of each reason in each source
SAMPLE_CHARACTERS = 160


def corpus(runs: Sequence[RunFolder]) -> Section | None:
    """One part for every prepare, and the mixture of every pretraining; None where there is neither."""
    blocks: list[Block] = []
    for step in (step for run in runs for step in run.of("prepare")):
        blocks += [f"{step.label}:", *_sources(step), *_dropped(step)]
    for step in (step for run in runs for step in run.of("pretrain")):
        blocks += _mixture(step)
    return Section("corpus", "The corpus", blocks) if blocks else None


def _sources(step: RunStep) -> list[Block]:
    sources = list((step.read(REPORT) or {}).get("sources", {}))
    rows: list[list[Cell]] = []
    for name in sources:
        at = ["sources", name]
        rows.append(
            [
                name,
                step.figure([*at, "documents"], "integer", REPORT),
                step.figure([*at, "bytes"], "bytes", REPORT),
                step.figure([*at, "tokens"], "integer", REPORT),
                step.figure([*at, "heldout", "documents"], "integer", REPORT),
                step.figure([*at, "broken_records"], "integer", REPORT),
                step.figure([*at, "licence"], "text", REPORT),
            ]
        )
    header = ["source", "documents", "text", "tokens", "held-out documents", "broken records", "licence"]
    return [Table(header, rows)] if rows else []


def _dropped(step: RunStep) -> list[Block]:
    sources = (step.read(REPORT) or {}).get("sources", {})
    samples, cut = step.lines(DROPPED)
    rows: list[list[Cell]] = []
    for name, found in sources.items():
        for reason in found.get("dropped", {}):
            at = ["sources", name, "dropped", reason]
            texts = [
                str(sample.get("text", ""))[:SAMPLE_CHARACTERS]
                for sample in samples
                if f"{sample.get('language')}/{sample.get('source')}" == name and sample.get("reason") == reason
            ]
            rows.append(
                [
                    name,
                    reason,
                    step.figure([*at, "documents"], "integer", REPORT),
                    step.figure([*at, "bytes"], "bytes", REPORT),
                    " ⋯ ".join(texts[:SAMPLES]),
                ]
            )
    if not rows:
        return [f"{step.label} dropped no document."]
    caption = f"{DROPPED} is cut in the middle of a line: the samples before it are shown" if cut else ""
    return [Table(["source", "dropped for", "documents", "text", "samples"], rows, caption)]


def _mixture(step: RunStep) -> list[Block]:
    rows: list[list[Cell]] = []
    for name in step.manifest.figures.get("mixture", {}):
        at = ["figures", "mixture", name]
        rows.append(
            [
                name,
                step.figure([*at, "target"], "percent2"),
                step.figure([*at, "observed"], "percent2"),
                step.figure([*at, "tokens"], "integer"),
                step.figure([*at, "bytes"], "bytes"),
                step.figure([*at, "epochs"], "decimals3"),
            ]
        )
    if not rows:
        return []
    unit = step.figure(["config", "mixture", "unit"])
    caption = f"{step.label}: target and observed are shares of {unit.value if unit else 'bytes'}"
    return [Table(["language or source", "target", "read", "tokens", "text", "epochs"], rows, caption)]
