"""What a run says while it works. Talk goes to stderr; results go to stdout (see cli.py)."""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

LOG_INTERVAL_SECONDS = 10.0


class _Talk(io.TextIOBase):
    """stderr, for as long as there is one: where the terminal is closed, or nobody reads the pipe any more, the talk is
    lost and the work goes on."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._stderr = sys.stderr  # while a bar is shown rich puts in its place what writes to this console

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stderr.write(text)
            self._stderr.flush()
        return len(text)

    def isatty(self) -> bool:
        return self._stderr.isatty()

    def fileno(self) -> int:
        return self._stderr.fileno()


def _stderr() -> Console:
    # Made anew each time: a console kept at import would hold on to the stderr of that moment.
    return Console(file=cast(IO[str], _Talk()), soft_wrap=True, highlight=False, markup=False)


def say(line: str | Text) -> None:
    """Print one line of talk on stderr; a `Text` in its colours, where a terminal shows them."""
    _stderr().print(line)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Yield `advance(steps, note="")`: a bar with the time left on a terminal, a line every ten seconds in a log."""
    console = _stderr()
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task(what, total=total)

            def move(steps: int, note: str = "") -> None:
                bar.update(task, advance=steps, description=f"{what} {note}".rstrip())

            yield move
        return

    done, start = 0, time.monotonic()
    last = start

    def advance(steps: int, note: str = "") -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_SECONDS:
            last = now
            of = f" of {total:,}" if total else ""
            say(f"{what}: {done:,}{of} ({now - start:.0f} s) {note}".rstrip())

    yield advance


def stdout() -> Console:
    """Where results go that have colours: on a terminal with them, in a pipe as plain text."""
    return Console(soft_wrap=True, highlight=False, markup=False)


def first_of(names: Sequence[str], most: int = 5) -> str:
    """Names for people: all of them, or the first few and an ellipsis."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def size_text(size_bytes: float) -> str:
    """A number of bytes for people: `1.2 GB`, and below a kilobyte the number itself."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= size:
            return f"{size_bytes / size:,.1f} {unit}"
    return f"{size_bytes:,.0f} B"
