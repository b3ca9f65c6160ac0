"""sft on the machinery that pretrain uses: the same answers however the batch is cut, and an exact way on."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bllossom.artifacts import verify
from bllossom.errors import ConfigError, Stopped
from bllossom.model.folder import save_model
from bllossom.model.merge_adapter import MergeAdapterConfig, merge_adapter
from bllossom.training import sft as sft_module
from bllossom.training.engines.rows import Row
from bllossom.training.models import LlamaShape, init_model
from bllossom.training.sft import ExampleRows, SftConfig, sft
from tests.fixtures.command_runs import assert_same_run, log_lines, start, wait_for_step

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with Llama 2's tokenizer."""
    folder = tmp_path_factory.mktemp("sft") / "model"
    shape = LlamaShape(hidden_size=16, intermediate_size=32, layers=1, heads=2, window=256)
    tiny = init_model(shape, 32000, seed=0)
    save_model(tiny, tiny.named_parameters(), folder, "fp32", writes=True)
    shutil.copyfile(shared("tokenizers/llama2/tokenizer.model"), folder / "tokenizer.model")
    return folder


@pytest.fixture
def make(model: Path, tmp_path: Path) -> Callable[..., SftConfig]:
    """`make(name, key=value, …)`: a config over ten short examples of uneven length."""
    data = tmp_path / "examples.json"
    examples = [{"instruction": f"Count to {n}.", "output": " ".join(map(str, range(n + 1)))} for n in range(1, 11)]
    data.write_text(json.dumps(examples))

    def config(name: str, **changes: object) -> SftConfig:
        values = {"output": tmp_path / name, "model": str(model), "data": [data], "examples_per_step": 4, "epochs": 2}
        values |= {"learning_rate": {"peak": 0.01}, "micro_batch": 2, "checkpoint_every": 2, "gpus": 0}
        return SftConfig.model_validate(values | changes)

    return config


def test_stopped_run_goes_on_exactly(
    make: Callable[..., SftConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = sft(make("whole"))
    assert manifest.figures["steps"] == 5
    assert AutoTokenizer.from_pretrained(tmp_path / "whole").chat_template

    class StoppingRows(ExampleRows):
        def row(self, index: int) -> Row:
            if index == 8:
                signal.raise_signal(signal.SIGTERM)
            return super().row(index)

    monkeypatch.setattr(sft_module, "ExampleRows", StoppingRows)
    with pytest.raises(Stopped, match="stopped after step 3 of 5"):
        sft(make("again"))
    monkeypatch.undo()
    sft(make("again"))
    losses = [[line["loss"] for line in log_lines(tmp_path / name)] for name in ("whole", "again")]
    assert losses[0] == losses[1]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "again")]
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])


def test_loss_weighs_every_supervised_token_alike(make: Callable[..., SftConfig], tmp_path: Path) -> None:
    """Rows are of uneven length, so a mean of micro-batch means would differ."""
    sft(make("twos", micro_batch=2))
    sft(make("fours", micro_batch=4, loss_chunk=16))
    twos, fours = ([line["loss"] for line in log_lines(tmp_path / name)] for name in ("twos", "fours"))
    assert twos == pytest.approx(fours, rel=1e-5)


def test_batch_that_micro_batches_do_not_divide(make: Callable[..., SftConfig]) -> None:
    with pytest.raises(ConfigError, match="4 examples a step are not a multiple of 1 ranks × micro_batch 3"):
        sft(make("model", micro_batch=3))


def launch(config: SftConfig) -> tuple[str, ...]:
    """The command that runs `config`, for `start`."""
    path = config.output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return ("-m", "bllossom.cli", "sft", "--config", str(path))


def run_two_ranks(config: SftConfig) -> None:
    process = start(*launch(config))
    said = process.communicate()[1]
    assert process.returncode == 0, said


def relative_distance(one: Path, other: Path, before: Path) -> float:
    """How far two runs' weights are apart, as a share of how far they moved: L2 over all weights, in fp64."""
    weights = [load_file(folder / "model.safetensors") for folder in (one, other, before)]
    moves = [torch.cat([(weights[i][n] - weights[2][n]).double().flatten() for n in weights[2]]) for i in (0, 1)]
    return float((moves[0] - moves[1]).norm() / moves[0].norm())


@pytest.mark.slow
def test_two_ranks_have_the_gradient_of_one_process(make: Callable[..., SftConfig], model: Path) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'bllossom[deepspeed]')")
    # With so large an epsilon AdamW's first step is peak / epsilon = 10 times the gradient: the weights show it.
    changes = {"examples_per_step": 10, "micro_batch": 5, "epochs": 1, "learning_rate": {"peak": 1e5}}
    changes |= {"optimizer": {"epsilon": 1e4, "weight_decay": 0.0, "gradient_clip": 1e4}}
    one, two = make("one", **changes), make("two", **changes, deepspeed="zero2", processes=2)
    sft(one)
    run_two_ranks(two)
    [step_of_one], [step_of_two] = log_lines(one.output), log_lines(two.output)
    assert step_of_two["loss"] == pytest.approx(step_of_one["loss"], rel=1e-6)
    # fp32 sums in another order, as between any two ways to cut a batch of pretrain.
    assert relative_distance(one.output, two.output, model) < 5e-6


@pytest.mark.slow
def test_two_ranks_train_as_one_process_and_go_on_exactly(make: Callable[..., SftConfig], model: Path) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'bllossom[deepspeed]')")
    ranks = {"epochs": 8, "deepspeed": "zero2", "processes": 2}
    one, two, killed = make("one", epochs=8), make("two", **ranks), make("killed", **ranks)
    sft(one)
    run_two_ranks(two)
    losses = [[line["loss"] for line in log_lines(config.output)] for config in (one, two)]
    assert len(losses[0]) == 20
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    # Gradients may differ by 5e-6 at each step; AdamW divides them by their size, so that the weights differ alike.
    assert relative_distance(one.output, two.output, model) < 1e-5

    process = start(*launch(killed))
    wait_for_step(killed.output, 9, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process = start(*launch(killed))
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "going on after step" in said
    assert_same_run(two.output, killed.output)


@pytest.mark.parametrize("engine", [None, "zero2", "zero3"])
def test_adapter_trains_and_merges_into_what_peft_loads(
    engine: str | None, make: Callable[..., SftConfig], model: Path, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")
    if engine is not None:
        pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (pip install 'bllossom[deepspeed]')")
    sft(make("adapter", epochs=8, lora={"rank": 4, "alpha": 8}, deepspeed=engine))
    lines = log_lines(tmp_path / "adapter")
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.1
    merge_adapter(MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged"))
    assert verify(tmp_path / "merged") == []
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template

    ids = torch.arange(1000, 1400).view(4, 100)
    base = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        before = base(input_ids=ids).logits
        through_peft = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")(input_ids=ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(input_ids=ids).logits
    assert (before - merged).abs().max() > 0.01
    # peft adds B (A x) to W x, the merged weight is added up first: fp32 rounds at other places.
    torch.testing.assert_close(merged, through_peft, rtol=1e-5, atol=1e-5)
