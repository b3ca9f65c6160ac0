"""The loss and the gradient are those of the global batch, documents do not see each other, bad steps stop the run."""

import math
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from bllossom.artifacts import MANIFEST
from bllossom.errors import BllossomError, ConfigError
from bllossom.ranks import ranks
from bllossom.tokens.mixture import Block, Mixture
from bllossom.tokens.shards import INDEX, edge_checksum, read_index
from bllossom.training.block_rows import as_row, block_number
from bllossom.training.engines.loss import GroupLoss, loss_inputs
from bllossom.training.engines.rows import IGNORED, Row, collate
from bllossom.training.models import LlamaShape, init_model
from bllossom.training.pretrain import PretrainConfig, open_mixture, pretrain
from bllossom.training.runs import checkpoints
from tests.fixtures.command_runs import assert_same_run, log_lines, partial_of, start, wait_for_step
from tests.fixtures.training import write_tokens
from tests.fixtures.two_ranks import global_gradient

Settings = Callable[..., dict[str, Any]]
SHAPE = LlamaShape(hidden_size=32, intermediate_size=64, layers=2, heads=2, window=64)


@pytest.fixture(scope="module")
def reference(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradient of a global batch read at once, with all its logits."""
    config = PretrainConfig(**settings(Path("unused"), micro_batch=8, loss_chunk=None))
    return global_gradient(config, ranks.alone("cpu"), tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batch": 1},
        {"micro_batch": 2, "loss_chunk": 5},
        {"micro_batch": 4, "loss_chunk": None},
        {"micro_batch": 8, "loss_chunk": 64},
        {"micro_batch": 4, "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_loss_and_gradient_do_not_depend_on_how_the_batch_is_cut(
    changes: dict[str, Any], settings: Settings, reference: tuple[float, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    config = PretrainConfig(**settings(tmp_path / "x", **changes))
    loss, gradient = global_gradient(config, ranks.alone("cpu"), tmp_path)
    assert loss == pytest.approx(reference[0], rel=1e-6)
    whole = torch.stack([part.norm() for part in reference[1].values()]).norm()
    difference = torch.stack([(gradient[name] - part).norm() for name, part in reference[1].items()]).norm()
    assert difference / whole < 5e-6


def test_gradient_is_the_mean_over_supervised_tokens_of_the_plain_loss() -> None:
    """Against transformers' own loss on rows without padding or masks."""
    model = init_model(SHAPE, 300, seed=1)
    ids = np.random.default_rng(0).integers(0, 300, (4, 20))
    rows = [Row(row, row, np.arange(20), "ko") for row in ids]
    loss = GroupLoss(model, loss_chunk=7, autocast=False)
    nats = loss(*loss_inputs(collate(rows), ["en", "ko"], torch.device("cpu")))
    assert nats[0] == 0.0
    batch = torch.from_numpy(ids)
    expected = model(input_ids=batch, labels=batch).loss
    assert float(nats[1].detach()) / (4 * 19) == pytest.approx(float(expected.detach()), rel=1e-6)


@given(
    first=st.lists(st.integers(0, 299), min_size=1, max_size=20),
    other=st.lists(st.integers(0, 299), min_size=1, max_size=20),
    second=st.lists(st.integers(0, 299), min_size=2, max_size=20),
)
@hypothesis_settings(max_examples=15, deadline=None)
def test_no_document_sees_another(first: list[int], other: list[int], second: list[int]) -> None:
    """Whatever stands before a document in its row, and whatever row is beside it, its loss is that of it alone."""
    model = init_model(SHAPE, 300, seed=0)
    loss = GroupLoss(model, loss_chunk=8, autocast=False)

    def nats_of_second(before: list[int], beside: list[int]) -> float:
        ids = np.array(before + second)
        positions = np.concatenate([np.arange(len(before)), np.arange(len(second))])
        labels = np.where(np.arange(len(ids)) > len(before), ids, IGNORED)
        rows = [Row(ids, labels, positions, "ko"), Row(*([np.array(beside)] * 2), np.arange(len(beside)), "en")]
        return float(loss(*loss_inputs(collate(rows), ["ko"], torch.device("cpu")))[0])

    with torch.no_grad():
        alone = nats_of_second([], first)
        for before in (first, other):
            assert nats_of_second(before, other) == pytest.approx(alone, rel=1e-5)


def test_first_token_of_a_document_is_not_predicted() -> None:
    block = Block(np.array([5, 6, 7, 8]), np.array([0, 1, 0, 1]), "ko", "news", np.array([3, 4]))
    assert as_row(block, document_mask=True).labels.tolist() == [IGNORED, 6, IGNORED, 8]
    assert as_row(block, document_mask=False).labels.tolist() == [5, 6, 7, 8]
    assert as_row(block, document_mask=False).positions.tolist() == [0, 1, 2, 3]


@given(st.sets(st.integers(0, 60), max_size=12))
def test_skipped_blocks_are_left_out_and_no_other(skipped: set[int]) -> None:
    read = [block_number(index, sorted(skipped)) for index in range(40)]
    assert read == [number for number in range(100) if number not in skipped][:40]


def garble(monkeypatch: pytest.MonkeyPatch, numbers: range) -> None:
    """Make the text of some blocks noise."""
    block = Mixture.block

    def garbled(self: Mixture, index: int) -> Block:
        found = block(self, index)
        noise = np.random.default_rng(index).integers(0, 300, len(found.ids))
        return replace(found, ids=noise) if index in numbers else found

    monkeypatch.setattr(Mixture, "block", garbled)


def test_spike_stops_the_run_and_skipping_its_blocks_lets_it_go_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    garble(monkeypatch, range(8 * 34, 8 * 35))
    output = tmp_path / "model"
    changes = {"steps": 37, "checkpoint_every": 10, "spike_factor": 1.1, "learning_rate": {"peak": 0.02}}
    changes |= {"mixture": {"weights": {"ko": 7, "en": 3}, "max_epochs": 2}}
    with pytest.raises(BllossomError) as stopped:
        pretrain(PretrainConfig(**settings(output, **changes)))
    said = str(stopped.value)
    assert "step 35: the loss is" in said
    assert "block 272 (" in said
    assert "documents" in said
    assert "skip_blocks" in said
    assert checkpoints.newest(partial_of(output) / "checkpoints").name == "step-00000034"

    skipping = changes | {"skip_blocks": list(range(8 * 34, 8 * 35))}
    pretrain(PretrainConfig(**settings(output, **skipping)))
    never_met = tmp_path / "never-met"
    pretrain(PretrainConfig(**settings(never_met, **skipping)))
    assert [line["loss"] for line in log_lines(output)] == [line["loss"] for line in log_lines(never_met)]
    with pytest.raises(BllossomError, match="another result \\(skip_blocks"):
        pretrain(PretrainConfig(**settings(output, **changes, skip_blocks=[3])))


RARE = 299  # an id that no text of the tokens folder has


def poison(tokens: Path, model: Path, block: Block) -> int:
    """Put a rare token into the middle of `block` in its shard, and make that token's vector NaN in the model.

    Gives the number of its document in the source.
    """
    [shard] = next(source.shards for source in read_index(tokens).sources if source.language == block.language)
    path = tokens / f"{shard.file}.tokens"
    ids = np.fromfile(path, "<u2")
    [start] = [at for at in range(len(ids)) if np.array_equal(ids[at : at + len(block.ids)], block.ids)]
    place = start + len(block.ids) // 2
    ids[place] = RARE
    ids.tofile(path)
    index = tokens / INDEX
    index.write_text(index.read_text().replace(shard.checksum, edge_checksum(path)))
    weights = load_file(model / "model.safetensors")
    weights["model.embed_tokens.weight"][RARE] = math.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    (model / MANIFEST).unlink()  # it tells the fingerprint of the model that was
    ends = np.load(tokens / f"{shard.file}.documents.npy")[:, 0]
    return int(np.searchsorted(ends, place, side="right"))


def test_nan_stops_the_run_with_its_blocks_and_skipping_them_lets_it_go_on(settings: Settings, tmp_path: Path) -> None:
    tokens, model, output = write_tokens(tmp_path / "tokens"), tmp_path / "base", tmp_path / "model"
    pretrain(PretrainConfig(**settings(model, steps=1)))
    changes = {"tokens": str(tokens), "model": str(model), "checkpoint_every": 10}
    bad = 8 * 6 + 5
    block = open_mixture(PretrainConfig(**settings(output, **changes))).block(bad)
    document = poison(tokens, model, block)
    with pytest.raises(BllossomError) as stopped:
        pretrain(PretrainConfig(**settings(output, **changes)))
    said = str(stopped.value)
    assert said.startswith("step 7: the loss is nan; the weights before it are saved")
    told = {int(number): line for line, number in re.findall(r"^  (block (\d+) .*)$", said, re.MULTILINE)}
    assert list(told) == list(range(8 * 6, 8 * 7))
    documents = re.fullmatch(
        rf"block {bad} \({block.language}/news, documents ([\d, ]+)\): bllossom show .*", told[bad]
    )
    assert documents
    assert str(document) in documents[1].split(", ")
    assert checkpoints.newest(partial_of(output) / "checkpoints").name == "step-00000006"

    override = re.search("'(skip_blocks=.*)'", said)
    assert override
    skipping = changes | yaml.safe_load(override[1].replace("=", ": "))
    assert skipping["skip_blocks"] == list(told)
    pretrain(PretrainConfig(**settings(output, **skipping)))
    never_met = tmp_path / "never-met"
    pretrain(PretrainConfig(**settings(never_met, **skipping)))
    assert [line["loss"] for line in log_lines(output)] == [line["loss"] for line in log_lines(never_met)]
    assert (output / "model.safetensors").read_bytes() == (never_met / "model.safetensors").read_bytes()


def test_a_tracker_gets_what_the_log_gets(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pretrain(PretrainConfig(**settings(tmp_path / "untracked", steps=1)))  # torch's and DeepSpeed's own marks stay
    before = dict(os.environ)
    pretrain(PretrainConfig(**settings(tmp_path / "model", steps=3, track=["tensorboard"])))
    assert os.environ == before
    found = EventAccumulator(str(tmp_path / "model/logs/model")).Reload()
    for key in ("loss", "loss/ko", "loss/en", "gradient_norm", "learning_rate", "tokens_per_second"):
        told = [line[key] for line in log_lines(tmp_path / "model")]
        assert [event.value for event in found.Scalars(key)] == pytest.approx(told)


def test_killed_run_goes_on_in_tensorboard_with_each_step_once(
    settings: Settings, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    output = tmp_path / "model"
    command = ("-m", "bllossom.cli", "pretrain", "--config", write_yaml(settings(output, track=["tensorboard"])))
    process = start(*command)
    wait_for_step(output, 13, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    last = checkpoints.newest(partial_of(output) / "checkpoints")
    assert last is not None
    assert checkpoints.read_state(last).step < len(log_lines(partial_of(output)))
    folders = [path.name for path in (partial_of(output) / "logs/model").iterdir() if path.is_dir()]

    process = start(*command)  # a new process: event files are ordered by the second they were begun in
    assert "going on after step" in process.communicate()[1]
    found = EventAccumulator(str(output / "logs/model")).Reload()
    told = [(line["step"], pytest.approx(line["loss"])) for line in log_lines(output)]
    assert [(event.step, event.value) for event in found.Scalars("loss")] == told
    assert folders == [path.name for path in (output / "logs/model").iterdir() if path.is_dir()]


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_made(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pip install mlflow"):
        pretrain(PretrainConfig(**settings(tmp_path / "model", track=["mlflow"])))
    assert not list(tmp_path.glob("model*"))


def test_blocks_that_were_read_already_cannot_be_skipped_later(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    garble(monkeypatch, range(8 * 34, 8 * 35))
    changes = {"steps": 37, "spike_factor": 1.1, "learning_rate": {"peak": 0.02}}
    changes |= {"mixture": {"weights": {"ko": 7, "en": 3}, "max_epochs": 2}}
    with pytest.raises(BllossomError, match="step 35"):
        pretrain(PretrainConfig(**settings(tmp_path / "model", **changes)))
    with pytest.raises(BllossomError, match="skipped no block there, 3 here"):
        pretrain(PretrainConfig(**settings(tmp_path / "model", **changes, skip_blocks=[3])))


def test_loss_that_is_not_a_number_stops_before_it_spoils_the_weights(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = GroupLoss.forward
    calls = []

    def broken(self: GroupLoss, *inputs: Any) -> torch.Tensor:
        calls.append(1)
        return forward(self, *inputs) * (math.nan if len(calls) == 27 else 1.0)

    monkeypatch.setattr(GroupLoss, "forward", broken)
    output = tmp_path / "model"
    with pytest.raises(BllossomError, match="step 7: the loss is nan; the weights before it are saved"):
        pretrain(PretrainConfig(**settings(output)))
    monkeypatch.undo()
    pretrain(PretrainConfig(**settings(output)))
    whole = tmp_path / "whole"
    pretrain(PretrainConfig(**settings(whole)))
    assert_same_run(whole, output)


def test_bf16_trains_and_is_saved_as_such(settings: Settings, tmp_path: Path) -> None:
    output = tmp_path / "model"
    pretrain(PretrainConfig(**settings(output, precision="bf16", save_dtype="bf16")))
    model = AutoModelForCausalLM.from_pretrained(output)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    losses = [line["loss"] for line in log_lines(output)]
    assert losses[-1] < losses[0] - 0.5


def test_log_says_everything(settings: Settings, tmp_path: Path) -> None:
    pretrain(PretrainConfig(**settings(tmp_path / "model", evaluate_every=10)))
    lines = log_lines(tmp_path / "model")
    for line in lines:
        shown = {"step", "loss", "loss/en", "loss/ko", "gradient_norm", "learning_rate", "tokens_per_second"}
        assert shown | {"matmul_share", "loading_share", "peak_memory_bytes"} <= line.keys()
        # Both languages' losses weigh as many tokens as they have: their mean lies between them.
        assert min(line["loss/en"], line["loss/ko"]) <= line["loss"] <= max(line["loss/en"], line["loss/ko"])
        assert 0 < line["matmul_share"] < 1
    assert [line["tokens"] for line in lines] == sorted({line["tokens"] for line in lines})
    assert [line["flops"] for line in lines] == pytest.approx([line["step"] * lines[0]["flops"] for line in lines])
    assert [line["step"] for line in lines if "validation_loss_bits/en" in line] == [10, 20]
    # 300 pieces drawn blindly at 1/3 token a byte would need log2(300) / 3 = 2.74 bits a byte.
    assert lines[-1]["validation_loss_bits/ko"] < lines[9]["validation_loss_bits/ko"] < math.log2(300) / 3
