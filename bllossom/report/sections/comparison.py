"""Results side by side as `bllossom compare` sees them: seeds of one model together, Table 6's published rows where
they are comparable, and paired differences with their intervals. Kept in comparison.json in the run's folder."""

import json
import re
from collections.abc import Sequence
from typing import Any

from bllossom.errors import BllossomError
from bllossom.evaluation.compare.compare import compare
from bllossom.evaluation.compare.render import as_json
from bllossom.report.blocks import Block, Cell, Section, Table
from bllossom.report.run_folder import Figure, RunFolder, RunStep

COMPARISON = "comparison.json"
SEED = re.compile(r"-seed-\d+(?=-|$)")


def comparison(runs: Sequence[RunFolder]) -> Section | None:
    """The tables of all runs' evaluations together; None where there are not two."""
    steps = [step for run in runs for step in run.of("eval")]
    if len(steps) < 2:
        return None
    try:
        found = compare([f"{name}={','.join(paths)}" for name, paths in _seeds_together(steps).items()])
    except BllossomError as error:
        return Section("comparison", "Compared", [f"Not compared: {error}"])
    (runs[0].folder / COMPARISON).write_text(as_json(found), encoding="utf8")
    names = [measure.name for measure in found.measures]
    styles = {measure.name: "percent1" if measure.in_percent else "decimals3" for measure in found.measures}
    whole = json.loads(as_json(found))["results"]

    def at(entry: str, measure: str, *keys: str, style: str = "") -> Figure | None:
        value: Any = whole[entry].get(measure)
        for key in keys:
            value = None if value is None else value.get(key)
        pointer = "/".join(key.replace("~", "~0").replace("/", "~1") for key in (entry, measure, *keys))
        source = f"{runs[0].name}/{COMPARISON}#/results/{pointer}"
        return None if value is None else Figure(value, source, style or styles[measure])

    scores: list[list[Cell]] = [[entry, *(at(entry, name, "value") for name in names)] for entry in whole]
    differences: list[list[Cell]] = [
        [
            f"{entry}: {name}",
            *(at(entry, name, "difference", key) for key in ("value", "low", "high")),
            at(entry, name, "difference", "p", style="general"),
        ]
        for entry in whole
        for name in names
        if at(entry, name, "difference", "value") is not None
    ]
    blocks: list[Block] = [Table(["result", *names], scores, "of several seeds the mean")]
    if differences:
        first = found.entries[0]
        blocks.append(
            Table(
                [f"minus {first}", "difference", "95 % from", "to", "p"],
                differences,
                "over the same documents, by bootstrap; an interval that holds 0 tells nothing",
            )
        )
    return Section("comparison", "Compared", [*blocks, *found.notes])


def _seeds_together(steps: Sequence[RunStep]) -> dict[str, list[str]]:
    """The folders of each result's seeds, under the step's name without its seed."""
    found: dict[str, list[str]] = {}
    for step in steps:
        found.setdefault(SEED.sub("", step.label).replace("=", "-"), []).append(str(step.folder))
    return found
