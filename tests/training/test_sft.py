"""sft on the machinery that pretrain uses: the same answers however the batch is cut, and an exact way on.

Everything here is synthetic but the last tests: a small byte-level vocabulary from data/, and counting."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from bllossom.artifacts import Manifest, verify
from bllossom.cli import make_app
from bllossom.errors import BllossomError, ConfigError, Stopped
from bllossom.instructions.dataset import hold_out
from bllossom.instructions.reading import read_instructions
from bllossom.model.merge_adapter import MergeAdapterConfig, merge_adapter
from bllossom.ranks.ranks import Ranks
from bllossom.training import sft as sft_module
from bllossom.training.engines.rows import Row
from bllossom.training.runs import checkpoints
from bllossom.training.sft import SftConfig, dry_run, sft
from bllossom.training.tuning.example_rows import PackedSteps
from bllossom.training.workloads import sft_workload
from tests.fixtures.command_runs import assert_same_run, flip, log_lines, partial_of, start, wait_for_step
from tests.fixtures.tiny_chat import write_tiny_model

EXAMPLES = [{"instruction": f"Count to {n}.", "output": " ".join(map(str, range(n + 1)))} for n in range(1, 11)]
NO_DEEPSPEED = "DeepSpeed is not installed (pip install 'bllossom[deepspeed]')"
Make = Callable[..., SftConfig]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("sft") / "model")


@pytest.fixture
def make(model: Path, tmp_path: Path) -> Make:
    """`make(name, key=value, …)`: a config over ten short examples of uneven length."""
    data = tmp_path / "examples.json"
    data.write_text(json.dumps(EXAMPLES))

    def config(name: str, **changes: object) -> SftConfig:
        values = {"output": tmp_path / name, "model": str(model), "data": [data], "examples_per_step": 4, "epochs": 2}
        values |= {"learning_rate": {"peak": 0.01}, "micro_batch": 2, "checkpoint_every": 2, "gpus": 0}
        values |= {"template": "plain", "samples": 0}
        return SftConfig.model_validate(values | changes)

    return config


def test_samples_that_fail_do_not_cost_the_training(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise AttributeError("no such cache")

    monkeypatch.setattr(sft_module, "write_samples", fail)
    assert sft(make("out", samples=2)).figures["steps"] == 5
    assert "samples.md is left out, as the model does not answer here: no such cache" in capsys.readouterr().err
    assert verify(tmp_path / "out") == []


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in log_lines(folder)]


def test_stopped_run_goes_on_exactly(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = sft(make("whole", neftune_alpha=5))
    assert manifest.figures["steps"] == 5

    class StoppingSteps(PackedSteps):
        def micro_batches(self, step: int, ranks: Ranks) -> list[list[Row]]:
            if step == 2:
                signal.raise_signal(signal.SIGTERM)
            return super().micro_batches(step, ranks)

    monkeypatch.setattr(sft_module, "PackedSteps", StoppingSteps)
    with pytest.raises(Stopped, match="stopped after step 3 of 5"):
        sft(make("again", neftune_alpha=5))
    monkeypatch.undo()
    sft(make("again", neftune_alpha=5))
    assert losses(tmp_path / "whole") == losses(tmp_path / "again")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "again")]
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])


ENDED_WHILE_SAMPLES_ARE_WRITTEN = """
import os
from bllossom.cli import main
from bllossom.training import sft

sft.write_samples = lambda *_: os.kill(os.getpid(), {ending})
main()
"""
ENDED_WHILE_IT_IS_PUBLISHED = """
import os
from bllossom import artifacts
from bllossom.cli import main

