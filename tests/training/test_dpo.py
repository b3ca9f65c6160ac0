"""dpo on the loop of sft: it learns what is preferred, and goes on exactly."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bllossom.artifacts import verify
from bllossom.errors import BllossomError, ConfigError, Stopped
from bllossom.ranks.ranks import Ranks
from bllossom.training import dpo as dpo_module
from bllossom.training.dpo import DpoConfig, dpo, dry_run
from bllossom.training.engines.preference_loss import PairRow
from bllossom.training.tuning import references as references_module
from bllossom.training.tuning.pair_rows import PairSteps
from tests.fixtures.command_runs import assert_same_run, log_lines, start, wait_for_step
from tests.fixtures.tiny_chat import write_tiny_model

NO_DEEPSPEED = "DeepSpeed is not installed (pip install 'bllossom[deepspeed]')"
Make = Callable[..., DpoConfig]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("dpo") / "model", layers=2, hidden_size=32)


@pytest.fixture
def make(model: Path, tmp_path: Path) -> Make:
    """`make(name, key=value, …)`: a config over 40 pairs; an answer in ones is better than one in twos."""
    data = tmp_path / "pairs.jsonl"
    records = [
        {
            "prompt": f"Count from {n}.",
            "chosen": f"{n} one" + " one" * (n % 3),
            "rejected": f"{n} two" + " two" * (n % 2),
        }
        for n in range(40)
    ]
    data.write_text("".join(json.dumps(record) + "\n" for record in records))

    def config(name: str, **changes: object) -> DpoConfig:
        values = {"output": tmp_path / name, "model": str(model), "data": [data], "pairs_per_step": 8, "epochs": 2}
        values |= {"learning_rate": {"peak": 0.01}, "micro_batch": 4, "checkpoint_every": 2, "gpus": 0}
        values |= {"template": "plain", "beta": 0.1}
        return DpoConfig.model_validate(values | changes)

    return config


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in log_lines(folder)]


def above_chance(accuracy: float, pairs: int) -> bool:
    """Above the interval (95 %) of one half with so many pairs."""
    return accuracy > 0.5 + 1.96 * (0.25 / pairs) ** 0.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_accuracy_on_held_out_pairs_goes_above_chance(seed: int, make: Make, tmp_path: Path) -> None:
    manifest = dpo(make("tuned", holdout=0.25, seed=seed))
    lines = log_lines(tmp_path / "tuned")
    assert lines[0]["accuracy"] == 0.5  # the reference is the model itself
    assert lines[0]["rewards/margin"] == pytest.approx(0, abs=1e-4)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert manifest.figures["heldout_pairs"] == 10
    assert above_chance(manifest.figures["heldout"]["accuracy"], 10)
    assert manifest.figures["last_loss"] == {"loss": round(lines[-1]["loss"], 6)}
    assert manifest.figures["last_step"]["rewards/margin"] == round(lines[-1]["rewards/margin"], 6)
    assert verify(tmp_path / "tuned") == []
    assert AutoTokenizer.from_pretrained(tmp_path / "tuned").chat_template


@pytest.mark.parametrize("changes", [{"loss": "ipo"}, {"sft_weight": 0.5, "lora": {"rank": 4, "alpha": 8}}], ids=str)
def test_other_losses_and_adapters_learn_it_too(changes: dict[str, Any], make: Make) -> None:
    if "lora" in changes:
        pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")
    assert above_chance(dpo(make("tuned", **changes, holdout=0.25)).figures["heldout"]["accuracy"], 10)


def test_neither_micro_batches_nor_engines_move_the_loss(make: Make, tmp_path: Path) -> None:
    dpo(make("four"))
    dpo(make("two", micro_batch=2))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "four"), rel=1e-5)
    pytest.importorskip("deepspeed", reason=NO_DEEPSPEED)
    dpo(make("zero2", deepspeed="zero2"))
    assert losses(tmp_path / "zero2") == pytest.approx(losses(tmp_path / "four"), rel=1e-5)


def test_stopped_run_goes_on_exactly(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dpo(make("whole"))

    class StoppingSteps(PairSteps):
        def micro_batches(self, step: int, ranks: Ranks) -> list[list[PairRow]]:
            if step == 4:
                signal.raise_signal(signal.SIGTERM)
            return super().micro_batches(step, ranks)

    monkeypatch.setattr(dpo_module, "PairSteps", StoppingSteps)
    with pytest.raises(Stopped, match="stopped after step 5 of 10"):
        dpo(make("again"))
    monkeypatch.undo()
    dpo(make("again"))
    assert losses(tmp_path / "again") == losses(tmp_path / "whole")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "again")]
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])


def test_references_are_computed_once_and_a_killed_run_goes_on_with_them(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references_module, "PART_PAIRS", 10)
    computed: list[int] = []
    part = references_module._part

    def counted(*inputs: Any) -> Any:
        computed.append(len(inputs[1]))
        if len(computed) == 3:
            raise KeyboardInterrupt
        return part(*inputs)

    monkeypatch.setattr(references_module, "_part", counted)
    with pytest.raises(KeyboardInterrupt):
        dpo(make("one"))
    dpo(make("one"))
    dpo(make("other", beta=0.5))
    assert len(computed) == 3 + 2  # two parts were kept, and another beta asks for none
    [folder] = tmp_path.glob("references-*")
    found = np.concatenate([np.load(file) for file in sorted(folder.glob("*.npy"))])
    assert found.shape == (40, 2)
    dpo(make("another", template="lima"))  # other ids, other references
    assert len(list(tmp_path.glob("references-*"))) == 2


def test_another_reference_is_where_it_starts_from(make: Make, model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(model, tmp_path / "reference")
    plain = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        for weight in plain.parameters():
            weight.mul_(1.1)
    plain.save_pretrained(other)
    dpo(make("tuned", reference=str(other)))
    assert abs(log_lines(tmp_path / "tuned")[0]["rewards/margin"]) > 1e-5


def test_wrong_configs_are_refused(make: Make, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="8 pairs a step are not a multiple of 1 ranks × micro_batch 3"):
        dpo(make("model", micro_batch=3))
    with pytest.raises(ConfigError, match="max_tokens: 512 is more than the model's window; at most 256"):
        dpo(make("model", max_tokens=512))
    with pytest.raises(ValueError, match="loss: ipo is by length already"):
        make("model", loss="ipo", normalise_by_length=True)
    with pytest.raises(ValueError, match="head_tf32: is not for dpo"):
        make("model", head_tf32=True)
    other = shutil.copytree(model, tmp_path / "other")
    settings = json.loads((other / "tokenizer.json").read_text())
    settings["model"]["merges"].pop()
    (other / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(BllossomError, match="has another tokenizer than"):
        dpo(make("model", reference=str(other)))
    equal = tmp_path / "equal.jsonl"
    equal.write_text('{"prompt": "a", "chosen": "b", "rejected": "b"}\n')
    with pytest.raises(BllossomError, match=r"equal.jsonl:1: chosen and rejected are equal"):
        dpo(make("model", data=[equal]))
    with pytest.raises(BllossomError, match=r"pairs.jsonl:\d+: \d+ tokens, more than 8; raise max_tokens"):
        dpo(make("model", max_tokens=8, too_long="refuse"))
    with pytest.raises(BllossomError, match="no pair is left to train on: 40 too long"):
        dpo(make("model", max_tokens=8))
    assert dry_run(make("model"))[0].startswith("micro-batch 4 pairs × 1 rank × 2 accumulation = 8 pairs a step")


@pytest.mark.slow
def test_two_ranks_train_as_one_process_and_go_on_exactly(make: Make) -> None:
    pytest.importorskip("deepspeed", reason=NO_DEEPSPEED)
    one = make("one", epochs=4)
    two, killed = (make(name, epochs=4, deepspeed="zero2", processes=2, micro_batch=2) for name in ("two", "killed"))
    dpo(one)

    def launched(config: DpoConfig) -> Any:
        path = config.output.with_suffix(".yaml")
        path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        return start("-m", "bllossom.cli", "dpo", "--config", str(path))

    process = launched(two)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert losses(two.output) == pytest.approx(losses(one.output), rel=1e-4)
    process = launched(killed)
    wait_for_step(killed.output, 9, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process = launched(killed)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert_same_run(two.output, killed.output)
