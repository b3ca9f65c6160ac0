"""clean: what runs have left behind: partial folders that nobody goes on with, and checkpoints behind the newest."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from bllossom.artifacts import MANIFEST, PARTIAL, lock_of, output_of, partial_folders, read_origin
from bllossom.commands.ending import expected_errors, print_result
from bllossom.commands.options import Debug, Yes, typed_path
from bllossom.console import say, size_text
from bllossom.errors import BllossomError
from bllossom.files import locked


@dataclass(frozen=True)
class Leftover:
    """A folder that may be removed."""

    path: Path
    output: Path  # of the stage that left it
    what: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.path}  {size_text(self.bytes)}  {self.what}"

    def remove(self) -> None:
        """Remove the folder; one that a run has published, or removed itself, since it was listed is told.

        Raises:
            BllossomError: a run is at work there.
        """
        with locked(lock_of(self.output), str(self.output)):
            if self.path.exists():
                shutil.rmtree(self.path)
            else:
                say(f"{self.path} is gone already: a run went on with it since it was listed")


def find_leftovers(run: Path, now: float) -> Iterator[tuple[Leftover, list[Leftover]]]:
    """Each partial folder at or below `run` with the checkpoints in it that may go; `now` is in seconds.

    Raises:
        BllossomError: there is no such folder, and no partial one of that output.
    """
    # Here, not above: `bllossom --help` imports no torch.
    from bllossom.training.runs.checkpoints import CHECKPOINTS, DAMAGED, WRITING, complete_ones, unneeded

    found = {*_below(run), *partial_folders(run)} if run.is_dir() else {*partial_folders(run)}
    if not found and not run.is_dir():
        raise BllossomError(f"no such folder: {run}; name a recipe's folder, or a stage's output")
    for folder in sorted(found):
        output = output_of(folder)
        checkpoints = folder / CHECKPOINTS
        complete = complete_ones(checkpoints)
        older = [
            *unneeded(checkpoints),
            *(path for name in (WRITING, DAMAGED) for path in checkpoints.glob(f"{name}*")),
        ]
        yield (
            Leftover(folder, output, _describe(folder, complete, now), _bytes(folder)),
            [Leftover(path, output, "behind the newest checkpoint", _bytes(path)) for path in older],
        )


def _below(run: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(run):
        folder = Path(name)
        yield from (folder / inner for inner in folders if PARTIAL in inner)
        # Nothing is left inside of what is published, and what is inside of a partial folder belongs to it.
        folders[:] = [] if MANIFEST in files else [inner for inner in folders if PARTIAL not in inner]


def _describe(folder: Path, complete: list[Path], now: float) -> str:
    origin = read_origin(folder)
    stage = f"unfinished {origin.stage}" if origin else "unfinished, of what is not said there"
    newest = max((path.stat().st_mtime for path in [folder, *folder.rglob("*")]), default=now)
    ago = timedelta(seconds=round(now - newest))
    until = f", up to {complete[-1].name}" if complete else ""
    return f"{stage}{until}, last changed {ago} ago"


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def clean(
    run: Annotated[Path, typer.Argument(parser=typed_path, help="A recipe's folder, or a stage's output.")],
    yes: Yes = False,
    debug: Debug = False,
) -> None:
    """List the partial folders and old checkpoints that runs have left, and remove those you say."""
    with expected_errors(debug):
        leftovers = list(find_leftovers(run, time.time()))
        for partial, checkpoints in leftovers:
            for leftover in (partial, *checkpoints):
                print_result(str(leftover))
        if not leftovers:
            print_result(f"{run}: nothing is left behind")
        for partial, checkpoints in leftovers:
            if yes or typer.confirm(f"Remove {partial.path}?", err=True):
                partial.remove()
            elif checkpoints and typer.confirm(f"Remove {len(checkpoints)} old checkpoints in it?", err=True):
                for checkpoint in checkpoints:
                    checkpoint.remove()
