"""What stages that train on instructions know of their files and of the model, before and beside the training."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bllossom.artifacts import LOGS
from bllossom.instructions.dataset import Examples
from bllossom.instructions.preferences import PreferenceSource
from bllossom.instructions.reading import InstructionSource
from bllossom.paths import there
from bllossom.text.rows import locate_rows


def files_of(data: Sequence[InstructionSource | PreferenceSource]) -> dict[str, Path]:
    """The files of every source, by names that tell their order."""
    inputs: dict[str, Path] = {}
    for index, source in enumerate(data):
        files = locate_rows(source.path)
        one = len(files) == 1
        inputs |= {f"data.{index}" if one else f"data.{index}/{n:05d} {f.name}": f for n, f in enumerate(files)}
    return inputs


def are_here(data: Sequence[InstructionSource | PreferenceSource], template: object) -> bool:
    """Whether every file is on this machine, for a dry run to look at; nothing is fetched."""
    return all(there(source.path) for source in data) and (not isinstance(template, Path) or template.is_file())


def list_left_out(made: Sequence[Examples], folder: Path) -> None:
    """Write what was too long, and what was skipped, where a person can read it."""
    (folder / LOGS).mkdir(exist_ok=True)
    too_long = [entry for examples in made for entry in examples.too_long]
    skipped = [entry for examples in made for entry in examples.skipped]
    for name, entries in (("too_long", too_long), ("skipped", skipped)):
        lines = [json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries]
        (folder / LOGS / f"{name}.jsonl").write_text("".join(lines), encoding="utf8")
