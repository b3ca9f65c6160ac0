"""An append-only file of JSON lines. What was appended is on the disk, whatever is killed afterwards.

with AppendLog(path) as log:      # one process at a time
    log.append({"id": 7})         # returns after fsync
read_log(path)                    # [{"id": 7}]; may be read while another process appends
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from bllossom.console import say
from bllossom.errors import BllossomError


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log in order, none where there is no file.

    A line that is no JSON object (cut by a kill or a full disk) is left out and told with its number.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line:
            continue
        try:
            record = json.loads(line)
        except ValueError:  # UnicodeDecodeError is one: a cut may fall inside a character
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            say(f"{path}: line {number} is cut or broken ({len(line):,} bytes): not used; all the others are")
    return records


class AppendLog:
    """A log held open by this process alone, to append to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "AppendLog":
        """Open the file, or make it; what is there is read once, into `records`.

        Raises:
            BllossomError: another process appends to it, or it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise BllossomError(f"{self.path} cannot be written ({error.strerror}); name another place") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise BllossomError(f"another process is writing {self.path}; wait for it or end it") from error
        self.records = read_log(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def append(self, record: dict[str, Any]) -> None:
        """Write one line and wait for the disk.

        Raises:
            BllossomError: the disk is full or gone: the record is not kept.
        """
        line = json.dumps(record, ensure_ascii=False).encode("utf8", "surrogatepass") + b"\n"
        try:
            size = os.fstat(self._descriptor).st_size
            # A cut line is left as it is, whoever left it: the next one starts anew.
            left = b"\n" + line if self._ends_in_a_cut_line(size) else line
            try:
                while left:
                    left = left[os.write(self._descriptor, left) :]
                os.fsync(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):  # the disk may be gone altogether
                    os.ftruncate(self._descriptor, size)
                raise
        except OSError as error:
            raise BllossomError(
                f"{self.path} cannot be written ({error.strerror}); free some room and run the same command"
            ) from error

    def _ends_in_a_cut_line(self, size: int) -> bool:
        return size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Put these records at `path` in place of whatever is there: all of them, or none if it is killed."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with unfinished.open("w", encoding="utf8", errors="surrogatepass") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
