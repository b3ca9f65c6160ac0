"""One process, or one rank of many: how a stage is started on ranks, and who publishes.

gpus/processes = 1      this process does everything
gpus/processes = N      this process publishes; torch's elastic launcher starts N ranks that work
WORLD_SIZE is set       this process is a rank of torchrun, the deepspeed launcher, Slurm or Kubernetes: rank 0
                        publishes, the others work beside it and wait until it has
"""

import logging
import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, get_error_handler
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bllossom.artifacts import Inputs, Manifest, publish, read_manifest
from bllossom.config import StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError, Stopped
from bllossom.ranks import ranks
from bllossom.ranks.device import DeviceType, Gpus, local_ranks
from bllossom.ranks.lifetime import end_with, stop_signals
from bllossom.ranks.ranks import Failure, Ranks

Config = TypeVar("Config", bound=StageConfig, contravariant=True)


class Work(Protocol[Config]):
    """A function that works in a partial folder, on every rank, and gives the stage's figures.

    Where ranks are launched it is sent to them: a function of a module, or a functools.partial of one.
    """

    def __call__(self, config: Config, folder: Path, ranks: Ranks, /) -> dict[str, Any]:
        """Do the work; what it gives counts on rank 0 only."""
        ...


def rank_count(gpus: Gpus, processes: int) -> int:
    """How many ranks a run with these keys will have.

    Raises:
        ConfigError: more GPUs than there are.
    """
    if ranks.launched_from_outside():
        return int(os.environ["WORLD_SIZE"])
    return local_ranks(gpus, processes, torch.cuda.device_count())


def publish_by_ranks(
    config: Config,
    *,
    stage: str,
    inputs: Inputs,
    world: int,
    device: DeviceType,
    check: Callable[[Path], None],
    work: Work[Config],
    force: bool,
    added_inputs: Collection[str] = (),
    scratch: Collection[str] = (),
) -> Manifest:
    """Publish what `work` leaves in its folder, but for `scratch`, what it goes on from; `added_inputs` as in publish.

    `check` looks at the partial folder, and whatever else can be wrong, before any rank works.

    Raises:
        BllossomError: `check` found something, or a rank failed.
        Stopped: stopped on request, at whatever the ranks were; the same command goes on.
    """
    joined = ranks.launched_from_outside()
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun, when it is killed, leaves its ranks as our launcher would
        end_with(os.getppid())
    mine = ranks.join(device) if joined else ranks.alone(device)
    if not mine.first:
        return _follow(config, work, mine)
    working = False

    def build(folder: Path) -> dict[str, Any]:
        nonlocal working
        check(folder)
        mine.from_first(folder.absolute())  # the others work beside this rank
        working = True
        figures = _start(work, config, folder, mine, world, device, joined)
        working = False
        return figures

    try:
        manifest = publish(
            config, stage=stage, inputs=inputs, build=build, force=force, added_inputs=added_inputs, scratch=scratch
        )
    except Exception as error:
        if not working:  # while working the others meet the same error, or lose their connection to this rank
            mine.from_first(f"{error}")
        raise
    mine.from_first(None)
    return manifest


def _follow(config: Config, work: Work[Config], mine: Ranks) -> Manifest:
    """What the other ranks of another launcher do: work where rank 0 says, or end, and wait until it has published."""
    message = mine.from_first(None)
    if isinstance(message, Path):
        _work_among_others(work, config, message, mine)
        message = mine.from_first(None)
    if message is not None:
        raise BllossomError(f"rank 0 says: {message}")
    manifest = read_manifest(config.output)
    if manifest is None:
        raise BllossomError(f"{config.output} is not on this machine: all nodes need the same file system")
    return manifest


def _start(
    work: Work[Config], config: Config, folder: Path, mine: Ranks, world: int, device: DeviceType, joined: bool
) -> dict[str, Any]:
    """Work as a rank of another launcher's, on ranks of our own, or in this process alone."""
    if joined:
        return _work_among_others(work, config, folder, mine)
    if world > 1:
        return _launch(work, config, folder, world, device)
    return work(config, folder, mine)


def _work_among_others(work: Work[Config], config: Config, folder: Path, mine: Ranks) -> dict[str, Any]:
    """Work as a rank that something else started; where it fails, say which rank was the first to fail, and of what."""
    try:
        return work(config, folder, mine)
    except Stopped:
        raise
    except Exception as error:
        first = mine.first_failure(error)
        if first.rank == mine.rank and first.traceback:
            raise  # torch puts the rank before each line of its traceback
        message = (
            first.message if first.rank == mine.rank else f"{first.message.splitlines()[0]} (rank {mine.rank} ends)"
        )
        raise BllossomError(message) from error


