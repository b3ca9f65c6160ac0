"""The page's comparison is evaluation's own: intervals over the same documents, seeds of one model together."""

import json
import shutil
from pathlib import Path

import pytest

from bllossom.evaluation.compare.compare import compare
from bllossom.report.run_folder import read_run
from bllossom.report.sections.comparison import comparison


def evaluation(folder: Path, bits: list[float], encoding: str = "lm-eval") -> None:
    """A folder as eval publishes it: held-out documents of 10 bytes with these bits."""
    (folder / "samples").mkdir(parents=True)
    held = {"bits_per_byte": sum(bits) / 10 / len(bits), "stderr": 0.01}
    mine = {"tasks": {}, "subtasks": {}, "heldout": {"ko": held}}
    settings = {"encoding": encoding, "chat_template": False}
    (folder / "results.json").write_text(json.dumps({"results": {}, "bllossom": mine, "config": settings}))
    lines = [json.dumps({"doc_id": at, "bits": each, "bytes": 10, "tokens": 5}) for at, each in enumerate(bits)]
    (folder / "samples/heldout_ko.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def three(run: Path) -> Path:
    """A run with a model's evaluation, and that of another one trained with two seeds."""
    manifest = json.loads((run / "scores/manifest.json").read_text())
    shutil.rmtree(run / "scores")
    for name, bits in {"one": [30, 20, 25], "two-seed-0": [28, 18, 24], "two-seed-1": [26, 16, 24]}.items():
        evaluation(run / name, bits)
        (run / name / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": name}))
    return run


def test_seeds_stand_together_beside_the_first_result_with_their_interval(three: Path) -> None:
    section = comparison([read_run(three)])
    assert section is not None
    scores, differences, *_ = section.blocks
    assert [row[0] for row in scores.rows] == ["one", "two"]
    assert [row[1].value for row in scores.rows] == pytest.approx([2.5, (22 + 70 / 3) / 20])
    direct = compare([f"one={three}/one", f"two={three}/two-seed-0,{three}/two-seed-1"])
    found = direct.differences["two", "bits per byte, ko"]
    assert [cell.value for cell in differences.rows[0][1:4]] == [found.value, found.low, found.high]
    whole = json.loads((three / "comparison.json").read_text())
    assert whole["results"]["two"]["bits per byte, ko"]["difference"]["low"] == found.low


def test_what_is_not_comparable_is_not_compared_and_said(three: Path) -> None:
    shutil.rmtree(three / "one/samples")
    evaluation(three / "one", [30, 20, 25], encoding="whole")
    section = comparison([read_run(three)])
    assert section is not None
    assert section.blocks[0].startswith("Not compared: encoding: ")
    assert not (three / "comparison.json").exists()


def test_one_evaluation_is_not_compared(run: Path) -> None:
    assert comparison([read_run(run)]) is None
