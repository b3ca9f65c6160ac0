"""A recipe's run as it lies on the disk: its steps, their manifests and their files, and what is not finished.

Every figure that a report shows comes from here, with the place it stands at, so that a reader (and a test) can look:

    adapted/manifest.json#/figures/last_loss/ko        a JSON pointer (RFC 6901) into a file of the run
    adapted/logs/train.jsonl#/119/loss~1ko             the same, into line 119 (from 0) of JSON Lines
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bllossom.artifacts import LOGS, MANIFEST, PARTIAL, DamagedManifestError, Manifest, read_manifest
from bllossom.errors import BllossomError

MADE_BESIDE = (".", "references-")  # what dpo keeps of its reference has no manifest


@dataclass(frozen=True)
class Figure:
    """One value as a page shows it: where it stands, and how it is written (see page.SHOWN)."""

    value: Any
    source: str
    style: str = "text"


@dataclass(frozen=True)
class RunStep:
    """One published folder of a run."""

    name: str
    folder: Path
    manifest: Manifest
    label: str  # the name, with the run's in front of it where several runs are shown
    run: str  # the run's name, as the sources of figures begin

    @property
    def stage(self) -> str:
        """The command that made it."""
        return self.manifest.stage

    @cached_property
    def manifest_json(self) -> dict[str, Any]:
        """The manifest as it stands in the file."""
        return json.loads((self.folder / MANIFEST).read_bytes())

    def read(self, file: str) -> Any:
        """A JSON file of the folder; None where there is none."""
        path = self.folder / file
        try:
            return json.loads(path.read_bytes()) if path.is_file() else None
        except ValueError as error:
            raise BllossomError(f"{path} is not JSON ({error}); make {self.name} again with --force") from error

    def lines(self, file: str) -> tuple[list[dict[str, Any]], bool]:
        """The objects of a JSON Lines file, and whether it ends in the middle of one (which is left out)."""
        return read_lines(self.folder / file)

    def figure(self, keys: Sequence[str | int], style: str = "text", file: str = MANIFEST) -> Figure | None:
        """What stands at `keys` in a JSON file of the folder; None where nothing does."""
        value: Any = self.manifest_json if file == MANIFEST else self.read(file)
        try:
            for key in keys:
                value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
        return None if value is None else self.at(file, keys, value, style)

    def at(self, file: str, keys: Sequence[str | int], value: Any, style: str = "text") -> Figure:
        """A value that was read already, with its place."""
        pointer = "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)
        return Figure(value, f"{self.run}/{self.name}/{file}#{pointer}", style)


@dataclass(frozen=True)
class RunFolder:
    """A run: its steps in the order in which they were made, and the names of those that are not finished."""

    folder: Path
    name: str  # the folder's; with as many folders around it as tell it from the other runs of a page
    steps: tuple[RunStep, ...]
    unfinished: tuple[Path, ...]
    unknown: tuple[Path, ...] = ()  # folders with something in them, but no manifest

    def of(self, *stages: str) -> list[RunStep]:
        """The steps of these stages, in order."""
        return [step for step in self.steps if step.stage in stages]


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """Read the runs of a page. Of several, each step carries its run's name.

    Raises:
        BllossomError: there is no published step in one of them, or one is named twice.
    """
    if len(folders) == 1:
        return [read_run(folders[0])]
    parts = [folder.resolve().parts for folder in folders]
    if twice := [folder for place, folder in enumerate(folders) if parts[place] in parts[:place]]:
        raise BllossomError(f"{twice[0]} is named twice; name each run once")
    count = 1
    while len({each[-count:] for each in parts}) < len(parts):
        count += 1
    return [read_run(folder, "/".join(each[-count:])) for folder, each in zip(folders, parts, strict=True)]


def read_run(folder: Path, name: str = "") -> RunFolder:
    """Read a run's folder. A `name` is put in front of each step's label: it is one of several runs then.

    Raises:
        BllossomError: there is no published step in it.
    """
    if not folder.is_dir():
        raise BllossomError(f"no such folder: {folder}; name the output of a recipe")
    own_name = folder.resolve().name
    steps: list[RunStep] = []
    unknown: list[Path] = []
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or PARTIAL in path.name:
            continue
        try:
            manifest = read_manifest(path)
        except DamagedManifestError as error:
            raise BllossomError(str(error)) from error
        if manifest is not None:
            label = f"{name}/{path.name}" if name else path.name
            steps.append(RunStep(path.name, path, manifest, label, name or own_name))
        elif not (path.name == LOGS or path.name.startswith(MADE_BESIDE)) and any(path.iterdir()):
            unknown.append(path)
    unfinished = tuple(path for path in sorted(folder.glob(f"*{PARTIAL}*")) if path.is_dir())
    if not steps and not unfinished:
        raise BllossomError(f"{folder} holds no step that was published; name the output of a recipe")
    steps.sort(key=lambda step: (step.manifest.run.get("started", ""), step.name))
    return RunFolder(folder, name or own_name, tuple(steps), unfinished, tuple(unknown))


def read_lines(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The objects of a JSON Lines file up to where it is cut or broken, and whether it is; no file is no lines."""
    if not path.is_file():
        return [], False
    found: list[dict[str, Any]] = []
    # Not splitlines(): it also cuts at U+2028 and the like, which JSON strings may hold.
    for line in path.read_text(encoding="utf8", errors="replace").split("\n"):
        try:
            value = json.loads(line) if line.strip() else {}
        except ValueError:
            return found, True
        if not isinstance(value, dict):
            return found, True
        found += [value] if line.strip() else []
    return found, False
