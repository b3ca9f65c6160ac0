"""The time of a run is that of all its attempts, whether they were stopped or killed."""

import json
import os
import time
from pathlib import Path

import pytest

from bllossom import artifacts
from bllossom.provenance.circumstances import begin_attempt
from bllossom.provenance.manifest import UNFINISHED
from tests.fixtures.copying import Copying, copy, leave_unfinished

LONG_AGO = time.time() - 1e6


@pytest.fixture
def config(tmp_path: Path) -> Copying:
    (tmp_path / "source.txt").write_text("text")
    return Copying(source=tmp_path / "source.txt", output=tmp_path / "out")


def worked(partial: Path, began: float, seconds: float) -> None:
    """As if what is unfinished had begun then, and written its last file so many seconds later."""
    for path in partial.rglob("*"):
        if not path.is_dir():
            os.utime(path, (began, began if path.name == UNFINISHED else began + seconds))


def test_the_seconds_of_attempts_that_were_stopped_or_killed_count(config: Copying, tmp_path: Path) -> None:
    worked(leave_unfinished(config), LONG_AGO, 3000)
    worked(leave_unfinished(config), LONG_AGO + 5000, 500)
    manifest = copy(config)
    assert 3500 <= manifest.run["wall_seconds"] < 3600
    whole = copy(config.model_copy(update={"output": tmp_path / "other"}))
    assert whole.run["wall_seconds"] < 60
    assert manifest.id == whole.id


def test_what_is_written_between_two_attempts_is_no_time_of_the_run(config: Copying) -> None:
    partial = leave_unfinished(config)
    worked(partial, LONG_AGO, 3000)
    origin = artifacts.read_origin(partial)
    assert origin is not None
    assert begin_attempt(partial, origin) == pytest.approx(3000)
    (partial / "half").write_text("changed")  # days later
    assert 3000 <= copy(config).run["wall_seconds"] < 3060


def test_a_partial_folder_of_before_that_says_no_seconds_is_gone_on_from(config: Copying) -> None:
    partial = leave_unfinished(config)
    told = json.loads((partial / UNFINISHED).read_text())
    del told["seconds"]
    (partial / UNFINISHED).write_text(json.dumps(told))
    worked(partial, LONG_AGO, 100)
    assert 100 <= copy(config).run["wall_seconds"] < 160
