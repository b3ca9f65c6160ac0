"""report: one page from the manifests and logs of a recipe's run, or of several runs beside each other."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.files import write_whole
from bllossom.report.blocks import Section
from bllossom.report.card import write_cards
from bllossom.report.page import render
from bllossom.report.run_folder import RunFolder, read_runs
from bllossom.report.sections.answers import answers
from bllossom.report.sections.comparison import comparison
from bllossom.report.sections.corpus import corpus
from bllossom.report.sections.health import health
from bllossom.report.sections.initialisation import initialisation
from bllossom.report.sections.judging import judging
from bllossom.report.sections.overview import overview
from bllossom.report.sections.planned import planned
from bllossom.report.sections.provenance import provenance
from bllossom.report.sections.scores import scores
from bllossom.report.sections.training import training
from bllossom.report.sections.vocabulary import vocabulary

PAGE = "report.html"
PARTS: Sequence[Callable[[Sequence[RunFolder]], Section | None]] = (
    vocabulary,
    corpus,
    initialisation,
    training,
    planned,
    health,
    scores,
    comparison,
    answers,
    judging,
)
REFRESH_SECONDS = 10
LAST_TRIES = 3


def report(folders: Sequence[Path], output: Path | None = None, *, live: bool = False) -> Path:
    """Write the page of one run into its folder, or of several to `output`, and give its path; and the models' cards.

    Raises:
        BllossomError: there is no run, a manifest is damaged, or several runs were named and no output.
    """
    if output is None and len(folders) > 1:
        raise BllossomError("name where the page of several runs goes: --output FILE.html")
    path = output or folders[0] / PAGE
    runs = read_runs(folders)
    page = render(_title(runs), sections(runs), refresh_seconds=REFRESH_SECONDS if live else None)
    _write(path, page)
    for run in runs:
        write_cards(run)
    return path


def report_live(folders: Sequence[Path], output: Path | None = None) -> None:
    """Write the page again and again, until Ctrl-C; the page loads itself anew, and no longer when that came."""
    path = report(folders, output, live=True)
    try:
        say(f"{path}: written anew every {REFRESH_SECONDS} seconds; Ctrl-C ends it")
        while True:
            time.sleep(REFRESH_SECONDS)
            with contextlib.suppress(FileNotFoundError):  # a step was published, and so renamed, while it was read
                report(folders, output, live=True)
    finally:
        for _ in range(LAST_TRIES):
            with contextlib.suppress(FileNotFoundError):
                report(folders, output)
                break
        else:
            report(folders, output)


def sections(runs: Sequence[RunFolder]) -> list[Section]:
    """The parts of the page that the runs have something for."""
    parts = [section for part in PARTS if (section := part(runs)) is not None]
    return [overview(runs), *parts, provenance(runs)]


def _write(path: Path, page: str) -> None:
    """Replace the page at once: a browser may read it meanwhile."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page.encode())
    except OSError as error:
        raise BllossomError(f"{path} cannot be written ({error.strerror}); name another --output") from error


def _title(runs: Sequence[RunFolder]) -> str:
    return "Bllossom: " + ", ".join(run.name for run in runs)
