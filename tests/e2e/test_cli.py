"""The command line as a person meets it: dry runs, errors, exit codes, stops."""

import os
import signal
import time

import pytest

from bllossom.pipeline import STAGES


def test_a_config_with_three_mistakes_shows_them_all_and_exits_2(bllossom, tmp_path):
    config = tmp_path / "pretrain.yaml"
    config.write_text(
        "output: out\nmodel: no/such/model\ntokens: nowhere\nmixture: {weights: {ko: 1}}\nblok_size: 64\n"
        "block_size: 64\nglobal_batch: lots\nsteps: 3\nlearning_rate: {peak: 1.0e-3}\n"
    )
    done = bllossom("pretrain", "--config", config)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"{config}:3: tokens: no such file or folder: nowhere" in done.stderr
    assert f"{config}:5: blok_size: unknown key (did you mean block_size?)" in done.stderr
    assert f"{config}:7: global_batch: should be a valid integer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_prints_the_resolved_config_and_what_is_not_here(bllossom):
    done = bllossom("pretrain", "--config", "configs/demo/pretrain.yaml", "--dry-run", "tokens=not/here/yet/tokens")
    assert done.returncode == 0, done.stderr
    assert "peak: 0.003" in done.stdout
    assert "# not/here/yet/tokens: not here yet" in done.stdout
    assert "tokens a step" in done.stdout


@pytest.mark.parametrize("command", [*STAGES, "run", "verify", "localize review"])
def test_every_command_has_help(bllossom, command):
    done = bllossom(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_wrong_usage_exits_2(bllossom):
    assert bllossom("pretrain").returncode == 2
    assert bllossom("no-such-command").returncode == 2
    assert bllossom("run", "nowhere.yaml").returncode == 2


def test_verify_fails_on_a_folder_that_was_not_published(bllossom, tmp_path):
    done = bllossom("verify", tmp_path)
    assert done.returncode == 1
    assert "has no manifest.json" in done.stderr


def test_sigterm_in_training_saves_and_exits_75_and_the_same_command_goes_on(bllossom, start, recipe, tmp_path):
    output = tmp_path / "runs"
    assert bllossom("run", recipe, f"output={output}", "--until", "base-tokens").returncode == 0
    arguments = ("run", recipe, f"output={output}", "--from", "base", "--until", "base")
    process = start(*arguments)
    while not list(output.glob("base.partial-*/checkpoints/step-*")):
        assert process.poll() is None, "training ended before its first checkpoint"
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGTERM)
    _, talk = process.communicate(timeout=120)
    assert process.returncode == 75, talk
    assert "saved; to go on, run the same command" in talk
    assert bllossom(*arguments).returncode == 0
    assert (output / "base/model.safetensors").exists()
