"""Independent steps run side by side, those that read them after them; one that fails stops what is not begun."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import pytest
import yaml
from typer.testing import CliRunner

from bllossom.artifacts import read_manifest
from bllossom.cli import make_app
from bllossom.errors import BllossomError, Stopped
from bllossom.recipe.jobs import LOOK_SECONDS, _Job, _share, run_side_by_side
from bllossom.recipe.recipe import PlannedStep, read_recipe

WORDS = "the river ran along old stones and a quiet village where people kept their garden walls low " * 40


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run a recipe of two vocabularies and their merge with --jobs 2, and give its exit code and what it said."""
    (tmp_path / "text.txt").write_text(WORDS, encoding="utf8")
    (tmp_path / "vocab.yaml").write_text(f"output: x\ntext: [{tmp_path}/text.txt]\ntype: bpe\nvocab_size: 290\n")
    (tmp_path / "merge.yaml").write_text("output: x\nbase: b/c\ndonor: d/e\n")

    def start(**donor: object) -> tuple[int, str]:
        steps = [
            {"name": "base", "stage": "train-vocab", "config": "vocab.yaml"},
            {"name": "donor", "stage": "train-vocab", "config": "vocab.yaml", "set": {"type": "unigram", **donor}},
            {
                "name": "vocab",
                "stage": "merge-vocab",
                "config": "merge.yaml",
                "set": {"base": "${steps.base.output}", "donor": "${steps.donor.output}"},
            },
        ]
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({"output": str(tmp_path / "runs"), "steps": steps}))
        ended = CliRunner().invoke(make_app(), ["run", str(recipe), "--jobs", "2"])
        return ended.exit_code, ended.output

    return start


def test_two_at_once_and_what_reads_them_behind(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, said = run(vocab_size=30)
    assert code == 0, said
    assert said.index("begins: donor") < said.index("── 1/3")  # both began before either ended
    assert said.index("── 2/3") < said.index("begins: vocab")
    vocab, base = read_manifest(tmp_path / "runs/vocab"), read_manifest(tmp_path / "runs/base")
    assert vocab.figures["base_pieces"] == base.figures["pieces"]
    assert (tmp_path / "runs/logs/vocab.log").is_file()


def test_a_step_that_fails_is_told_with_its_last_words(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, said = run(vocab_size=100_000)
    assert code == 1
    assert "donor failed (all it said is in" in said
    assert "set another vocab_size" in said
    assert read_manifest(tmp_path / "runs/base") is not None  # the one under way was waited for
    assert not (tmp_path / "runs/vocab").exists()


@contextmanager
def held_job(tmp_path: Path, hears: signal.Signals) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], int]]:
    """A run with --jobs that hears a signal, what it says, and the process of its one job, which is held as one that
    takes long."""
    (tmp_path / "text.txt").write_text(WORDS * 50, encoding="utf8")
    (tmp_path / "vocab.yaml").write_text(f"output: x\ntext: [{tmp_path}/text.txt]\ntype: bpe\nvocab_size: 290\n")
    step = {"name": "base", "stage": "train-vocab", "config": "vocab.yaml"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"output": str(tmp_path / "runs"), "steps": [step]}))
    # A shell starts what it runs in the background deaf to Ctrl-C, and children inherit that.
    hearing = partial(signal.signal, hears, signal.SIG_DFL)
    command = [sys.executable, "-m", "bllossom.cli", "run", str(tmp_path / "recipe.yaml"), "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=hearing) as process:
        assert process.stderr is not None
        while b"begins: base" not in process.stderr.readline():
            assert process.poll() is None
        job = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        os.kill(job, signal.SIGSTOP)
        yield process, process.stderr, job


def test_who_asks_twice_to_stop_leaves_no_job_behind(tmp_path: Path) -> None:
    with held_job(tmp_path, signal.SIGINT) as (process, said, job):
        process.send_signal(signal.SIGINT)
        assert b"stopping: base finish" in said.readline()
        assert Path(f"/proc/{job}").exists()
        process.send_signal(signal.SIGINT)
        assert b"to go on, run the same command" in said.read()
    assert process.returncode == Stopped.exit_code
    assert not Path(f"/proc/{job}").exists()


def test_a_terminal_that_closes_asks_twice_and_means_it_once(tmp_path: Path) -> None:
    with held_job(tmp_path, signal.SIGHUP) as (process, said, job):
        process.send_signal(signal.SIGHUP)
        assert b"stopping: base finish" in said.readline()
        process.send_signal(signal.SIGHUP)
        time.sleep(3 * LOOK_SECONDS)
        assert "T (stopped)" in Path(f"/proc/{job}/status").read_text()
        os.kill(job, signal.SIGCONT)
        assert b"to go on, run the same command" in said.read()
    assert process.returncode == Stopped.exit_code


FAILS_AS_IT_STOPS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit("the disk is full"))
print("ready", flush=True)
while True:
    time.sleep(0.1)