artifacts.payload = lambda _: os.kill(os.getpid(), {ending})
main()
"""


@pytest.mark.parametrize(
    ("ended", "ending", "code"),
    [
        (ENDED_WHILE_SAMPLES_ARE_WRITTEN, signal.SIGKILL, -signal.SIGKILL),
        (ENDED_WHILE_SAMPLES_ARE_WRITTEN, signal.SIGTERM, 75),
        (ENDED_WHILE_IT_IS_PUBLISHED, signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_an_end_while_samples_are_written_or_all_is_published_costs_no_training(
    ended: str, ending: signal.Signals, code: int, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step is saved although no multiple of `checkpoint_every` was reached."""
    values = {"samples": 1, "checkpoint_every": 200}
    whole = sft(make("whole", **values))
    _, _, *command = launch(make("again", **values))
    process = start("-c", ended.format(ending=int(ending)), *command)
    said = process.communicate()[1]
    assert process.returncode == code, said
    newest = checkpoints.newest(partial_of(tmp_path / "again") / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000005"
    monkeypatch.setattr("bllossom.training.runs.trainer.accumulate", lambda *_: pytest.fail("a step was made again"))
    assert sft(make("again", **values)).fingerprint == whole.fingerprint
    assert not (tmp_path / "again/checkpoints").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"packing": False},
        {"packing": False, "micro_batch": 4, "loss_chunk": 16},
        {"micro_batch": 1, "max_tokens": 64},
        {"micro_batch": 3, "max_tokens": 128},
        {"deepspeed": "zero2", "max_tokens": 64},
    ],
    ids=str,
)
def test_neither_packing_nor_micro_batches_move_the_loss(changes: dict[str, Any], make: Make, tmp_path: Path) -> None:
    """Rows are of uneven length, so a mean of micro-batch means would differ."""
    if "deepspeed" in changes:
        pytest.importorskip("deepspeed", reason=NO_DEEPSPEED)
    sft(make("packed"))
    sft(make("other", **changes))
    assert losses(tmp_path / "other") == pytest.approx(losses(tmp_path / "packed"), rel=1e-6)


