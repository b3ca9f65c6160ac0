"""What a manifest tells of the run and its machine, and what no fingerprint counts."""

import contextlib
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bllossom.memory import peak_rss_bytes, reset_peak_rss

PACKAGES = ("bllossom", "torch", "transformers", "tokenizers", "sentencepiece", "datasets", "lm_eval")


class Clock:
    """Measures a run, from its making on."""

    def __init__(self) -> None:
        reset_peak_rss()
        self._started, self._clock = datetime.now(UTC), time.monotonic()

    def figures(self) -> dict[str, Any]:
        """When the run began, how long it took, the most memory it held, and where."""
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.monotonic() - self._clock, 3),
            "peak_memory_bytes": peak_rss_bytes(),
            "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        }


def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def git_commit() -> str | None:
    """The commit of the checkout this code runs from, `+dirty` where files changed; None for an installed package."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        # An environment inside somebody else's checkout is not part of it.
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+dirty" if status.stdout.strip() else "")
