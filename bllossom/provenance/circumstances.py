"""What a manifest tells of the run and its machine, and what no fingerprint counts.

A run that was stopped goes on in its partial folder, and takes the seconds of all its attempts. One that was killed has
no chance to say how long it worked: it lasted from its UNFINISHED to the last file that it wrote.
"""

import contextlib
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bllossom.files import write_whole
from bllossom.memory import peak_rss_bytes, reset_peak_rss
from bllossom.provenance.manifest import UNFINISHED, Origin, Unfinished

PACKAGES = ("bllossom", "torch", "transformers", "tokenizers", "sentencepiece", "datasets", "lm_eval")


class Clock:
    """Measures a run, from its making on, behind the seconds that it took before."""

    def __init__(self, before: float = 0.0) -> None:
        reset_peak_rss()
        self._before = before
        self._started, self._clock = datetime.now(UTC), time.monotonic()

    def figures(self) -> dict[str, Any]:
        """When the run began or went on, how long it took in all, the most memory it held since, and where."""
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "wall_seconds": round(self._before + time.monotonic() - self._clock, 3),
            "peak_memory_bytes": peak_rss_bytes(),
            "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        }


def begin_attempt(partial: Path, origin: Origin) -> float:
    """Note in a partial folder what is made there, and the seconds that all attempts took until now; give these."""
    seconds = _seconds_until_now(partial)
    text = Unfinished(**origin.model_dump(), seconds=round(seconds, 3)).model_dump_json(indent=1)
    write_whole(partial / UNFINISHED, f"{text}\n".encode())
    return seconds


def _seconds_until_now(partial: Path) -> float:
    try:
        before = Unfinished.model_validate_json((partial / UNFINISHED).read_bytes()).seconds
        began = (partial / UNFINISHED).stat().st_mtime
    except (OSError, ValueError):  # the first attempt, or nobody knows
        return 0.0
    # Not the times of folders: a file may be removed from them long after.
    written = [path.lstat().st_mtime for path in partial.rglob("*") if not path.is_dir()]
    return before + max(0.0, max(written) - began)


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
