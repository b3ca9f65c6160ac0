"""A run with every kind of step, unpacked from the folders of before, with logs as training writes them."""

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def run(published: Path, tmp_path: Path) -> Path:
    """The run as a folder of its own, its pretraining with a log of 500 steps."""
    folder = tmp_path / "run"
    shutil.copytree(published, folder)
    lines = [
        {
            "step": step,
            "loss": 8.0 / step,
            "loss/ko": 9.0 / step,
            "loss/en": 7.0 / step,
            "learning_rate": 1e-3,
            "gradient_norm": 1.0 + 1.0 / step,
            "tokens_per_second": 1000.0 + step,
            "peak_memory_bytes": 10**9,
            "tokens": 512 * step,
        }
        for step in range(1, 501)
    ]
    (folder / "adapted/logs").mkdir(exist_ok=True)
    (folder / "adapted/logs/train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
