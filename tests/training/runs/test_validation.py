"""Held-out text is scored after the work is saved, as much of it as is asked for, and a stop is heard meanwhile."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from bllossom.artifacts import read_manifest
from bllossom.errors import Stopped
from bllossom.tokens.blocks import heldout_blocks
from bllossom.tokens.shards import open_heldout, read_index
from bllossom.training.engines.objective import CausalObjective
from bllossom.training.engines.rows import Row
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.runs import checkpoints, validation
from tests.fixtures.command_runs import assert_same_run, log_lines, partial_of

Settings = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def whole(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps that nothing happened to, scored after every 8 of them."""
    output = tmp_path_factory.mktemp("whole") / "model"
    pretrain(PretrainConfig(**settings(output, evaluate_every=8)))
    return output


def interrupt(patch: pytest.MonkeyPatch, call: int, how: Callable[[], object]) -> None:
    """Do something while the micro-batch `call` (from 1) of held-out text is made, counted over the run."""
    calls = []

    class Interrupted(CausalObjective):
        def inputs(self, rows: Sequence[Row], device: torch.device) -> tuple[Any, ...]:
            calls.append(1)
            if len(calls) == call:
                how()
            return super().inputs(rows, device)

    patch.setattr(validation, "CausalObjective", Interrupted)


def scores(folder: Path) -> list[tuple[int, float, float]]:
    lines = [line for line in log_lines(folder) if "validation_loss_bits/ko" in line]
    return [(line["step"], line["validation_loss_bits/ko"], line["validation_loss_bits/en"]) for line in lines]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_stop_is_heard_while_text_is_scored_and_the_run_goes_on_to_the_same(
    after: int, settings: Settings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 8, 16 and 20 steps."""
    output = tmp_path / "model"
    per_scoring = sum(-(-len(heldout_blocks(Path(settings(output)["tokens"]), name, 32)) // 2) for name in ("en", "ko"))
    interrupt(monkeypatch, per_scoring * after + 3, lambda: signal.raise_signal(signal.SIGTERM))
    step = (8, 16, 20)[after]
    with pytest.raises(Stopped, match=f"stopped after step {step} of 20, saved"):
        pretrain(PretrainConfig(**settings(output, evaluate_every=8)))
    newest = checkpoints.newest(partial_of(output) / "checkpoints")
    assert newest is not None
    assert (newest.name, checkpoints.damage(newest)) == (f"step-{step:08d}", None)
    assert len(log_lines(partial_of(output))) == step - 1
    monkeypatch.undo()
    pretrain(PretrainConfig(**settings(output, evaluate_every=8)))
    assert_same_run(whole, output)
    assert scores(output) == scores(whole)
    figures = [manifest.figures for folder in (whole, output) if (manifest := read_manifest(folder))]
    assert figures[0]["validation_loss_bits"] == figures[1]["validation_loss_bits"]


def test_the_last_step_is_saved_before_anything_is_scored(
    settings: Settings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"

    def fail() -> None:
        raise MemoryError("as where a kill comes here")

    interrupt(monkeypatch, 1, fail)
    with pytest.raises(MemoryError):
        pretrain(PretrainConfig(**settings(output)))
    newest = checkpoints.newest(partial_of(output) / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000020"
    monkeypatch.undo()
    monkeypatch.setattr("bllossom.training.runs.trainer.accumulate", lambda *_: pytest.fail("a step was made again"))
    pretrain(PretrainConfig(**settings(output)))
    assert_same_run(whole, output)
    assert [step for step, *_ in scores(output)] == [20]


def test_a_score_goes_into_the_checkpoint_that_was_saved_before_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decides which checkpoint is kept as the best."""
    output = tmp_path / "model"
    stopping = iter(range(100))
    original = validation.validation_loss_bits

    def stop_at_the_third(*arguments: Any, **settings: Any) -> dict[str, float] | None:
        return None if next(stopping) == 2 else original(*arguments, **settings)

    monkeypatch.setattr("bllossom.training.pretrain.validation_loss_bits", stop_at_the_third)
    with pytest.raises(Stopped):
        pretrain(PretrainConfig(**settings(output, evaluate_every=5, keep=4)))
    found = checkpoints.complete_ones(partial_of(output) / "checkpoints")
    states = {state.step: state for state in map(checkpoints.read_state, found)}
    assert {step: bool(state.heldout) for step, state in states.items()} == {5: True, 10: True, 15: False}
    assert states[10].heldout == {
        name: log_lines(partial_of(output))[9][f"validation_loss_bits/{name}"] for name in ("en", "ko")
    }
    assert all(checkpoints.damage(path) is None for path in found)


def test_false_never_scores(settings: Settings, tmp_path: Path) -> None:
    manifest = pretrain(PretrainConfig(**settings(tmp_path / "model", steps=2, evaluate_every=False)))
    assert "validation_loss_bits" not in manifest.figures
    assert scores(tmp_path / "model") == []
    for wrong in (True, 0, -1):
        with pytest.raises(ValidationError, match="evaluate_every"):
            PretrainConfig(**settings(tmp_path / "model", evaluate_every=wrong))


def test_no_more_is_scored_than_is_asked_for_and_it_is_said(
    settings: Settings, tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = read_index(tokens)
    every = open_heldout(tokens, index, "ko")
    some = heldout_blocks(tokens, "ko", 32, most_tokens=every.tokens // 2)
    _, ends = every.document_ends(0, every.tokens)
    assert some.tokens == max(end for end in ends.tolist() if end <= every.tokens // 2)
    assert some.bytes == 3 * some.tokens  # as the documents of the tests are made
    assert heldout_blocks(tokens, "ko", 32, most_tokens=1).documents == 1
    assert heldout_blocks(tokens, "ko", 32, most_tokens=10**9).tokens == every.tokens
    pretrain(PretrainConfig(**settings(tmp_path / "model", steps=2, evaluate_tokens=every.tokens // 2)))
    said = capsys.readouterr().err
    assert f"ko {some.tokens - some.documents:,}" in said.split("held-out tokens scored at the end: ")[1]
