"""The command line as a person meets it: dry runs, errors, exit codes, stops."""

import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bllossom.cli import make_app
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


@pytest.mark.parametrize("command", [*STAGES, "run", "plan", "verify", "reshard", "clean", "localize review"])
def test_every_command_has_help(command):
    done = CliRunner().invoke(make_app(), [*command.split(), "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.stdout
    if command in STAGES:
        assert "Keys, in the YAML or typed as key=value:\n  output: folder, required\n" in done.stdout


def test_the_version_is_told_without_loading_torch(bllossom):
    assert bllossom("--version").stdout == f"bllossom {metadata.version('bllossom')}\n"
    program = "import sys; from bllossom import cli; sys.argv = ['bllossom', '--help']\ntry:\n    cli.main()\n"
    program += "except SystemExit:\n    assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_the_table_after_until_has_no_step_of_an_older_run_and_marks_those_before_from(before):
    recipe = before / "recipe.yaml"
    steps = [path.stem.split(".") for path in before.glob("configs/*.yaml")]
    listed = {name: f"{{name: {name}, stage: {stage}, config: configs/{name}.{stage}.yaml}}" for name, stage in steps}
    listed["eval"] = "{name: eval, stage: eval, config: configs/scores.eval.yaml, set: {model: runs/adapted}}"
    names = ["base-vocab", "donor", "vocab", "adapted", "eval"]
    recipe.write_text(f"output: runs\nsteps: [{', '.join(listed[name] for name in names)}]\n")

    def table(*arguments: str) -> str:
        done = CliRunner().invoke(make_app(), ["run", str(recipe), *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "Tokens per word" not in table("--until", "donor")
    until = table("--until", "vocab")
    assert "Tokens per word" in until
    assert "bits per byte" not in until
    whole = table()
    assert "bits per byte" in whole
    assert "earlier" not in whole
    listed["again"] = listed["eval"].replace("name: eval", "name: again")
    recipe.write_text(f"output: runs\nsteps: [{', '.join(listed[name] for name in [*names, 'again'])}]\n")
    resumed = table("--from", "again")
    assert "eval (earlier)" in resumed
    assert "of a step that was not part of this run" in resumed


def run_in(folder: Path, *command: str, **streams: object) -> subprocess.CompletedProcess:
    """Run Python in a folder, on this checkout."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | streams.pop("variables", {})
    return subprocess.run(command, cwd=folder, env=environment, stderr=subprocess.PIPE, **streams)


def test_a_removed_working_folder_ends_in_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = run_in(gone, "sh", "-c", f'rmdir "{gone}"; exec "$0" -m bllossom.cli verify runs', sys.executable)
    assert done.stderr.decode() == "error: the folder you are in was removed; go to one that is there with cd\n"


def test_a_full_disk_behind_stdout_ends_in_one_line(before):
    with Path("/dev/full").open("wb") as full:
        done = run_in(before, sys.executable, "-m", "bllossom.cli", "verify", "runs/vocab", stdout=full)
    assert done.returncode == 1
    told = "error: standard output cannot be written (No space left on device); send it elsewhere\n"
    assert done.stderr.decode() == told


def test_a_terminal_without_korean_is_no_reason_to_end(tmp_path):
    latin = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    done = run_in(tmp_path, sys.executable, "-m", "bllossom.cli", "run", "구이.yaml", "--dry-run", variables=latin)
    assert done.returncode == 2
    assert rb"\uad6c\uc774.yaml: cannot be read" in done.stderr
    assert b"Traceback" not in done.stderr


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
