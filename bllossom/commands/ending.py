"""How a command ends: its result on stdout, an expected error as its message, a stop as what to go on from."""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import typer

from bllossom.console import say
from bllossom.errors import BllossomError, Stopped
from bllossom.paths import shown
from bllossom.ranks.lifetime import stop_signals

OF_THE_MACHINE = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EIO,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
}
"""What a file system answers of a path, wherever it is asked: no bug of ours. A file that is gone may be one."""


def print_result(text: str) -> None:
    """Print a result on stdout.

    Raises:
        BllossomError: it cannot be written there: the disk of the file that it goes to is full, say.
    """
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered is not tried again at exit
        raise BllossomError(f"standard output cannot be written ({error.strerror}); send it elsewhere") from error


@contextlib.contextmanager
def expected_errors(debug: bool) -> Iterator[None]:
    """End an expected error with its message and exit code, and what asks to stop as a stop to go on from."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in stop_signals()}
    try:
        _check_working_folder()
        yield
    except BllossomError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            say(f"error: {line}" if not isinstance(error, Stopped) else line)
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        if debug or error.errno not in OF_THE_MACHINE:
            raise
        where = f"{shown(error.filename)}: " if error.filename else ""
        say(f"error: {where}{error.strerror}; choose another place, or mend this one")
        raise typer.Exit(BllossomError.exit_code) from None
    except KeyboardInterrupt:
        say(str(Stopped()))
        raise typer.Exit(Stopped.exit_code) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_working_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise BllossomError("the folder you are in was removed; go to one that is there with cd") from error


def escape_what_cannot_be_shown() -> None:
    """A terminal that has no Korean is no reason to end."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def exit_at_once(code: int) -> NoReturn:
    """End without taking the interpreter down, as multiprocessing ends its children.

    Gloo's thread may still hold Python objects of the last collective. It aborts the process where it lets go of them
    while the interpreter is taken down: a run that had published its model then ended by SIGABRT, one in fourteen.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
