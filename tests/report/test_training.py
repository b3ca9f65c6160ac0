"""The curves of every stage, each with its own unit, and where they end."""

import json
import shutil
from pathlib import Path

import pytest

from bllossom.report.blocks import Chart, Table
from bllossom.report.run_folder import Figure, read_run
from bllossom.report.sections.training import training

pytest.importorskip("altair", reason="altair is not installed (pip install 'bllossom[report]')")


@pytest.fixture
def preferred(run: Path) -> Path:
    """The run with a dpo step behind its tuning, whose log is as dpo writes it; sft's with held-out examples."""
    shutil.copytree(run / "tuned", run / "preferred")
    path = run / "preferred/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["stage"] = "dpo"
    manifest["figures"] |= {"last_loss": {"loss": 0.625}, "last_step": {"rewards/margin": 0.4, "accuracy": 0.9}}
    path.write_text(json.dumps(manifest))
    beside = {"tokens": 200, "rewards/margin": 0.4, "accuracy": 0.9, "heldout/loss": 0.5, "heldout/accuracy": 0.75}
    _log(run / "preferred", [{"step": step, "loss": 1.25 / step} | beside for step in (1, 2)])
    scored = {"tokens": 100, "loss": 3.0, "loss/outputs": 3.0, "heldout_loss/outputs": 3.5}
    _log(run / "tuned", [{"step": step} | scored for step in (1, 2)])
    return run


def _log(folder: Path, lines: list[dict[str, float]]) -> None:
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "logs/train.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_a_preference_loss_and_all_that_is_held_out_are_drawn_in_their_units(preferred: Path) -> None:
    section = training([read_run(preferred)])
    assert section is not None
    drawn = {block.title: block for block in section.blocks if isinstance(block, Chart)}
    lines = {title: list(chart.table.header[1:]) for title, chart in drawn.items() if title.endswith("over steps")}
    units = {title: drawn[title].spec["encoding"]["y"]["title"] for title in lines}
    better = "Held-out pairs: the better answer has the higher reward over steps"
    assert lines == {
        "Loss over steps": ["adapted ko", "adapted en", "tuned outputs"],
        "Loss of pairs over steps": ["preferred"],
        "Held-out examples: loss over steps": ["tuned outputs"],
        "Held-out pairs: loss over steps": ["preferred"],
        better: ["preferred"],
    }
    assert [units["Loss over steps"], units["Loss of pairs over steps"]] == ["nats a token", "a pair"]
    assert units[better] == "share of pairs"


def test_where_a_preference_training_ended_is_its_loss(preferred: Path) -> None:
    section = training([read_run(preferred)])
    assert section is not None
    ends = section.blocks[0]
    assert isinstance(ends, Table)
    (row,) = [dict(zip(ends.header, row, strict=True)) for row in ends.rows if row[0] == "preferred"]
    found = row["last loss"]
    assert isinstance(found, Figure)
    assert found.value == 0.625
    assert not any("rewards" in name or "accuracy" in name for name in ends.header)