def test_the_folder_says_how_to_chat_and_where_to_stop(make: Make, model: Path, tmp_path: Path) -> None:
    chatty = shutil.copytree(model, tmp_path / "chatty")
    settings = json.loads((chatty / "tokenizer_config.json").read_text())
    (chatty / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "old"}))
    manifest = sft(make("tuned", model=str(chatty), template="chatml", samples=2, epochs=1))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tuned")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt == "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    settings = json.loads((tmp_path / "tuned/tokenizer_config.json").read_text())
    assert settings.get("chat_template") != "old"  # that of before is nowhere
    ends = json.loads((tmp_path / "tuned/generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "</s>"]
    samples = (tmp_path / "tuned/samples.md").read_text()
    assert samples.count("**greedy**") == samples.count("**sampled**") == 2
    assert "Count to 2." in samples
    assert manifest.figures["examples"] == 10
    assert verify(tmp_path / "tuned") == []
    # What was tuned has a template of its own, which is then the default.
    again = sft(make("again", model=str(tmp_path / "tuned"), template=None, epochs=1))
    assert again.figures["supervised_tokens"] == manifest.figures["supervised_tokens"]
    assert manifest.figures["supervised_tokens"] >= manifest.figures["supervised_tokens_per_epoch"]
    assert (tmp_path / "again/chat_template.jinja").read_text() == (tmp_path / "tuned/chat_template.jinja").read_text()


def test_loss_on_outputs_alone_or_on_all(make: Make) -> None:
    outputs, everything = (
        sft(make("outputs", examples_per_step=10)),
        sft(make("all", train_on="all", examples_per_step=10)),
    )
    # All but the first token of each example, which nothing predicts; two passes.
    assert everything.figures["supervised_tokens"] == 2 * (everything.figures["tokens"] - 10)
    assert everything.figures["supervised_tokens_per_epoch"] == everything.figures["tokens"] - 10
    assert outputs.figures["supervised_tokens"] < everything.figures["supervised_tokens"]
    assert everything.figures["last_loss"] != outputs.figures["last_loss"]


def test_held_out_answers_are_scored_and_the_best_epoch_is_kept(make: Make, tmp_path: Path) -> None:
    data = [{"path": str(tmp_path / "examples.json"), "language": "en"}]
    changes = {"data": data, "holdout": 0.2, "epochs": 30, "patience": 2, "learning_rate": {"peak": 0.3}}
    manifest = sft(make("tuned", **changes, examples_per_step=8))
    lines = log_lines(tmp_path / "tuned")
    scores = {line["step"]: line["heldout_loss/en"] for line in lines if "heldout_loss/en" in line}
    best = min(scores, key=lambda step: scores[step])
    assert manifest.figures["best_step"] == best
    assert manifest.figures["heldout_loss"]["en"] == pytest.approx(scores[best], abs=1e-6)
    assert list(scores) == list(range(1, best + 3))  # 8 of 10 are left, a step an epoch; two more, then it ends
    assert len(lines) < 30
    # The published weights are those of the best step: they score the same again where nothing is learned.
    still = {"learning_rate": {"peak": 1e-9}, "epochs": 1, "model": str(tmp_path / "tuned"), "examples_per_step": 8}
    again = sft(make("again", **changes | still))
    assert again.figures["heldout_loss"]["en"] == pytest.approx(scores[best], rel=1e-5)


@pytest.fixture
def behind_its_best(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Manifest, SftConfig]:
    """A whole run that ends with the weights of an earlier epoch, and the config of one that was stopped after it."""
    values = {"holdout": 0.2, "epochs": 30, "patience": 2, "learning_rate": {"peak": 0.3}, "examples_per_step": 8}
    whole, again = sft(make("whole", **values)), make("again", **values)
    at_step(whole.figures["best_step"], lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    with pytest.raises(Stopped):
        sft(again)
    monkeypatch.undo()
    assert len(checkpoints.complete_ones(partial_of(tmp_path / "again") / "checkpoints")) == 2
    return whole, again


def at_step(number: int, act: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Do something while the rows of the step after `number` of them are read."""

    class ActingSteps(PackedSteps):
        def micro_batches(self, step: int, ranks: Ranks) -> list[list[Row]]:
            if step == number:
                act()
            return super().micro_batches(step, ranks)

    patch.setattr(sft_module, "PackedSteps", ActingSteps)


def test_a_cleaned_run_still_ends_with_its_best_epoch(behind_its_best: tuple[Manifest, SftConfig]) -> None:
    whole, again = behind_its_best
    cleaned = CliRunner().invoke(make_app(), ["clean", str(again.output)], input="n\ny\n")
    assert cleaned.exit_code == 0, cleaned.output
    assert sft(again).fingerprint == whole.fingerprint


def test_a_damaged_best_epoch_is_refused_before_a_step_is_made(
    behind_its_best: tuple[Manifest, SftConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again = behind_its_best
    flip(best_weights(whole, again))
    monkeypatch.setattr("bllossom.training.runs.trainer.accumulate", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(BllossomError, match=r"which scored best, is damaged \(engine/model.safetensors is not"):
        sft(again)


def test_a_best_epoch_that_is_damaged_meanwhile_is_not_published(
    behind_its_best: tuple[Manifest, SftConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again = behind_its_best
    at_step(whole.figures["best_step"] + 1, lambda: flip(best_weights(whole, again)), monkeypatch)
    with pytest.raises(BllossomError, match=r"which scored best, is damaged \(engine/model.safetensors is not"):
        sft(again)
    assert not again.output.exists()


def best_weights(whole: Manifest, again: SftConfig) -> Path:
    """Of the stopped run: a file of the checkpoint that scored best."""
    saved = partial_of(again.output) / "checkpoints"
    return checkpoints.at_step(saved, whole.figures["best_step"]) / "engine/model.safetensors"


def test_a_family_whose_rows_leak_is_not_packed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sft(make("packed", epochs=1))
    monkeypatch.setattr(sft_module, "PACKABLE", frozenset())
    sft(make("single", epochs=1))
    assert "the attention of llama is not known to keep examples of one row apart: packing is off" in (
        capsys.readouterr().err
    )
    assert losses(tmp_path / "single") == pytest.approx(losses(tmp_path / "packed"), rel=1e-6)


def test_wrong_configs_are_refused(make: Make, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="4 examples a step are not a multiple of 1 ranks × micro_batch 3"):
        sft(make("model", micro_batch=3, packing=False))
    with pytest.raises(ConfigError, match="max_tokens: 512 is more than the model's window; at most 256"):
        sft(make("model", max_tokens=512))
    with pytest.raises(BllossomError, match="no chat template of its own; set template to plain, lima, llama2"):
        sft(make("model", template=None))
    with pytest.raises(BllossomError, match=r"llama3 needs the special token .* set template to plain or lima"):
        sft(make("model", template="llama3"))
    with pytest.raises(ValueError, match="patience: there is nothing to measure without held-out data"):
        make("model", patience=1)
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "a document"}\n')
    with pytest.raises(BllossomError, match=r"other.jsonl:1: is of no known shape \(its keys are text\)"):
        sft(make("model", data=[other]))
    weightless = shutil.copytree(model, tmp_path / "weightless", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(BllossomError, match=r"weightless: no model loads .*; name a model folder or a hub id"):
        sft(make("model", model=str(weightless)))


def test_the_plan_is_told_without_weights(make: Make) -> None:
    batch, computing, found = dry_run(make("model"))
    assert batch.startswith("4 examples a step, packed into rows of at most 256 tokens, 2 rows at a time")
    assert found.startswith("examples 10, tokens ")
    assert computing.startswith("computes in fp32")
    assert dry_run(make("model", packing=False))[0].startswith("micro-batch 2 examples × 1 rank × 2 accumulation = 4")


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
def test_two_ranks_have_the_gradient_of_one_process(make: Make, model: Path) -> None:
    pytest.importorskip("deepspeed", reason=NO_DEEPSPEED)
    # With so large an epsilon AdamW's first step is peak / epsilon = 10 times the gradient: the weights show it.
    changes = {"examples_per_step": 10, "micro_batch": 5, "epochs": 1, "learning_rate": {"peak": 1e5}, "max_tokens": 64}
    changes |= {"optimizer": {"epsilon": 1e4, "weight_decay": 0.0, "gradient_clip": 1e4}}
    one, two = make("one", **changes), make("two", **changes, deepspeed="zero2", processes=2)
    plain = make("plain", **changes | {"packing": False, "processes": 2})
    sft(one)
    for config in (two, plain):
        run_two_ranks(config)
        [step_of_one], [step_of_two] = log_lines(one.output), log_lines(config.output)
        assert step_of_two["loss"] == pytest.approx(step_of_one["loss"], rel=1e-6)
        # fp32 sums in another order, as between any two ways to cut a batch of pretrain.
        assert relative_distance(one.output, config.output, model) < 5e-6


@pytest.mark.slow
def test_two_ranks_train_as_one_process_and_go_on_exactly(make: Make, model: Path) -> None:
    pytest.importorskip("deepspeed", reason=NO_DEEPSPEED)
    ranks = {"epochs": 8, "deepspeed": "zero2", "processes": 2, "max_tokens": 64, "micro_batch": 1}
    one, two, killed = make("one", epochs=8), make("two", **ranks), make("killed", **ranks)
    sft(one)
    run_two_ranks(two)
    assert len(losses(one.output)) == 20
    assert losses(two.output) == pytest.approx(losses(one.output), rel=1e-6)
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
    engine: str | None, make: Make, model: Path, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")
    if engine is not None:
        pytest.importorskip("deepspeed", reason=NO_DEEPSPEED)
    sft(make("adapter", epochs=8, lora={"rank": 4, "alpha": 8}, deepspeed=engine, samples=1))
    assert losses(tmp_path / "adapter")[-1] < losses(tmp_path / "adapter")[0] - 0.05
    assert "**greedy**" in (tmp_path / "adapter/samples.md").read_text()
    merge_adapter(MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged"))
    assert verify(tmp_path / "merged") == []
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template

    ids = torch.arange(100, 200).view(4, 25)
    base = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        before = base(input_ids=ids).logits
        through_peft = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")(input_ids=ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(input_ids=ids).logits
    assert (before - merged).abs().max() > 0.001
    # peft adds B (A x) to W x, the merged weight is added up first: fp32 rounds at other places.
    torch.testing.assert_close(merged, through_peft, rtol=1e-5, atol=1e-5)


def test_a_dry_run_refuses_what_the_run_would(make: Make, tmp_path: Path) -> None:
    assert "examples 10, tokens" in dry_run(make("out"))[-1]
    with pytest.raises(BllossomError, match="no chat template of its own"):
        dry_run(make("out", template=None))
    with pytest.raises(BllossomError, match=r"no example is left: .*; raise max_tokens, or set too_long to cut"):
        dry_run(make("out", max_tokens=3))
    with pytest.raises(BllossomError, match=r"no example is left: .*; raise max_tokens$"):
        dry_run(make("out", max_tokens=3, too_long="cut"))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    with pytest.raises(BllossomError, match="is a LoRA adapter, not a model"):
        dry_run(make("out", model=str(tmp_path / "adapter")))
    assert not (tmp_path / "out").exists()


def test_a_conversation_that_the_format_refuses_is_not_asked_for_samples(make: Make, tmp_path: Path) -> None:
    template = tmp_path / "no-system.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    data = tmp_path / "system.json"
    data.write_text(json.dumps([{**EXAMPLES[0], "system": "Be brief."}, *EXAMPLES[1:]]))
    changes = {"template": template, "data": [data], "on_error": "skip", "samples": 2}
    manifest = sft(make("skipping", **changes))
    assert manifest.figures["skipped"] == 1
    samples = (tmp_path / "skipping" / "samples.md").read_text()
    assert samples.count("## ") == 2
    assert "Be brief." not in samples


def test_what_is_left_out_of_the_held_out_is_said_and_listed(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = sft(make("held", holdout=0.6, max_tokens=30, epochs=1))
    listed = [json.loads(line) for line in (tmp_path / "held/logs/too_long.jsonl").read_text().splitlines()]
    heldout = 6 - manifest.figures["heldout_examples"]
    assert heldout > 0
    assert len(listed) == manifest.figures["dropped"] + heldout
    assert f"of what is held out, {heldout} too long, 0 that the format has no place for" in capsys.readouterr().err


def test_held_out_conversations_that_are_all_too_long_are_told_as_those(make: Make, tmp_path: Path) -> None:
    """The others are fine: max_tokens is not all that helps."""
    data = tmp_path / "long.json"
    data.write_text(json.dumps([*EXAMPLES, {"instruction": "Count to 99.", "output": "9 " * 400}]))
    found = read_instructions(make("out", data=[data]).data)
    seed = next(seed for seed in range(1000) if "99" in str(hold_out(found, 0.05, seed)[1]))
    with pytest.raises(BllossomError, match=r"^holdout: of the 1 .* 1 have more than 256 .*; or set another seed, or"):
        dry_run(make("out", data=[data], holdout=0.05, seed=seed))
    dry_run(make("out", data=[data], holdout=0.3, seed=seed))


def test_epochs_that_are_whole_steps_have_not_one_more(make: Make, model: Path, tmp_path: Path) -> None:
    """29 / 7 × 7 is above 29 in floats."""
    data = tmp_path / "many.json"
    data.write_text(json.dumps([{"instruction": f"Say {n}.", "output": str(n)} for n in range(29)]))
    config = make("out", data=[data], examples_per_step=7, epochs=7, micro_batch=7)
    assert sft(config).figures["steps"] == sft_workload(config, AutoConfig.from_pretrained(model)).steps == 29