def _launch(work: Work[Config], config: Config, folder: Path, world: int, device: DeviceType) -> dict[str, Any]:
    """Let torch's elastic launcher start the ranks, and wait for what the first one gives."""
    # They repeat each rank's traceback in frames of their own; what matters is said below, once.
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=world,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # the system picks a free port
        local_addr="localhost",
        max_restarts=0,
        start_method="spawn",
        signals_to_handle="SIGQUIT",  # the others are ours
    )
    _start_tracker()
    with _forward_stop_requests() as stop:
        try:
            results = elastic_launch(launch, _rank_main)(work, config, folder, device, os.getpid())
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if stop.asked and -failure.exitcode in stop_signals():
                # Where a rank loads or publishes, nothing hears it but the signal's default action.
                raise Stopped from error
            raise _rank_error(rank, failure) from error
        if stop.unheard:  # torch may keep an exception to itself where it waits for others to end
            raise Stopped
    if stopped := results[0].get("stopped"):
        raise Stopped(stopped)
    return results[0]["figures"]


def _start_tracker() -> None:
    """Start Python's own process that keeps count of the ranks' semaphores so that a closed terminal leaves it alone.

    It ignores what else asks to stop. Ended by SIGHUP, it is started anew at the ranks' end, knows of nothing that they
    opened, and says so in tracebacks.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which a process hands on to those it starts
    try:
        resource_tracker.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, before)


class RankFailedError(Exception):
    """A Failure as JSON, in the one form that the launcher hands on: an exception's text."""


def _rank_main(work: Work[Config], config: Config, folder: Path, device: DeviceType, launcher: int) -> dict[str, Any]:
    """What each launched rank runs. Being stopped is a result: an error would have the launcher kill the others.

    Once a rank has died the launcher sends the others SIGTERM, and 30 seconds later SIGKILL. Where the launcher dies,
    the process `launcher`, they end with it.
    """
    end_with(launcher)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as SIGTERM: torch's processes take a KeyboardInterrupt for an end
    mine = ranks.join(device)
    try:
        result: dict[str, Any] = {"figures": work(config, folder, mine)}
    except Stopped as stopped:
        result = {"stopped": str(stopped)}
    except Exception as error:
        failure = mine.first_failure(error)
        get_error_handler().record_exception(RankFailedError(failure.model_dump_json()))
        raise SystemExit(1) from None  # without leaving the group, for which NCCL may wait for the others
    ranks.leave()
    return result


def _rank_error(rank: int, failure: ProcessFailure) -> BllossomError:
    """What the launcher found of a rank that died, as one message; `rank` may have failed only because another had."""
    if failure.exitcode < 0:
        name = failure.signal_name()
        return BllossomError(
            f"rank {rank} was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}, the others were "
            "ended; the same command goes on from what was saved"
        )
    # A dict where the rank recorded its error, as "class: text".
    recorded = failure.message["message"] if isinstance(failure.message, dict) else failure.message
    kind, _, text = recorded.partition(": ")
    if kind != RankFailedError.__name__:  # it could not even join the others
        return BllossomError(text if kind in ("BllossomError", "ConfigError") else f"rank {rank} failed: {recorded}")
    first = Failure.model_validate_json(text)
    if not first.traceback:
        return BllossomError(first.message)
    say(first.traceback)
    return BllossomError(
        f"{first.message} (traceback above), the others were ended; the same command goes on from what was saved"
    )


@dataclass
class _Stop:
    """Whether anything asked to stop, and whether there was no rank to hear it."""

    asked: bool = False
    unheard: bool = False


@contextmanager
def _forward_stop_requests() -> Iterator[_Stop]:
    """Hand what asks to stop on to the ranks, which end at a consistent place, and wait for them. Where there are none,
    not yet or no longer, nothing is under way.

    Raises:
        Stopped: there were none.
    """
    stop = _Stop()
    before = {child.pid for child in psutil.Process().children()}

    def forward(*_: object) -> None:
        stop.asked = True
        started = [child for child in psutil.Process().children() if child.pid not in before]
        if not started:
            stop.unheard = True
            raise Stopped
        say("stopping once what is under way is saved")
        for child in started:
            child.send_signal(signal.SIGTERM)

    previous = {number: signal.signal(number, forward) for number in stop_signals()}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
