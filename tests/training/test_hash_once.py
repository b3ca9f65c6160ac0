"""The inputs of a run are read once to be hashed, however many ranks there are."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.fixtures.command_runs import start
from tests.fixtures.published import rerun

WATCH = """
import os, sys

def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith("/extra.bin"):
        with open(os.environ["OPENED"], "a") as log:
            log.write("opened\\n")

sys.addaudithook(watch)
"""
TUNING = {"template": "plain", "epochs": 1, "samples": 0, "micro_batch": 4}


@pytest.fixture
def foreign(before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base that no stage published, with a file that is read for nothing but its hash."""
    folder = tmp_path / "foreign"
    shutil.copytree(before / "runs/merged", folder)
    (folder / "manifest.json").unlink()
    (folder / "extra.bin").write_bytes(bytes(2_000_000))
    monkeypatch.setenv("OPENED", str(tmp_path / "opened"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_a_foreign_base_is_hashed_once(foreign: Path, tmp_path: Path) -> None:
    opened: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).endswith("/extra.bin"):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)  # stays, and watches no longer
    rerun("tuned", model=foreign, output=tmp_path / "tuned", **TUNING)
    watching = False
    assert opened == [str(foreign / "extra.bin")]


@pytest.mark.slow
def test_a_foreign_base_is_hashed_by_the_first_rank_alone(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    keys = TUNING | {"model": foreign, "output": tmp_path / "tuned", "processes": 2, "checkpoint_every": 1}
    typed = [f"{key}={value}" for key, value in keys.items()]
    process = start(*("-m", "bllossom.cli", "sft", "--config", "configs/tuned.sft.yaml"), *typed, before=(tmp_path,))
    _, talk = process.communicate()
    assert process.returncode == 0, talk
    assert (tmp_path / "opened").read_text() == "opened\n"
