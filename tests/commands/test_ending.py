"""What a file system says of a path is told in a line, and what is a bug keeps its traceback."""

import errno
from pathlib import Path

import pytest
import typer

from bllossom.commands.ending import expected_errors
from bllossom.commands.folders import verify


def test_a_name_that_is_too_long_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / ("x" * 300)
    with pytest.raises(typer.Exit) as end:
        verify(folder)
    assert end.value.exit_code == 1
    assert f"error: {folder}: File name too long; choose another place" in capsys.readouterr().err


def test_links_that_lead_in_a_circle_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.symlink_to(there)
    there.symlink_to(here)
    with pytest.raises(typer.Exit), expected_errors(debug=False):
        here.read_bytes()
    assert f"error: {here}: Too many levels of symbolic links" in capsys.readouterr().err


def test_a_full_disk_is_told_though_the_system_names_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), expected_errors(debug=False), Path("/dev/full").open("w") as full:
        full.write("text")
    assert "error: No space left on device; choose another place" in capsys.readouterr().err


def test_a_file_that_is_gone_may_be_a_bug_and_debug_shows_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), expected_errors(debug=False):
        (tmp_path / "gone").read_bytes()
    with pytest.raises(OSError, match="too long") as error, expected_errors(debug=True):
        (tmp_path / ("x" * 300)).read_bytes()
    assert error.value.errno == errno.ENAMETOOLONG