"""


def test_a_job_that_fails_while_it_stops_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(step: PlannedStep, slot: int, jobs: int, logs: Path, force: bool) -> _Job:
        log = (logs / f"{step.name}.log").open("ab")
        command = [sys.executable, "-c", FAILS_AS_IT_STOPS]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        os.kill(os.getpid(), signal.SIGTERM)
        return _Job(step, process, log, slot, 0.0)

    (tmp_path / "text.txt").write_text(WORDS, encoding="utf8")
    values = {"text": [f"{tmp_path}/text.txt"], "type": "bpe", "vocab_size": 290}
    recipe = tmp_path / "recipe.yaml"
    steps = [{"name": "base", "stage": "train-vocab", "set": values}]
    recipe.write_text(yaml.safe_dump({"output": str(tmp_path / "runs"), "steps": steps}))
    monkeypatch.setattr("bllossom.recipe.jobs._start", begin)
    with pytest.raises(BllossomError, match=r"base failed \(all it said is in .*\n.*the disk is full") as failed:
        run_side_by_side(read_recipe(recipe, []).steps, 2, tmp_path / "logs")
    assert not isinstance(failed.value, Stopped)


def test_a_job_that_cannot_begin_leaves_none_behind(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "runs/logs/donor.yaml").mkdir(parents=True)  # where its config is to be written
    code, said = run(vocab_size=30)
    assert code != 0
    assert "stopping: base finish" in said
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _command(path)]


def _command(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended
        return b""


def test_a_command_of_two_words_is_a_step(tmp_path: Path) -> None:
    record = {"messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A river."}]}
    answer = {"messages": [{"role": "user", "content": "무엇입니까?"}, {"role": "assistant", "content": "강입니다."}]}
    for name, each in (("source", record), ("target", answer)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(each, ensure_ascii=False) + "\n", encoding="utf8")
    (tmp_path / "translate.yaml").write_text(
        f"output: x\nsource: [{tmp_path}/source.jsonl]\nfrom_file: [{tmp_path}/target.jsonl]\n"
    )
    step = {"name": "translated", "stage": "localize translate", "config": "translate.yaml"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"output": str(tmp_path / "runs"), "steps": [step]}))
    ended = CliRunner().invoke(make_app(), ["run", str(tmp_path / "recipe.yaml"), "--jobs", "2"])
    assert ended.exit_code == 0, ended.output


def test_all_that_failed_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(WORDS, encoding="utf8")
    values = {"text": [f"{tmp_path}/text.txt"], "type": "bpe", "vocab_size": 100_000}
    steps = [{"name": name, "stage": "train-vocab", "set": values} for name in ("one", "two")]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"output": str(tmp_path / "runs"), "steps": steps}))
    ended = CliRunner().invoke(make_app(), ["run", str(recipe), "--jobs", "2"])
    assert ended.exit_code == 1
    assert all(f"{name} failed (all it said is in" in ended.output for name in ("one", "two"))


def test_what_a_step_reads_is_known_wherever_its_path_was_written(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(WORDS, encoding="utf8")
    runs = tmp_path / "runs"
    (tmp_path / "interpolated.yaml").write_text("output: x\nbase: ${steps.base.output}\ndonor: ${steps.donor.output}\n")
    (tmp_path / "typed.yaml").write_text(f"output: x\nbase: {runs}/base\ndonor: {runs}/base-2\n")
    vocab = {"stage": "train-vocab", "set": {"text": [f"{tmp_path}/text.txt"], "type": "bpe", "vocab_size": 290}}
    steps = [
        *({"name": name, **vocab} for name in ("base", "base-2", "donor")),
        {"name": "one", "stage": "merge-vocab", "config": "interpolated.yaml"},
        {"name": "two", "stage": "merge-vocab", "config": "typed.yaml"},
        {"name": "three", "stage": "merge-vocab", "config": "typed.yaml"},
    ]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"output": str(runs), "steps": steps}))
    planned = read_recipe(recipe, ["three.donor=${steps.one.output}"])
    reads = {step.name: set(step.reads) for step in planned.steps}
    assert reads["one"] == {"base", "donor"}
    assert reads["two"] == {"base", "base-2"}
    assert reads["three"] == {"base", "one"}


@pytest.mark.parametrize(("gpus", "dealt"), [("0,1,2", ["0,2", "1"]), ("5", ["5", "5"]), ("", [None, None])])
def test_no_job_is_left_without_a_gpu_and_none_gets_a_hidden_one(gpus: str, dealt: list[str | None]) -> None:
    got = [_share(slot, 2, {"CUDA_VISIBLE_DEVICES": gpus}).get("CUDA_VISIBLE_DEVICES") for slot in range(2)]
    assert got == dealt
