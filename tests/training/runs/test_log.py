"""The log of a run that goes on holds every step once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checkpoints import State
from tests.fixtures.command_runs import log_lines, partial_of

Settings = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("cut", ["", '{"step": 5, "lo'], ids=["whole", "cut"])
def test_a_step_that_was_logged_before_its_scores_were_kept_is_logged_once(
    cut: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PretrainConfig(**settings(tmp_path / "model", steps=6, evaluate_every=2, checkpoint_every=2))
    add_scores = checkpoints.add_scores

    def killed(folder: Path, state: State) -> None:
        if state.step == 4:
            raise KeyboardInterrupt
        add_scores(folder, state)

    monkeypatch.setattr(checkpoints, "add_scores", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config)
    monkeypatch.undo()
    with (partial_of(config.output) / "logs/train.jsonl").open("a") as log:
        log.write(cut)
    pretrain(config)
    lines = log_lines(config.output)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "validation_loss_bits/ko" in line] == [2, 4, 6]
