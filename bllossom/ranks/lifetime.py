"""When a rank ends: with its launcher, whatever became of that; and on request, at a consistent place."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, the process `parent`, ends.

    A launcher that was killed could not end its ranks: they would wait for it with their memory and their GPUs, and go
    on saving into the folder where the next run works. Nothing is lost by it: checkpoints appear whole or not at all.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be asked
        os.kill(os.getpid(), signal.SIGKILL)


def stop_signals() -> Sequence[signal.Signals]:
    """What asks a run to stop: SIGTERM, Ctrl-C, and the end of its terminal or ssh session, but under nohup."""
    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hangup]


@contextmanager
def stop_requests() -> Iterator[Callable[[], Sequence[int]]]:
    """Yield a function that gives the signals that asked to stop so far; what is under way is finished first."""
    asked: list[int] = []
    previous = {number: signal.signal(number, lambda got, _: asked.append(got)) for number in stop_signals()}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
