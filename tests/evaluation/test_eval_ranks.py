"""Two CPU ranks (gloo) on one evaluation: what they publish is what one process does, to the byte, kill or no kill."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from bllossom.artifacts import read_manifest
from bllossom.errors import ConfigError
from bllossom.evaluation.harness import EvalConfig, evaluate
from bllossom.evaluation.run import DONE
from tests.evaluation.test_harness import GENERATING
from tests.fixtures.command_runs import partial_of, start

ALL_END_SECONDS = 60


@pytest.fixture
def given(byte_level: Path, made_up: Path, tmp_path: Path) -> dict[str, object]:
    """The eight tasks, one in which is generated, and held-out text."""
    (made_up / "ko.txt").write_text("서울은 한국의 수도이다.\n강은 바다로 흐른다.\n", encoding="utf8")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/sums.yaml").write_text(GENERATING, encoding="utf8")
    (made_up / "sums").mkdir()
    lines = [json.dumps({"question": f"{n} + {n}", "answer": str(2 * n)}) + "\n" for n in range(5)]
    (made_up / "sums/test.jsonl").write_text("".join(lines), encoding="utf8")
    tasks = ["table6", str(tmp_path / "tasks")]
    return {
        "model": str(byte_level),
        "data": str(made_up),
        "tasks": tasks,
        "heldout": {"ko": str(made_up / "ko.txt")},
        "batch_tokens": 32,
        "gpus": 0,
    }


def begin(output: Path, given: dict[str, object], *before: str) -> subprocess.Popen[str]:
    arguments = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()]
    return start(*before, "-m", "bllossom.cli", "eval", f"output={output}", *arguments)


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    ranks = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return sorted(ranks, key=lambda child: child.create_time())


def wait_for_tasks(output: Path, count: int, process: subprocess.Popen[str]) -> list[Path]:
    while process.poll() is None:
        done = sorted(output.parent.glob(f"{output.name}.partial-*/{DONE}/*.json"))
        if len(done) >= count:
            return done
        time.sleep(0.001)
    pytest.fail(f"ended before {count} tasks were done: {process.communicate()[1]}")


def fingerprint(output: Path) -> str:
    manifest = read_manifest(output)
    assert manifest is not None
    return manifest.fingerprint


def test_two_ranks_publish_what_one_process_does(given: dict[str, object], tmp_path: Path) -> None:
    # Told before ranks begin, without a rank's name.
    short = given | {"tasks": ["kobest_copa"], "num_fewshot": 12, "processes": 2}
    with pytest.raises(ConfigError, match=r"^kobest_copa: 7 rows are too few for 12 shots"):
        evaluate(EvalConfig(output=tmp_path / "no", **short))
    alone = begin(tmp_path / "alone", given)
    assert alone.wait() == 0, alone.communicate()[1]
    process = begin(tmp_path / "two", given | {"processes": 2})
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert said.count("at its floor") >= 8
    assert said.count("average, table6") == 1  # by one of three processes
    assert fingerprint(tmp_path / "alone") == fingerprint(tmp_path / "two")


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_others_and_costs_no_task(given: dict[str, object], tmp_path: Path) -> None:
    output = tmp_path / "two"
    process = begin(output, given | {"processes": 2})
    wait_for_tasks(output, 3, process)
    rank_0, rank_1 = ranks_of(process)
    os.kill(rank_1.pid, signal.SIGKILL)
    said = process.communicate(timeout=ALL_END_SECONDS)[1]
    assert process.returncode == 1
    assert "rank 1 was killed by SIGKILL (out of memory?), the others were ended; the same command goes on" in said
    assert not rank_0.is_running()
    kept = {path.name: path.stat().st_mtime_ns for path in (partial_of(output) / DONE).glob("*.json")}
    # The launcher is killed next: its ranks end with it. Then a stop is asked for: 75. Then it goes on in one process.
    process = begin(output, given | {"processes": 2})
    wait_for_tasks(output, len(kept) + 1, process)
    ranks = ranks_of(process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(psutil.wait_procs(ranks, timeout=10)[0]) == 2
    done = len(list((partial_of(output) / DONE).glob("*.json")))  # the ranks may have gone on for a moment
    process = begin(output, given | {"processes": 2})
    wait_for_tasks(output, done + 1, process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=ALL_END_SECONDS)[1]
    assert process.returncode == 75, said
    assert said.splitlines()[-1] == "stopped; to go on, run the same command"
    after = {path.name: path.stat().st_mtime_ns for path in (partial_of(output) / DONE).glob("*.json")}
    assert kept.items() <= after.items()
    process = begin(output, given)
    assert process.wait() == 0
    alone = begin(tmp_path / "alone", given)
    assert alone.wait() == 0
    assert fingerprint(tmp_path / "alone") == fingerprint(output)


@pytest.mark.slow
def test_under_torchrun_rank_0_publishes(given: dict[str, object], tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    process = begin(tmp_path / "two", given, *torchrun)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert said.count("average, table6") == 1
    alone = begin(tmp_path / "alone", given)
    assert alone.wait() == 0
    assert fingerprint(tmp_path / "alone") == fingerprint(tmp_path / "two")
