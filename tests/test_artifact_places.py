"""Where results can be published, and where not."""

import errno
import fcntl
import os
import resource
import stat
from pathlib import Path

import pytest

from bllossom import artifacts
from bllossom.errors import BllossomError
from tests.fixtures.copying import Copying, copy


@pytest.fixture
def config(tmp_path: Path) -> Copying:
    (tmp_path / "source.txt").write_text("text")
    return Copying(source=tmp_path / "source.txt", output=tmp_path / "out")


def test_a_really_full_disk_ends_with_one_clear_message(config):
    def fill(folder: Path) -> dict[str, int]:
        Path("/dev/full").write_text("x" * 10_000)
        return {}

    with pytest.raises(BllossomError, match="disk is full"):
        artifacts.publish(config, stage="copy", inputs={}, build=fill)
    assert not config.output.exists()


def test_a_file_larger_than_allowed_ends_with_one_clear_message(config):
    def fill(folder: Path) -> dict[str, int]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            (folder / "large").write_text("x" * 10_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return {}

    with pytest.raises(BllossomError, match="may not hold a file so large; raise `ulimit -f`"):
        artifacts.publish(config, stage="copy", inputs={}, build=fill)


def test_a_read_only_folder_ends_with_one_clear_message(tmp_path, config):
    # /proc refuses even root, whom file modes do not stop.
    refused = config.model_copy(update={"output": Path("/proc/bllossom/out")})
    with pytest.raises(BllossomError, match=r"cannot be made.*choose an output"):
        copy(refused)


@pytest.mark.parametrize("error", [BllossomError("no"), KeyboardInterrupt()])
def test_a_refused_stage_leaves_no_folder(config, tmp_path, error):
    deep = config.model_copy(update={"output": tmp_path / "new/deep/out"})

    def refuse(folder: Path) -> dict[str, int]:
        (folder / "empty").mkdir()
        (folder / "empty/log.jsonl").touch()
        raise error

    with pytest.raises(type(error)):
        artifacts.publish(deep, stage="copy", inputs={"source": config.source}, build=refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["source.txt"]


def test_an_output_that_is_a_link_is_followed_and_stays(config, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    config.output.symlink_to(disk / "result")  # to be made there
    folders: list[Path] = []
    copy(config, calls=folders)
    assert config.output.is_symlink()
    assert folders[0].parent == disk, "the work is done on the disk that the link leads to"
    assert (disk / "result/deep/copy.txt").read_text() == "text"
    assert copy(config).figures == {"characters": 4}
    copy(config.model_copy(update={"suffix": "!"}), force=True)
    assert (disk / "result/deep/copy.txt").read_text() == "text!"
    assert [path.name for path in disk.iterdir()] == ["result"]


def test_an_output_that_cannot_be_renamed_into_is_refused_before_the_work(config, tmp_path):
    config.output.symlink_to("/nowhere/mounted/result")
    with pytest.raises(BllossomError, match=r"is a link to /nowhere/mounted/result, where nothing is; mount that disk"):
        copy(config)
    with pytest.raises(BllossomError, match=r"/proc is where a disk is mounted; name a folder on it"):
        copy(config.model_copy(update={"output": Path("/proc")}))


def test_the_special_characters_of_globs_in_an_output_hide_no_unfinished_run(config, capsys):
    output = config.output.with_name("x[1]")
    output.with_name("x[1].partial-0123456789abcdef").mkdir()
    copy(config.model_copy(update={"output": output}))
    assert "x[1].partial-0123456789abcdef was left unfinished" in capsys.readouterr().err


def test_an_input_that_cannot_be_read_is_named_and_not_the_output(config, tmp_path):
    unreadable = tmp_path / "unreadable"
    unreadable.symlink_to("/proc/self/mem")
    with pytest.raises(BllossomError, match=f"^{unreadable} cannot be read"):
        copy(config.model_copy(update={"source": unreadable}))

    def forbidden(folder: Path) -> dict[str, int]:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "elsewhere/secret"))

    named = config.model_copy(update={"output": tmp_path / "deep/out"})
    with pytest.raises(BllossomError, match=r"elsewhere/secret cannot be opened .*make it readable"):
        artifacts.publish(named, stage="copy", inputs={}, build=forbidden)


def test_results_are_published_where_only_files_open_for_writing_can_be_locked(config, monkeypatch):
    """As on NFS."""

    def flock(descriptor: int, operation: int) -> None:
        writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not writable:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(fcntl, "flock", flock)
    copy(config)
    assert sorted(path.name for path in config.output.parent.iterdir()) == ["out", "source.txt"]


def test_what_is_no_folder_is_never_renamed_away(config):
    os.mkfifo(config.output)  # as /dev/null would be
    with pytest.raises(BllossomError, match=r"out is a pipe, a socket or a device; name another output"):
        copy(config, force=True)
    assert stat.S_ISFIFO(config.output.stat().st_mode)


def test_what_is_read_is_never_replaced_or_changed_by_what_is_made_of_it(config, tmp_path):
    folder = tmp_path / "data/deep"
    folder.mkdir(parents=True)
    text = folder / "text.txt"
    text.write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for output in (folder, tmp_path / "data", tmp_path / "link"):
        with pytest.raises(BllossomError, match=f"output: {output} holds {text}, which it would replace; name another"):
            copy(config.model_copy(update={"source": text, "output": output}), force=True)
    config = config.model_copy(update={"source": folder})
    with pytest.raises(BllossomError, match="is the source itself, which it would replace"):
        copy(config.model_copy(update={"output": folder}), force=True)
    with pytest.raises(BllossomError, match=r"lies in the source, .*deep, which it would change; name another"):
        copy(config.model_copy(update={"output": folder / "out"}))
    assert [path.name for path in folder.iterdir()] == ["text.txt"]
