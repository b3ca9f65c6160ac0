"""Plans of sft and dpo: what their examples compute, counted by hand where they are here, and what is said else."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoConfig, MistralConfig
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.errors import ConfigError
from bllossom.training.dpo import DpoConfig, dpo, load_pairs
from bllossom.training.plan import make_plan
from bllossom.training.plan_report import describe
from bllossom.training.pretrain import PretrainConfig
from bllossom.training.sft import SftConfig, load_examples, sft
from bllossom.training.workloads import UNKNOWN, dpo_workload, sft_workload
from tests.fixtures.tiny_chat import write_tiny_model

EXAMPLES = [{"instruction": f"Count to {n}.", "output": " ".join(map(str, range(n + 1)))} for n in range(1, 21)]
PAIRS = [{"prompt": f"Count to {n}.", "chosen": "1 2 3", "rejected": " ".join("9" * n)} for n in range(1, 13)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("plan") / "model", hidden_size=64)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "examples.json").write_text(json.dumps(EXAMPLES))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return tmp_path


def tuned(data: Path, model: Path | str, **changes: Any) -> SftConfig:
    values = {"output": data / "out", "model": str(model), "data": [data / "examples.json"], "template": "plain"}
    values |= {"examples_per_step": 8, "epochs": 3, "max_tokens": 64, "micro_batch": 2, "precision": "fp32"}
    return SftConfig.model_validate(values | changes)


def preferred(data: Path, model: Path | str, **changes: Any) -> DpoConfig:
    values = {"output": data / "out", "model": str(model), "data": [data / "pairs.jsonl"], "template": "plain"}
    values |= {"pairs_per_step": 4, "epochs": 2, "micro_batch": 2, "precision": "fp32"}
    return DpoConfig.model_validate(values | changes)


def test_packed_examples_are_counted(data: Path, model: Path) -> None:
    config = tuned(data, model)
    work = sft_workload(config, AutoConfig.from_pretrained(model))
    items = load_examples(config)[1].items
    mean = sum(len(example.ids) for example in items) / len(items)
    assert work.steps == math.ceil(20 * 3 / 8) == 8
    # Steps are of eight examples; those of one pass are the whole of it and four of the next.
    assert work.tokens == pytest.approx(8 * 8 * mean, rel=0.05)
    assert (work.row_tokens, work.even, work.masked) == (64, False, False)
    assert 1 < work.rows_per_step < 8
    assert 0 < work.scored < 1
    assert mean <= work.attended <= 64
    plan = make_plan(config, data, gpus=1, gpu="a100-40g")
    assert plan.recommended is not None
    assert plan.recommended.micro_batch == work.rows_per_step  # all fit at once
    assert any("8 examples a step, in " in line and "rows of at most 64 tokens" in line for line in describe(plan))


def test_unpacked_rows_are_padded_and_shared_evenly(data: Path, model: Path) -> None:
    shape = AutoConfig.from_pretrained(model)
    packed, padded = sft_workload(tuned(data, model), shape), sft_workload(tuned(data, model, packing=False), shape)
    assert padded.tokens > packed.tokens
    assert (padded.rows_per_step, padded.even) == (8, True)
    assert padded.row_tokens <= 64
    with pytest.raises(ConfigError, match=r"8 examples cannot be shared among 3 GPUs; .* examples_per_step=9"):
        make_plan(tuned(data, model, packing=False), data, gpus=3, gpu="a100-40g")
    make_plan(tuned(data, model), data, gpus=3, gpu="a100-40g")  # packed rows need not be even
    leaks = sft_workload(tuned(data, model), AutoConfig.for_model("bloom"))
    assert leaks.even


def test_rows_of_more_tokens_take_more_memory_and_hours_scale_with_epochs(data: Path, model: Path) -> None:
    def plan(**changes: Any) -> Any:
        return make_plan(tuned(data, model, **changes), data, gpus=1, gpu="a100-40g")

    short, long, twice = plan(), plan(max_tokens=256), plan(epochs=6)

    def activations(made: Any) -> float:
        choice = made.choices[0]
        return choice.memory.activations / choice.micro_batch

    assert activations(long) == pytest.approx(4 * activations(short), rel=0.01)
    assert twice.hours == pytest.approx(2 * short.hours, rel=0.1)
    # 6 a parameter and token but for the head, whose logits are made where there is loss only.
    work = sft_workload(tuned(data, model), AutoConfig.from_pretrained(model))
    size = short.size
    body = 6 * (size.parameters - 2 * size.embedding) + 12 * size.layers * size.attention_width * work.attended
    assert short.flops_per_token == pytest.approx(body + 6 * size.embedding * work.scored)


def test_pairs_are_counted_with_the_references_pass(data: Path, model: Path) -> None:
    config = preferred(data, model)
    shape = AutoConfig.from_pretrained(model)
    work = dpo_workload(config, shape)
    pairs = load_pairs(config)[1]
    tokens = [len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs]
    assert work.steps == 6
    assert work.tokens == pytest.approx(2 * sum(tokens) + sum(tokens) / 3, abs=1)
    assert (work.row_tokens, work.masked, work.rows_per_step) == (max(tokens), True, 4)
    assert "4 pairs a step, of " in work.arithmetic
    windowed = MistralConfig(**shape.to_dict() | {"sliding_window": 64})
    assert dpo_workload(config, windowed).tokens > work.tokens  # each answer with its prompt
    with pytest.raises(ConfigError, match=r"4 pairs cannot be shared among 3 GPUs; .* pairs_per_step=3"):
        make_plan(config, data, gpus=3, gpu="a100-40g")
    assert describe(make_plan(config, data, gpus=2, gpu="a100-40g"))


def test_what_is_not_here_is_planned_in_full_rows_and_said(data: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    for config in (tuned(data, "runs/later"), preferred(data, "runs/later", max_tokens=64)):
        plan = make_plan(config, tmp_path, gpus=1, gpu="a100-40g")
        assert plan.recommended is not None
        assert plan.steps == plan.hours == 0
        told_not_known(describe(plan))
    with pytest.raises(ConfigError, match="max_tokens: 512 is more than the model's window; at most 256"):
        make_plan(tuned(data, "runs/later", max_tokens=512), tmp_path, gpus=1, gpu="a100-40g")


def told_not_known(lines: list[str]) -> None:
    [run] = [line for line in lines if line.startswith("run")]
    [time] = [line for line in lines if line.startswith("time")]
    assert run.endswith(UNKNOWN)
    assert " 0 " not in run
    assert time.startswith("time       not known, on 1 × a100-40g: ")


@pytest.mark.parametrize("amount", [{"epochs": 2}, {"bytes_total": 1_000_000}])
def test_of_tokens_that_are_not_here_the_steps_are_not_known(amount: dict[str, int], model: Path) -> None:
    values = {"output": "out", "model": str(model), "tokens": "later", "mixture": {"weights": {"ko": 1}}}
    sizes = {"block_size": 64, "global_batch": 256, "micro_batch": 1, "learning_rate": {"peak": 1e-4}}
    config = PretrainConfig.model_validate(values | sizes | amount)
    told_not_known(describe(make_plan(config, model, gpus=1, gpu="a100-40g")))
    known = make_plan(config.model_copy(update={"steps": 3, **dict.fromkeys(amount)}), model, gpus=1, gpu="a100-40g")
    assert any(line.startswith("run        768 tokens = 3 steps; ") for line in describe(known))


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_with_lora_the_adapters_alone_train(stage: str, data: Path, model: Path) -> None:
    """As in the run itself, whose adapter's folder holds what was trained."""
    pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")
    changes = {"lora": {"rank": 4, "alpha": 8}, "epochs": 1, "gpus": 0, "precision": "fp32"}
    config = tuned(data, model, **changes, samples=0) if stage == "sft" else preferred(data, model, **changes)
    sft(config) if isinstance(config, SftConfig) else dpo(config)
    trained = sum(weight.numel() for weight in load_file(config.output / "adapter_model.safetensors").values())
    plan, shape = make_plan(config, data, gpus=1, gpu="a100-40g"), AutoConfig.from_pretrained(model)
    size, memory = plan.size, plan.choices[0].memory
    assert plan.trained == size.adapters == trained
    assert (memory.gradients, memory.optimizer) == (4 * trained, 8 * trained)
    assert (plan.disk.checkpoint, plan.disk.published) == (12 * trained, 4 * trained)
    # Neither the body nor the head have a gradient of their own: 4 a parameter, not 6.
    work = sft_workload(config, shape) if isinstance(config, SftConfig) else dpo_workload(config, shape)
    frozen = size.parameters - 2 * size.embedding + size.embedding * work.scored
    attention = 12 * size.layers * size.attention_width * work.attended
    assert plan.flops_per_token == pytest.approx(4 * frozen + 6 * trained + attention)
    whole = make_plan(config.model_copy(update={"lora": None}), data, gpus=1, gpu="a100-40g")
    assert whole.choices[0].memory.loss - memory.loss == pytest.approx(4 * size.embedding)


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_the_command_tells_whose_file_it_is(stage: str, data: Path, model: Path) -> None:
    config = tuned(data, model) if stage == "sft" else preferred(data, model)
    (data / "stage.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    found = CliRunner().invoke(make_app(), ["plan", "--config", str(data / "stage.yaml"), "--gpus", "1"])
    assert found.exit_code == 0, found.output
    assert f"read as a config of {stage}" in found.output
    assert "recommended: deepspeed=" in found.stdout
    wrong = CliRunner().invoke(make_app(), ["plan", "--config", str(data / "stage.yaml"), "--stage", "eval"])
    assert "choose one of pretrain, sft, dpo" in wrong.output
