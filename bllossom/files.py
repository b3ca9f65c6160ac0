"""Files: written whole, brought to the disk, locked, and hashed once.

Hashes are kept under $XDG_CACHE_HOME/bllossom/hashes (~/.cache by default), a small file for each large one and for
each set of small ones, named by what contents cannot change without: device, inode, size, and the times of the last
change (mtime and ctime, ns). The cache may be removed at any time.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from typing import BinaryIO

from pydantic import BaseModel

from bllossom.console import progress
from bllossom.errors import BllossomError

CHUNK_BYTES = 1 << 20
HASHED_AT_ONCE = 8  # files; hashing leaves Python's lock alone, and a network's disk answers several readers faster
LARGE_BYTES = 1_000_000  # a smaller file is read about as fast as its hash is looked up
BAR_BYTES = 500_000_000  # about a second of hashing: less needs no progress bar
SETTLED_SECONDS = 2.0  # a file changed so lately may change again within one tick of its clock


class FileRecord(BaseModel):
    """A file's contents."""

    sha256: str
    bytes: int


class FileHashes:
    """The files hashed so far: in this process, and with `cached` on this machine.

    In one process a hard link to a file that was read is not read again, though linking changed the file's ctime: of a
    13B model that expand links, 26 GB are read once.
    """

    def __init__(self, *, cached: bool) -> None:
        self._folder = _cache_folder() if cached else None
        self._known: dict[tuple[int, int, int, int], str] = {}  # by device, inode, size, mtime

    def record(self, paths: Sequence[Path]) -> list[FileRecord]:
        """Hash the files that are not known yet, several at a time, with a progress bar where they are large.

        Raises:
            BllossomError: a file cannot be read.
        """
        stats = {path: _stat(path) for path in dict.fromkeys(paths)}
        groups = self._groups(list(stats.values()))
        for group in groups:
            self._recall(group)
        unread = {key: path for path, stat in stats.items() if (key := _key(stat)) not in self._known}
        total = sum(stats[path].st_size for path in unread.values())
        with _bar(total) as advance:
            digests = _digests(list(unread.values()), advance)
        self._known |= dict(zip(unread, digests, strict=True))
        # Whether a file changed while it was read shows in its times, looked at again now.
        changed = {key for key, path in unread.items() if _key(_stat(path)) != key}
        for group in groups:
            if not changed.intersection(map(_key, group)):
                self._keep(group)
        return [FileRecord(sha256=self._known[_key(stats[path])], bytes=stats[path].st_size) for path in paths]

    def _groups(self, stats: Sequence[os.stat_result]) -> list[list[os.stat_result]]:
        """What is kept together: a large file alone, under its present times, which a new hard link has changed; and
        all the small ones that are not known, of which looking up each takes longer than reading it."""
        small = [stat for stat in stats if stat.st_size < LARGE_BYTES and _key(stat) not in self._known]
        return [[stat] for stat in stats if stat.st_size >= LARGE_BYTES] + ([small] if small else [])

    def _recall(self, group: Sequence[os.stat_result]) -> None:
        entry = self._entry(group)
        if entry is None or not entry.is_file():
            return
        with contextlib.suppress(OSError):
            digests = entry.read_text().split()
            if [len(digest) for digest in digests] == [64] * len(group):
                self._known = dict(zip(map(_key, group), digests, strict=True)) | self._known
            else:
                entry.unlink()  # damaged

    def _keep(self, group: Sequence[os.stat_result]) -> None:
        entry = self._entry(group)
        newest = max(max(stat.st_mtime, stat.st_ctime) for stat in group)
        if entry is None or entry.is_file() or time.time() - newest < SETTLED_SECONDS:
            return
        with contextlib.suppress(OSError):  # without a cache everything is only slower
            entry.parent.mkdir(parents=True, exist_ok=True)
            unfinished = entry.with_name(f"{entry.name}.{os.getpid()}")
            unfinished.write_text("\n".join(self._known[_key(stat)] for stat in group))
            unfinished.rename(entry)

    def _entry(self, group: Sequence[os.stat_result]) -> Path | None:
        if self._folder is None:
            return None
        name = hashlib.sha256(str([(*_key(stat), stat.st_ctime_ns) for stat in group]).encode()).hexdigest()
        return self._folder / name[:2] / name[2:]


CUT = ".unfinished"
"""Ends the name of a file while it is written."""


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file in one step: it is there whole, on the disk, or not at all."""
    unfinished = path.with_name(f"{path.name}{CUT}")
    with unfinished.open("wb") as file:
        file.write(data)
        sync_file(file)
    unfinished.rename(path)


def sync_file(file: BinaryIO) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring every file and folder to the disk, so that a rename never publishes what a power cut takes away."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of `what` by a lock on the file `path`, which is made, and removed at the end.

    The lock dies with its process. The file is open for writing: NFS gives no exclusive lock on anything else, and none
    on folders.

    Raises:
        BllossomError: another process has it, and it is not to be waited for; or the file system keeps no locks.
    """
    descriptor = _open_locked(path, what, wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked: who waits for it sees that it is gone
        os.close(descriptor)


def _open_locked(path: Path, what: str, wait: bool) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Who had it before may have removed the file. Not the path is asked: NFS may remember where that led to.
            if os.fstat(descriptor).st_nlink > 0:
                return descriptor
        except OSError as error:
            if error.errno != errno.ESTALE:  # the file was removed on another machine
                os.close(descriptor)
                raise _cannot_lock(path, what, error) from error
        os.close(descriptor)


def _cannot_lock(path: Path, what: str, error: OSError) -> BllossomError:
    if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
        return BllossomError(f"another process is working in {what}; wait for it, end it, or name another output")
    return BllossomError(
        f"{path} cannot be locked ({error.strerror}): its file system keeps no locks; name an output on another one, "
        "or mount it with locks (NFS: without nolock, and with lockd running)"
    )


def _digests(paths: Sequence[Path], advance: Callable[[int], None]) -> list[str]:
    stopped = Event()
    with ThreadPoolExecutor(HASHED_AT_ONCE) as pool:
        try:
            return list(pool.map(lambda path: _digest(path, advance, stopped), paths))
        except BaseException:  # the first that cannot be read, or Ctrl-C, ends the others
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _digest(path: Path, advance: Callable[[int], None], stopped: Event) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while not stopped.is_set() and (chunk := file.read(CHUNK_BYTES)):
                digest.update(chunk)
                advance(len(chunk))
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BllossomError:
    return BllossomError(f"{path} cannot be read ({error.strerror}); make it readable, or name another file")


def _key(stat: os.stat_result) -> tuple[int, int, int, int]:
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _cache_folder() -> Path | None:
    """Where the hashes are kept; None where this user has no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bllossom/hashes"
    except RuntimeError:
        return None


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    if total < BAR_BYTES:
        yield lambda _: None
        return
    lock = Lock()
    with progress("bytes hashed", total) as move:

        def advance(size: int) -> None:
            with lock:  # several threads hash
                move(size)

        yield advance
