"""Log-probabilities under the reference, which several runs beside each other share."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bllossom.training.tuning import references


def test_two_runs_write_the_same_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, save = tmp_path / "00000.npy", np.save

    def save_beside_another(handle: Any, values: Any) -> None:
        save(handle, values)
        monkeypatch.setattr(np, "save", save)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        references._write(file, np.ones((64, 2)))
        monkeypatch.undo()

    monkeypatch.setattr(np, "save", save_beside_another)
    references._write(file, np.ones((64, 2)))
    assert (np.load(file) == 1).all()
    assert list(tmp_path.iterdir()) == [file]
