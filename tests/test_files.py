import errno
import fcntl
import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

from bllossom import files
from bllossom.errors import BllossomError
from bllossom.files import FileHashes, locked, write_whole

LONG_AGO = 1_700_000_000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "SETTLED_SECONDS", 0.0)
    return tmp_path / "cache/bllossom/hashes"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * 5000)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def poison(cache: Path) -> None:
    """Make every kept hash another one, so that it shows where it is used."""
    for entry in kept(cache):
        entry.write_text("0" * 64)


def test_a_file_is_hashed_once_on_a_machine(cache: Path, large: Path) -> None:
    [record] = FileHashes(cached=True).record([large])
    assert (record.sha256, record.bytes) == (sha256(large), 1_280_000)
    poison(cache)
    assert FileHashes(cached=True).record([large])[0].sha256 == "0" * 64
    assert FileHashes(cached=False).record([large])[0].sha256 == sha256(large), "verify reads every byte"


def test_small_files_are_kept_together_and_read_again_when_one_of_them_changed(cache: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for path in paths:
        path.write_text(path.name)
    FileHashes(cached=True).record(paths)
    [entry] = kept(cache)
    entry.write_text("\n".join(number * 64 for number in "123"))
    assert [record.sha256[0] for record in FileHashes(cached=True).record(paths)] == ["1", "2", "3"]
    paths[1].write_text("changed")
    assert [record.sha256 for record in FileHashes(cached=True).record(paths)] == [sha256(path) for path in paths]


@pytest.mark.parametrize("times_kept", [False, True])
def test_a_file_of_the_same_size_with_other_contents_is_read_again(cache: Path, large: Path, times_kept: bool) -> None:
    os.utime(large, (LONG_AGO, LONG_AGO))
    FileHashes(cached=True).record([large])
    large.write_bytes(b"x" * 1_280_000)
    if times_kept:  # as rsync and cp -p do: the time of the inode's change still tells
        os.utime(large, (LONG_AGO, LONG_AGO))
    assert FileHashes(cached=True).record([large])[0].sha256 == sha256(large)


def test_a_file_that_was_changed_just_now_is_not_kept(
    cache: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SETTLED_SECONDS", 3600.0)
    FileHashes(cached=True).record([large])
    assert not kept(cache)


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    cache: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = files._digest

    def digest_and_change(path: Path, *rest: object) -> str:
        found = read(path, *rest)
        path.write_bytes(b"longer" * 1_000_000)
        return found

    monkeypatch.setattr(files, "_digest", digest_and_change)
    FileHashes(cached=True).record([large])
    assert not kept(cache)


def test_a_hard_link_to_a_file_that_was_read_is_not_read_again(cache: Path, large: Path, tmp_path: Path) -> None:
    hashes = FileHashes(cached=True)
    hashes.record([large])
    (tmp_path / "link.bin").hardlink_to(large)  # changes the inode's time of change, which the cache goes by
    poison(cache)
    [record] = hashes.record([tmp_path / "link.bin"])
    assert record.sha256 == sha256(large)
    poison(cache)
    assert FileHashes(cached=True).record([large])[0].sha256 == "0" * 64, "kept under its present times too"


def test_a_damaged_entry_and_a_cache_that_cannot_be_written_only_cost_time(
    cache: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FileHashes(cached=True).record([large])
    for entry in kept(cache):
        entry.write_text("cut sh")
    assert FileHashes(cached=True).record([large])[0].sha256 == sha256(large)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert FileHashes(cached=True).record([large])[0].sha256 == sha256(large)


def test_large_files_are_hashed_together_with_their_progress_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "BAR_BYTES", 1)
    monkeypatch.setattr("bllossom.console.LOG_INTERVAL_SECONDS", 0.0)
    paths = [tmp_path / f"{number}.bin" for number in range(4)]
    for path in paths:
        path.write_bytes(path.name.encode() * 500_000)
    records = FileHashes(cached=True).record(paths)
    assert [record.sha256 for record in records] == [sha256(path) for path in paths]
    assert "bytes hashed: 10,000,000 of 10,000,000" in capsys.readouterr().err


def test_what_cannot_be_read_is_named_and_ends_the_others(cache: Path, large: Path, tmp_path: Path) -> None:
    unreadable = tmp_path / "unreadable"
    unreadable.symlink_to("/proc/self/mem")  # opens, and gives an error when it is read, to root too
    with pytest.raises(BllossomError, match=rf"{unreadable} cannot be read \(Input/output error\); make it readable"):
        FileHashes(cached=True).record([unreadable, large])


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"before")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"before"


def test_locks_keep_threads_apart_though_the_file_comes_and_goes(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count() -> None:
        for _ in range(30):
            with locked(tmp_path / "lock", "the counter", wait=True):
                counter.write_text(str(int(counter.read_text()) + 1))

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "180"
    assert not (tmp_path / "lock").exists()


def as_nfs(descriptor: int, operation: int) -> None:
    """flock as NFS has it: an exclusive lock is a lock on the bytes of a file that is open for writing."""
    writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not writable:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def test_locks_work_as_nfs_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", as_nfs)
    with locked(tmp_path / "lock", "the place"):
        assert (tmp_path / "lock").is_file()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF])
def test_a_file_system_without_locks_is_told_in_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    told = rf"{tmp_path}/lock cannot be locked \(.*\): its file system keeps no locks; name an output on another one"
    with pytest.raises(BllossomError, match=told), locked(tmp_path / "lock", "the place"):
        pass
