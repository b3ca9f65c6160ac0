"""The process's peak resident memory, from Linux's own counters."""

import contextlib
import resource
from pathlib import Path


def reset_peak_rss() -> None:
    """Start the peak anew (Linux, proc(5): clear_refs); where that cannot be done it goes on from the start."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_bytes() -> int:
    """Peak resident memory in bytes since `reset_peak_rss`, or since the process began."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
