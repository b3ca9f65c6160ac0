"""Phases, what is refused, and what the published folder holds."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, OPTConfig, PreTrainedModel

from bllossom.artifacts import verify
from bllossom.errors import BllossomError, ConfigError, Stopped
from bllossom.model.folder import check_headers
from bllossom.ranks import ranks
from bllossom.training import pretrain as pretrain_module
from bllossom.training.block_rows import BlockRows, heldout_rows
from bllossom.training.engines import deepspeed_engine
from bllossom.training.engines.rows import Row
from bllossom.training.pretrain import PretrainConfig, dry_run, pretrain
from bllossom.training.runs import checkpoints
from tests.fixtures.command_runs import assert_only_new_rows_moved, log_lines, partial_of
from tests.fixtures.training import PIECES, write_tokens

Settings = Callable[..., dict[str, Any]]


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ask for a stop while the rows of `step` (from 1) are read, once."""
    asked = []

    class StoppingRows(BlockRows):
        def row(self, index: int) -> Row:
            if index // 8 == step - 1 and not asked:
                asked.append(signal.raise_signal(signal.SIGTERM))
            return super().row(index)

    monkeypatch.setattr(pretrain_module, "BlockRows", StoppingRows)


def test_new_rows_alone_leave_everything_else_bit_equal(settings: Settings, expanded: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    pretrain(PretrainConfig(**settings(output, model=str(expanded), trainable="new_rows", steps=20)))
    assert_only_new_rows_moved(expanded, output)


@pytest.mark.parametrize("step", [2, 7])
def test_stop_inside_a_phase_goes_on_exactly(
    step: int, settings: Settings, expanded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = 4 * 8 * 32
    phases = [{"trainable": "new_rows", "tokens": tokens}, {"trainable": "all", "tokens": tokens}]
    changes = {"model": str(expanded), "phases": phases, "steps": None, "checkpoint_every": 3}
    whole, output = tmp_path / "whole", tmp_path / "model"
    pretrain(PretrainConfig(**settings(whole, **changes)))
    stop_at(monkeypatch, step)
    with pytest.raises(Stopped, match=f"stopped after step {step} of 8"):
        pretrain(PretrainConfig(**settings(output, **changes)))
    pretrain(PretrainConfig(**settings(output, **changes)))
    assert [line["loss"] for line in log_lines(whole)] == [line["loss"] for line in log_lines(output)]
    assert (whole / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()
    rates = [line["learning_rate"] for line in log_lines(output)]
    assert rates[:4] == rates[4:]  # each phase has a schedule of its own


def test_new_rows_need_a_model_that_expand_made(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match="new_rows needs a model that `bllossom expand` made"):
        pretrain(PretrainConfig(**settings(tmp_path / "model", trainable="new_rows")))


def test_published_folder_is_a_plain_model(settings: Settings, tmp_path: Path) -> None:
    output = tmp_path / "model"
    manifest = pretrain(PretrainConfig(**settings(output, steps=3, save_dtype="bf16")))
    model = AutoModelForCausalLM.from_pretrained(output)
    assert model.get_input_embeddings().weight.shape == (PIECES, 32)
    assert model.dtype == torch.bfloat16
    assert sorted(manifest.files) == ["config.json", "generation_config.json", "model.safetensors"]
    assert verify(output) == []
    assert manifest.figures["tokens"] == 3 * 8 * 32
    with pytest.raises(BllossomError, match="was saved with shape"):
        check_headers(output, PIECES + 1)


def test_how_a_run_is_executed_does_not_make_it_another(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    pretrain(PretrainConfig(**settings(output, steps=2)))
    pretrain(PretrainConfig(**settings(output, steps=2, micro_batch=4, keep=3)))
    assert "nothing to do" in capsys.readouterr().err


@pytest.fixture
def stopped(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run stopped after step 2; gives its output."""
    output = tmp_path / "model"
    stop_at(monkeypatch, 2)
    with pytest.raises(Stopped):
        pretrain(PretrainConfig(**settings(output)))
    monkeypatch.undo()
    return output


def test_other_data_tokenizer_or_block_size_is_refused(settings: Settings, stopped: Path, tmp_path: Path) -> None:
    there = checkpoints.read_state(checkpoints.newest(partial_of(stopped) / "checkpoints")).inputs
    other = write_tokens(tmp_path / "other", seed=1, tokenizer="another")
    with pytest.raises(BllossomError) as refused:
        pretrain(PretrainConfig(**settings(stopped, tokens=str(other))))
    here = pretrain_module._run_inputs(PretrainConfig(**settings(stopped, tokens=str(other))))(2)
    assert f"tokens {there['tokens']} there, {here['tokens']} here" in str(refused.value)
    assert "tokenizer one there, another here" in str(refused.value)
    with pytest.raises(BllossomError, match="block_size 32 there, 16 here"):
        pretrain(PretrainConfig(**settings(stopped, block_size=16)))
    with pytest.raises(BllossomError, match=r"learning_rate\.peak: 0\.01 there, 0\.02 here"):
        pretrain(PretrainConfig(**settings(stopped, learning_rate={"peak": 0.02})))
    pretrain(PretrainConfig(**settings(stopped, learning_rate={"peak": 0.02}, steps=2)), force=True)


def test_checkpoint_of_another_run_is_refused(
    settings: Settings, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = partial_of(stopped) / "checkpoints"
    other = settings(tmp_path / "elsewhere", block_size=16)
    stop_at(monkeypatch, 2)
    with pytest.raises(Stopped):
        pretrain(PretrainConfig(**other))
    foreign = partial_of(tmp_path / "elsewhere") / "checkpoints"
    shutil.rmtree(foreign)
    shutil.copytree(saved, foreign)
    with pytest.raises(BllossomError, match=r"made from something else: block_size 32 there, 16 here.*--force"):
        pretrain(PretrainConfig(**other))


def test_another_number_of_ranks_or_engine_is_refused_before_anything_is_loaded(
    settings: Settings, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bllossom.ranks.launch.elastic_launch", lambda *_: pytest.fail("ranks were started"))
    with pytest.raises(BllossomError, match=r"made by 1 ranks, this run has 2; convert it with `bllossom reshard .*`"):
        pretrain(PretrainConfig(**settings(stopped, processes=2)))
    with pytest.raises(BllossomError, match="made with deepspeed: null, this run has zero2"):
        pretrain(PretrainConfig(**settings(stopped, deepspeed="zero2")))


def test_batch_that_ranks_do_not_divide(settings: Settings, tmp_path: Path) -> None:
    config = PretrainConfig(**settings(tmp_path / "model", micro_batch=3, processes=2))
    with pytest.raises(ConfigError) as refused:
        pretrain(config)
    assert "256 tokens a step are not a multiple of 2 ranks × micro_batch 3 × 32 = 192 tokens" in str(refused.value)
    assert "the nearest that fit: 192 or 384" in str(refused.value)
    with pytest.raises(ValidationError, match="the nearest that fits is 256"):
        PretrainConfig(**settings(tmp_path / "model", global_batch=250))


def test_gpus_that_are_not_there(settings: Settings, tmp_path: Path) -> None:
    asked = torch.cuda.device_count() + 3
    with pytest.raises(ConfigError, match=f"gpus: {asked} asked for, {asked - 3} are here"):
        pretrain(PretrainConfig(**settings(tmp_path / "model", gpus=asked)))


def test_too_little_text(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match=r"ko/news has .* tokens for at most 1 epochs, .* blocks need"):
        pretrain(PretrainConfig(**settings(tmp_path / "model", steps=1000)))


def test_epochs_read_as_much_as_there_is(settings: Settings, tmp_path: Path) -> None:
    manifest = pretrain(PretrainConfig(**settings(tmp_path / "model", steps=None, epochs=0.5)))
    assert 0.45 < manifest.figures["mixture"]["ko/news"]["epochs"] <= 0.5


def test_blocks_that_are_left_out_take_nothing_from_the_epochs(settings: Settings, tmp_path: Path) -> None:
    """A run that met bad blocks goes on for as many steps, with the same learning rates."""
    short = {"tokens": str(write_tokens(tmp_path / "tokens", documents=60)), "steps": None, "epochs": 1}
    steps = PretrainConfig(**settings(tmp_path / "model", **short)).total_steps()
    config = PretrainConfig(**settings(tmp_path / "model", **short, skip_blocks=list(range(40, 48))))
    assert dry_run(config)[1].startswith(f"{steps} steps")
    assert pretrain(config).figures["steps"] == steps


def test_more_epochs_than_one_read_as_much_as_is_asked_for(settings: Settings, tmp_path: Path) -> None:
    lines = {}
    for epochs in (1, 3):
        lines[epochs] = dry_run(PretrainConfig(**settings(tmp_path / "model", steps=None, epochs=epochs)))
    steps = {epochs: int(said[1].split(" steps")[0]) for epochs, said in lines.items()}
    assert 2.9 < steps[3] / steps[1] <= 3.1
    manifest = pretrain(PretrainConfig(**settings(tmp_path / "model", steps=None, epochs=1.5)))
    assert 1.45 < manifest.figures["mixture"]["ko/news"]["epochs"] <= 1.5
    again = pretrain(PretrainConfig(**settings(tmp_path / "model", steps=None, epochs=1.5)))
    assert again.run == manifest.run  # its own manifest says max_epochs: 1, which was nobody's wish
    told_apart = {"weights": {"ko": 7, "en": 3}, "max_epochs": 2}
    with pytest.raises(
        ValidationError, match=r"epochs: 3 are more than mixture.max_epochs 2 allows; set mixture.max_epochs"
    ):
        PretrainConfig(**settings(tmp_path / "model", steps=None, epochs=3, mixture=told_apart))


def test_rows_longer_than_the_models_window_are_refused(settings: Settings, expanded: Path, tmp_path: Path) -> None:
    longer = {"block_size": 128, "global_batch": 8 * 128}
    told = "block_size: 128 tokens are more than the model's window of 64; set block_size to at most 64"
    for model in ({}, {"model": str(expanded)}):
        config = PretrainConfig(**settings(tmp_path / "model", **longer, **model))
        with pytest.raises(ConfigError, match=told):
            dry_run(config)
        with pytest.raises(ConfigError, match=told):
            pretrain(config)
    assert not list(tmp_path.iterdir())


def test_a_model_from_nothing_has_the_tokenizers_own_special_ids(settings: Settings, tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "tokens")
    index = tokens / "index.json"
    index.write_text(index.read_text().replace('"bos": 1', '"bos": null').replace('"eos": 2', '"eos": 0'))
    pretrain(PretrainConfig(**settings(tmp_path / "model", tokens=str(tokens), steps=1)))
    for name in ("config.json", "generation_config.json"):
        found = json.loads((tmp_path / "model" / name).read_text())
        assert (found.get("bos_token_id"), found["eos_token_id"]) == (None, 0), name


def test_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        launched = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        code = "from bllossom.ranks import ranks; ranks.join('cpu')"  # its own process: here may be a group
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | launched, capture_output=True, text=True)
    assert f"127.0.0.1:{port} is taken; set MASTER_PORT to a free port" in done.stderr


def test_half_an_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BllossomError, match="RANK, MASTER_ADDR, MASTER_PORT not set: start the ranks with torchrun"):
        ranks.join("cpu")


def test_deepspeed_settings_that_are_ours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}, "train_batch_size": 8, "bf16": {"enabled": True}}))
    with pytest.raises(ConfigError, match=r"train_batch_size \(set global_batch\), bf16 \(set precision\); remove"):
        deepspeed_engine.read_settings(str(path))
    with pytest.raises(ConfigError, match="is neither a file nor one of zero1, zero2, zero3, zero3-offload"):
        deepspeed_engine.read_settings("zero4")


def test_deepspeed_settings_of_the_repository_are_read() -> None:
    found = sorted((Path(__file__).parents[2] / "configs" / "deepspeed").glob("*.json"))
    assert found
    for path in found:
        assert deepspeed_engine.stage_of(deepspeed_engine.read_settings(str(path))) in (1, 2, 3)


def test_dry_run_says_the_arithmetic(settings: Settings, tmp_path: Path) -> None:
    lines = dry_run(PretrainConfig(**settings(tmp_path / "model", processes=2)))
    assert lines[0] == ("micro-batch 2 blocks × 2 ranks × 2 accumulation = 8 blocks × 32 tokens = 256 tokens a step")
    assert lines[1:3] == ["20 steps = 160 blocks = 5,120 tokens", "computes in fp32 on the CPU"]
    assert any("ko/news" in line for line in lines)
    missing = PretrainConfig(**settings(tmp_path / "model", tokens=str(tmp_path / "not-here-yet")))
    assert dry_run(missing) == [lines[0].replace("2 ranks × 2", "1 rank × 4"), *lines[1:3]]
    assert list(tmp_path.iterdir()) == []


def test_blocks_longer_than_the_models_window_are_refused(settings: Settings, expanded: Path, tmp_path: Path) -> None:
    window = json.loads((expanded / "config.json").read_text())["max_position_embeddings"]
    for model, longest in ((settings(tmp_path)["model"], 64), (str(expanded), window)):
        config = PretrainConfig.model_validate(
            settings(tmp_path / "run", model=model, block_size=2 * longest, global_batch=2 * longest, micro_batch=1)
        )
        for way in (pretrain, dry_run):
            with pytest.raises(ConfigError, match=rf"the model's window of {longest:,}; set block_size to at most"):
                way(config)


def opt(**changes: Any) -> OPTConfig:
    """A family that makes its positions from an attention mask and sees all of a row."""
    shape = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2}
    return OPTConfig(**shape, num_attention_heads=2, max_position_embeddings=64, vocab_size=PIECES, **changes)


def test_document_masks_are_refused_where_a_family_does_not_keep_documents_apart(
    settings: Settings, tmp_path: Path
) -> None:
    opt().save_pretrained(tmp_path / "opt")  # no weights: whoever tried to load them would say so
    config = PretrainConfig(**settings(tmp_path / "run", model=str(tmp_path / "opt")))
    for way in (pretrain, dry_run):
        with pytest.raises(ConfigError, match=r"of the type opt, which is not known .* set document_mask to false"):
            way(config)
    dry_run(config.model_copy(update={"document_mask": False}))
    assert not (tmp_path / "run").exists()


def test_held_out_documents_of_such_a_family_are_scored_one_by_one(
    settings: Settings, tokens: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(opt(init_std=0.3, dropout=0.0)).eval()
    model.save_pretrained(tmp_path / "opt")
    changes = {"model": str(tmp_path / "opt"), "document_mask": False, "learning_rate": {"peak": 1e-12}}
    pretrain(PretrainConfig(**settings(tmp_path / "run", **changes, steps=1)))
    found = json.loads((tmp_path / "run" / "manifest.json").read_text())["figures"]["validation_loss_bits"]
    assert sorted(found) == ["en", "ko"]
    for language, held in heldout_rows(tokens, ["en", "ko"], 32, None).items():
        nats = 0.0
        for row in held.rows:
            starts = [*(row.positions == 0).nonzero()[0].tolist(), len(row.ids)]
            for start, end in pairwise(starts):
                ids = torch.from_numpy(row.ids[start:end])[None]
                with torch.no_grad():
                    logs = model(ids).logits[0, :-1].log_softmax(-1)
                nats -= float(logs.gather(1, ids[0, 1:, None]).sum())
        assert found[language] == pytest.approx(nats / math.log(2) / held.bytes, rel=1e-5), language


def test_new_rows_that_nobody_counted_are_refused_before_an_earlier_phase(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain_module, "train_segment", lambda *_, **__: pytest.fail("a phase was trained"))
    phases = [{"trainable": "all", "tokens": 512}, {"trainable": "new_rows", "tokens": 512}]
    config = PretrainConfig(**settings(tmp_path / "model", steps=None, phases=phases))
    for refuse in (pretrain, dry_run):
        with pytest.raises(BllossomError, match="trainable: new_rows needs a model that `bllossom expand` made"):
            refuse(config)
