"""Folders that the code before manifests had a format number left: every stage reads them, and goes on with them."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from bllossom import artifacts
from bllossom.errors import BllossomError
from tests.fixtures.published import rerun

FINISHED = (
    *("base-vocab", "base-tokens", "base", "donor", "vocab", "expanded", "tokens"),
    *("adapted", "adapter", "merged", "tuned", "scores"),
)
CHANGED = {
    "expanded": 'input_init: "random" there, "subword-weighted" here',
    "tuned": "epochs: 1 there, 15 here",
    "scores": "its config is not one of this version: batch_size: Extra inputs are not permitted",
}
"""Commands that now ask for something else, and why."""
TRAINED = {"steps": 2, "checkpoint_every": 1}


def test_the_archive_holds_what_is_tested_here(before: Path) -> None:
    assert {path.parent.name for path in before.glob("runs/*/manifest.json")} == set(FINISHED)


@pytest.mark.parametrize("name", FINISHED)
def test_verify_passes(before: Path, name: str) -> None:
    assert artifacts.verify(before / "runs" / name) == []


@pytest.mark.parametrize("name", [name for name in FINISHED if name not in CHANGED])
def test_the_same_command_finds_its_result(before: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = before / "runs" / name / "manifest.json"
    there = manifest.read_bytes()
    rerun(name)
    assert "nothing to do" in capsys.readouterr().err
    assert manifest.read_bytes() == there


@pytest.mark.parametrize("name", CHANGED)
def test_a_command_that_asks_for_something_else_now_is_told_why(before: Path, name: str) -> None:
    told = rf"runs/{name} holds another result \({re.escape(CHANGED[name])}.*\); name another output"
    with pytest.raises(BllossomError, match=told):
        rerun(name)


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
        ("tuned", {"model": "runs/merged", "template": "plain", "epochs": 1}),
        ("scores", {"model": "runs/merged"}),
    ],
)
def test_each_stage_reads_what_was_published(before: Path, name: str, changes: dict[str, Any]) -> None:
    manifest = rerun(name, output=f"again/{name}", **changes)
    assert artifacts.verify(before / "again" / name) == []
    assert manifest.stage == artifacts.read_manifest(before / "runs" / name).stage


def test_an_unfinished_prepare_goes_on_behind_its_finished_slices(before: Path) -> None:
    (unfinished,) = before.glob("runs/paused-tokens.partial-*")
    slices = {path.relative_to(unfinished): path.stat().st_ino for path in unfinished.glob("shards/ko/ko/*.tokens")}
    manifest = rerun("paused-tokens")
    assert len(slices) == 3
    assert slices == {name: (before / "runs/paused-tokens" / name).stat().st_ino for name in slices}
    assert manifest.fingerprint == rerun("paused-tokens", output="again/paused-tokens").fingerprint


def test_a_checkpoint_of_another_config_is_refused_by_its_keys_and_leaves_no_folder(before: Path) -> None:
    (unfinished,) = before.glob("runs/paused.partial-*")
    other = before / "other/paused.partial-0123456789abcdef"
    shutil.copytree(unfinished, other)
    changed = {"output": "other/paused", "learning_rate.peak": 0.01}
    with pytest.raises(BllossomError, match=r"is another run's \(the same data under another config\), stopped after"):
        rerun("paused", **changed)
    config = yaml.safe_load((before / "configs/paused.pretrain.yaml").read_text())
    config |= {"precision": "fp32", "liger": False}  # what auto stands for here
    inputs = {"tokens": artifacts.fingerprint(before / "runs/base-tokens")}
    origin = artifacts.Origin(format=2, stage="pretrain", config=config, inputs=inputs)
    (other / "unfinished.json").write_text(origin.model_dump_json())
    with pytest.raises(
        BllossomError, match=r"is another run's \(learning_rate.peak: 0.001 there, 0.01 here\), stopped"
    ):
        rerun("paused", **changed)
    assert [path.name for path in (before / "other").iterdir()] == [other.name]


def test_an_unfinished_training_goes_on_from_its_checkpoint(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = rerun("paused")
    assert "going on after step 20" in capsys.readouterr().err
    assert artifacts.verify(before / "runs/paused") == []
    assert manifest.figures["steps"] == 40


def test_other_spellings_and_a_moved_data_folder_are_the_same_results(
    before: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (before / "text").rename(before / "moved")
    try:
        here, text = before.absolute(), str(before / "moved")
        rerun("base-vocab", text=[f"{text}/en.jsonl"], output=here / "runs/base-vocab")
        rerun("vocab", base=here / "runs/base-vocab", samples={name: [f"{text}/{name}.jsonl"] for name in ("ko", "en")})
        rerun(
            "expanded",
            model=here / "runs/base",
            tokenizer="runs/../runs/vocab",
            input_init="random",
            output_init="subword-mean",
        )
        rerun("tokens", sources={name: [f"{text}/{name}.jsonl"] for name in ("ko", "en")})
        rerun("adapted", tokens=here / "runs/tokens")
    finally:
        (before / "moved").rename(before / "text")
    assert capsys.readouterr().err.count("nothing to do") == 5


def test_another_config_is_refused_with_its_keys(before: Path) -> None:
    with pytest.raises(BllossomError, match=r"holds another result \(learning_rate.peak: 0.001 there, 0.002 here\)"):
        rerun("adapted", **{"learning_rate.peak": 0.002})
    told = r"holds another result \(input text/0: [0-9a-f]{12}… there, [0-9a-f]{12}… here\)"
    with pytest.raises(BllossomError, match=told):
        rerun("base-vocab", text=["text/held.jsonl"])
