"""Folders that the code before manifests had a format number left: every stage reads them, and goes on with them."""

import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from bllossom import artifacts
from bllossom.artifacts import Manifest
from bllossom.config import load_config
from bllossom.pipeline import STAGES

ARCHIVE = Path(__file__).parents[1] / "fixtures/published.tar.xz"
FINISHED = (
    *("base-vocab", "base-tokens", "base", "donor", "vocab", "expanded", "tokens"),
    *("adapted", "adapter", "merged", "tuned", "scores"),
)
TRAINED = {"steps": 2, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "published"


@pytest.fixture
def before(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the commands of before were typed, and are typed again."""
    monkeypatch.chdir(unpacked)
    return unpacked


def run(name: str, **changes: Any) -> Manifest:
    """Run the command that made `name`, with some keys changed."""
    (config,) = Path("configs").glob(f"{name}.*.yaml")
    stage = STAGES[config.suffixes[0].removeprefix(".")]
    overrides = [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in changes.items()]
    return stage.run(load_config(stage.config(), config, overrides).config, force=False)


def test_the_archive_holds_what_is_tested_here(before: Path) -> None:
    assert {path.parent.name for path in before.glob("runs/*/manifest.json")} == set(FINISHED)


@pytest.mark.parametrize("name", FINISHED)
def test_verify_passes(before: Path, name: str) -> None:
    assert artifacts.verify(before / "runs" / name) == []


@pytest.mark.parametrize("name", FINISHED)
def test_the_same_command_finds_its_result(before: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = before / "runs" / name / "manifest.json"
    there = manifest.read_bytes()
    run(name)
    assert "nothing to do" in capsys.readouterr().err
    assert manifest.read_bytes() == there


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("donor", {"base": "runs/base-vocab"}),
        ("vocab", {}),
        ("expanded", {}),
        ("tokens", {}),
        ("adapted", TRAINED),
        ("adapter", TRAINED),
        ("merged", {}),
        ("tuned", {"model": "runs/merged", "epochs": 1}),
        ("scores", {"model": "runs/merged"}),
    ],
)
def test_each_stage_reads_what_was_published(before: Path, name: str, changes: dict[str, Any]) -> None:
    manifest = run(name, output=f"again/{name}", **changes)
    assert artifacts.verify(before / "again" / name) == []
    assert manifest.stage == artifacts.read_manifest(before / "runs" / name).stage


def test_an_unfinished_prepare_goes_on_behind_its_finished_slices(before: Path) -> None:
    (unfinished,) = before.glob("runs/paused-tokens.partial-*")
    slices = {path.relative_to(unfinished): path.stat().st_ino for path in unfinished.glob("shards/ko/ko/*.tokens")}
    manifest = run("paused-tokens")
    assert len(slices) == 3
    assert slices == {name: (before / "runs/paused-tokens" / name).stat().st_ino for name in slices}
    assert manifest.fingerprint == run("paused-tokens", output="again/paused-tokens").fingerprint


def test_an_unfinished_training_goes_on_from_its_checkpoint(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = run("paused")
    assert "going on after step 20" in capsys.readouterr().err
    assert artifacts.verify(before / "runs/paused") == []
    assert manifest.figures["steps"] == 40
