"""Every config and version, and what was not measured."""

from collections.abc import Sequence

import yaml

from bllossom.report.blocks import Block, Cell, Listing, Section, Table
from bllossom.report.run_folder import RunFolder

PARTS = {
    "merge-vocab": "the vocabulary",
    "prepare": "the corpus",
    "expand": "first values of the new rows",
    "pretrain": "pretraining",
    "sft": "instruction tuning",
    "eval": "scores",
    "answers": "answers side by side",
    "judge": "preferences",
}


def provenance(runs: Sequence[RunFolder]) -> Section:
    """Versions by step, the resolved configs, and the parts of this page that are absent, named."""
    steps = [step for run in runs for step in run.steps]
    packages = list(dict.fromkeys(name for step in steps for name in step.manifest.versions))
    rows: list[list[Cell]] = [
        [
            step.label,
            step.figure(["git_commit"], "fingerprint"),
            *(step.figure(["versions", name]) for name in packages),
        ]
        for step in steps
    ]
    blocks: list[Block] = [Table(["step", "commit", *packages], rows)]
    stages = {step.stage for step in steps}
    absent = [what for stage, what in PARTS.items() if stage not in stages]
    if absent:
        blocks.append(f"Not measured, or not run, and so not on this page: {'; '.join(absent)}.")
    blocks += [
        Listing(
            f"{step.label}: config of {step.stage}",
            yaml.safe_dump(step.manifest.config, allow_unicode=True, sort_keys=False),
        )
        for step in steps
    ]
    return Section("provenance", "Configs, versions, and what is not here", blocks)
