"""A rank that dies: the others end soon, and the user is told which one died, and of what."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from bllossom.tokens.mixture import Mixture
from bllossom.tokens.shards import EDGE_BYTES
from bllossom.training.pretrain import PretrainConfig, open_mixture
from bllossom.training.runs import checkpoints
from tests.fixtures.command_runs import log_lines, partial_of, start, start_in_terminal, wait_for_step
from tests.fixtures.training import write_tokens

Settings = Callable[..., dict[str, Any]]

ALL_END_SECONDS = 60
ENDLESS = {"weights": {"ko": 7, "en": 3}, "max_epochs": 100}


def spoil(tokens: Path, mixture: Mixture, rows: list[int]) -> int:
    """Put an id that no vocabulary has into the first of these rows that lies where a shard's checksum does not look.

    Gives the row.
    """
    for row in rows:
        block = mixture.block(row)
        path = tokens / "shards" / block.language / "news.tokens"
        stored = bytearray(path.read_bytes())
        at = stored.find(block.ids.astype("<u2").tobytes())
        if EDGE_BYTES < at < len(stored) - EDGE_BYTES - 2 * len(block.ids):
            stored[at : at + 2] = np.uint16(65535).tobytes()
            path.write_bytes(stored)
            return row
    raise AssertionError("every row lies at the edge of a shard")


@pytest.fixture
def spoilt(settings: Settings, tmp_path: Path) -> tuple[dict[str, Any], int]:
    """A run of two ranks with a token that only rank 1 reads, and on which it fails, and the step it does so in."""
    tokens = write_tokens(tmp_path / "tokens", documents=5000)
    values = settings(tmp_path / "model", tokens=str(tokens), processes=2)
    rows_of_rank_1 = [row for row in range(3 * 8, 20 * 8) if row // 2 % 2]
    row = spoil(tokens, open_mixture(PretrainConfig(**values)), rows_of_rank_1)
    return values, row // 8 + 1


def test_error_of_one_rank_ends_the_others_and_is_told(
    spoilt: tuple[dict[str, Any], int], tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    values, step = spoilt
    process = start("-m", "bllossom.cli", "pretrain", "--config", write_yaml(values))
    wait_for_step(tmp_path / "model", step - 1, process)
    said = process.communicate(timeout=ALL_END_SECONDS)[1]
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        "error: rank 1 failed: IndexError: index out of range in self (traceback above), the others were ended; the "
        "same command goes on from what was saved"
    )
    # What rank 0 met is the lost connection to rank 1, often first: it would lead astray.
    assert said.count("Traceback") == 1
    assert "peer" not in said


@pytest.mark.slow
def test_error_of_one_rank_is_told_under_torchrun(
    spoilt: tuple[dict[str, Any], int], tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    values, step = spoilt
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    process = start(*torchrun, "-m", "bllossom.cli", "pretrain", "--config", write_yaml(values))
    wait_for_step(tmp_path / "model", step - 1, process)
    said = process.communicate(timeout=ALL_END_SECONDS)[1]
    assert process.returncode == 1
    assert "\n[rank1]: IndexError: index out of range in self\n" in said
    assert "peer" not in said


@pytest.mark.slow
def test_rank_that_does_not_answer_is_ended_with_the_others(
    settings: Settings, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    """As a rank that waits on a GPU for one that died: it reacts to nothing but SIGKILL."""
    output = tmp_path / "model"
    values = settings(output, steps=2000, processes=2, mixture=ENDLESS)
    process = start("-m", "bllossom.cli", "pretrain", "--config", write_yaml(values))
    wait_for_step(output, 3, process)
    rank_0, rank_1 = sorted(ranks_of(psutil.Process(process.pid)), key=lambda child: child.create_time())
    os.kill(rank_0.pid, signal.SIGSTOP)
    os.kill(rank_1.pid, signal.SIGKILL)
    said = process.communicate(timeout=ALL_END_SECONDS)[1]
    assert process.returncode == 1
    assert "error: rank 1 was killed by SIGKILL (out of memory?), the others were ended" in said
    assert not rank_0.is_running()


def ranks_of(launcher: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in launcher.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_ranks_end_with_a_launcher_that_is_killed(
    settings: Settings, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    output = tmp_path / "model"
    config = write_yaml(settings(output, steps=2000, processes=2, mixture=ENDLESS))
    process = start("-m", "bllossom.cli", "pretrain", "--config", config)
    wait_for_step(output, 3, process)
    ranks = ranks_of(psutil.Process(process.pid))
    assert len(ranks) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    gone, alive = psutil.wait_procs(ranks, timeout=10)
    assert (len(gone), alive) == (2, [])


@pytest.fixture
def _hangup_is_heard() -> Iterator[None]:
    """Under nohup, children would inherit that it is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_hangup_is_heard")
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_end_of_the_terminal_saves_as_sigterm_does(
    processes: int, settings: Settings, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    """The terminal is gone by then: what is said is lost, and nothing else."""
    output = tmp_path / "model"
    config = write_yaml(settings(output, steps=2000, processes=processes, mixture=ENDLESS, checkpoint_every=1000))
    with start_in_terminal("-m", "bllossom.cli", "pretrain", "--config", config) as process:
        wait_for_step(output, 3, process)
    assert process.wait(timeout=ALL_END_SECONDS) == 75
    newest = checkpoints.newest(partial_of(output) / "checkpoints")
    assert newest is not None
    assert newest.name == f"step-{len(log_lines(partial_of(output))):08d}"


@pytest.mark.usefixtures("_hangup_is_heard")
def test_a_hangup_of_the_whole_group_ends_without_a_traceback(
    settings: Settings, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    """As a closed ssh session sends it: to the launcher, its ranks and Python's own tracker of semaphores."""
    output = tmp_path / "model"
    config = write_yaml(settings(output, steps=2000, processes=2, mixture=ENDLESS))
    process = start("-m", "bllossom.cli", "pretrain", "--config", config)
    wait_for_step(output, 3, process)
    os.killpg(process.pid, signal.SIGHUP)
    said = "".join(filter(None, process.communicate(timeout=ALL_END_SECONDS)))
    assert process.returncode == 75
    assert "Traceback" not in said


STOPPED_BEFORE_THE_RANKS = """
import os, signal
from bllossom.ranks import launch
from bllossom.cli import main

begin = launch.elastic_launch

def asked(*settings):
    os.kill(os.getpid(), signal.SIGTERM)
    return begin(*settings)

launch.elastic_launch = asked
if __name__ == "__main__":
    main()
"""


def test_a_stop_before_there_is_a_rank_is_a_stop(
    settings: Settings, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    config = write_yaml(settings(tmp_path / "model", processes=2))
    process = start("-c", STOPPED_BEFORE_THE_RANKS, "pretrain", "--config", config)
    said = process.communicate(timeout=ALL_END_SECONDS)[1]
    assert process.returncode == 75, said
    assert said.splitlines()[-1] == "stopped; to go on, run the same command"
    assert "under way" not in said


@pytest.mark.usefixtures("_hangup_is_heard")
@pytest.mark.parametrize("ask", [os.kill, os.killpg], ids=["the launcher", "the group"])
def test_a_stop_while_ranks_load_is_a_stop(
    ask: Callable[[int, int], None], settings: Settings, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    """They have just begun to import what they need, and nothing of theirs hears it yet."""
    output = tmp_path / "model"
    process = start("-m", "bllossom.cli", "pretrain", "--config", write_yaml(settings(output, processes=2)))
    while len(ranks_of(psutil.Process(process.pid))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    ask(process.pid, signal.SIGTERM if ask is os.kill else signal.SIGHUP)
    said = process.communicate(timeout=ALL_END_SECONDS)[1]
    assert process.returncode == 75, said
    assert said.splitlines()[-1] == "stopped; to go on, run the same command"
    assert "error" not in said


def test_nohup_goes_on_without_its_terminal(
    settings: Settings, tmp_path: Path, write_yaml: Callable[..., Path]
) -> None:
    output = tmp_path / "model"
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from bllossom.cli import main; main()"
    process = start("-c", code, "pretrain", "--config", write_yaml(settings(output)))
    wait_for_step(output, 3, process)
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == 0
    assert len(log_lines(output)) == 20


@pytest.mark.parametrize("launched", [False, True])
def test_rank_of_another_launcher_ends_before_its_interpreter_is_taken_down(launched: bool, tmp_path: Path) -> None:
    code = "import atexit; atexit.register(print, 'taken down'); from bllossom.cli import main; main()"
    environment = os.environ | ({"WORLD_SIZE": "2"} if launched else {})
    command = [sys.executable, "-c", code, "verify", str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "was not published by bllossom" in ended.stdout + ended.stderr
    assert ("taken down" in ended.stdout) != launched
