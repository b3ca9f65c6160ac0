"""One process, or one rank of many: how a training stage is started, and who publishes.

gpus/processes = 1      this process does everything
gpus/processes = N      this process publishes; torch's elastic launcher starts N ranks that train
WORLD_SIZE is set       this process is a rank of torchrun, the deepspeed launcher, Slurm or Kubernetes: rank 0
                        publishes, the others work beside it and wait until it has
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil
import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, get_error_handler
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from bllossom.artifacts import Manifest, publish, read_manifest
from bllossom.console import say
from bllossom.errors import BllossomError, Stopped
from bllossom.training.engines.deepspeed_engine import name_accelerator
from bllossom.training.ranks import ranks
from bllossom.training.ranks.device import DeviceType, device_here, local_ranks
from bllossom.training.ranks.ranks import Failure, Ranks
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checkpoints import CHECKPOINTS, Reads
from bllossom.training.runs.log import check_trackers
from bllossom.training.settings import TrainingConfig

Config = TypeVar("Config", bound=TrainingConfig, contravariant=True)


class Work(Protocol[Config]):
    """A module-level function that trains in a partial folder, on every rank, and gives the stage's figures."""

    def __call__(self, config: Config, folder: Path, ranks: Ranks, /) -> dict[str, Any]:
        """Do the work; what it gives counts on rank 0 only."""
        ...


def rank_count(config: TrainingConfig) -> int:
    """How many ranks the run will have.

    Raises:
        ConfigError: more GPUs than there are.
    """
    if ranks.launched_from_outside():
        return int(os.environ["WORLD_SIZE"])
    return local_ranks(config.gpus, config.processes, torch.cuda.device_count())


def publish_trained(
    config: Config,
    *,
    stage: str,
    inputs: Mapping[str, Path],
    reads: Reads,
    work: Work[Config],
    force: bool,
) -> Manifest:
    """Publish what `work` leaves in its folder. `reads` is what a checkpoint must have been made from to be used.

    Raises:
        BllossomError: a checkpoint of another run, number of ranks or data is in the way; or a rank failed.
        Stopped: stopped on request; the same command goes on.
    """
    world = rank_count(config)
    name_accelerator(device_here(config.gpus))
    check_trackers(config.track)

    def build(start: Callable[[Path], dict[str, Any]]) -> Callable[[Path], dict[str, Any]]:
        def checked(folder: Path) -> dict[str, Any]:
            checkpoints.refuse_other_runs(folder, config.output, reads)
            if newest := checkpoints.newest(folder / CHECKPOINTS):
                checkpoints.check(newest, engine=config.engine_name(), ranks=world, reads=reads)
            return start(folder)

        return checked

    if ranks.launched_from_outside():
        return _publish_as_rank(
            config, work, lambda start: publish(config, stage=stage, inputs=inputs, build=build(start), force=force)
        )
    start = _alone(config, work) if world == 1 else _launched(config, work, world)
    return publish(config, stage=stage, inputs=inputs, build=build(start), force=force)


def _alone(config: Config, work: Work[Config]) -> Callable[[Path], dict[str, Any]]:
    device = device_here(config.gpus)

    def start(folder: Path) -> dict[str, Any]:
        if config.deepspeed is not None and not distributed.is_initialized():
            _make_group_of_one(device)
        return work(config, folder, ranks.alone(device))

    return start


def _make_group_of_one(device: DeviceType) -> None:
    """A process group of this process: DeepSpeed wants one, and looks for MPI where there is none.

    It stays for the steps of a recipe to come: DeepSpeed keeps groups made from the first one it met.
    """
    os.environ.setdefault("LOCAL_RANK", "0")
    distributed.init_process_group(ranks.backend_of(device), store=distributed.HashStore(), rank=0, world_size=1)


def _publish_as_rank(
    config: Config, work: Work[Config], publish_with: Callable[[Callable[[Path], dict[str, Any]]], Manifest]
) -> Manifest:
    """Rank 0 publishes, and tells the others what to do: train in this folder, or end."""
    mine = ranks.join(device_here(config.gpus))
    if mine.first:
        return _publish_as_first(config, work, mine, publish_with)
    told = mine.from_first(None)
    if isinstance(told, Path):
        _work_among_others(work, config, told, mine)
        told = mine.from_first(None)
    if told is not None:
        raise BllossomError(f"rank 0 says: {told}")
    manifest = read_manifest(config.output)
    if manifest is None:
        raise BllossomError(f"{config.output} is not on this machine: all nodes need the same file system")
    return manifest


def _publish_as_first(
    config: Config,
    work: Work[Config],
    mine: Ranks,
    publish_with: Callable[[Callable[[Path], dict[str, Any]]], Manifest],
) -> Manifest:
    training = False

    def start(folder: Path) -> dict[str, Any]:
        nonlocal training
        mine.from_first(folder.absolute())
        training = True
        figures = _work_among_others(work, config, folder, mine)
        training = False
        return figures

    try:
        manifest = publish_with(start)
    except Exception as error:
        if not training:  # while training the others meet the same error, or lose their connection to this rank
            mine.from_first(f"{error}")
        raise
    mine.from_first(None)
    return manifest


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
        told = first.message if first.rank == mine.rank else f"{first.message.splitlines()[0]} (rank {mine.rank} ends)"
        raise BllossomError(told) from error


def _launched(config: Config, work: Work[Config], world: int) -> Callable[[Path], dict[str, Any]]:
    def start(folder: Path) -> dict[str, Any]:
        # They repeat each rank's traceback in frames of their own; what matters is told below, once.
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
            signals_to_handle="SIGHUP,SIGQUIT",  # SIGTERM and SIGINT are ours
        )
        with _forward_stop_requests():
            try:
                results = elastic_launch(launch, _rank_main)(work, config, folder)
            except ChildFailedError as error:
                rank, failure = error.get_first_failure()
                raise _told(rank, failure) from error
        if stopped := results[0].get("stopped"):
            raise Stopped(stopped)
        return results[0]["figures"]

    return start


class RankFailedError(Exception):
    """A Failure as JSON, in the one form that the launcher hands on: an exception's text."""


def _rank_main(work: Work[Config], config: Config, folder: Path) -> dict[str, Any]:
    """What each launched rank runs. Being stopped is a result: an error would have the launcher kill the others.

    Once a rank has died the launcher sends the others SIGTERM, and 30 seconds later SIGKILL.
    """
    mine = ranks.join(device_here(config.gpus))
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


def _told(rank: int, failure: ProcessFailure) -> BllossomError:
    """What the launcher found of a rank that died, as one message; `rank` may have failed only because another had."""
    if failure.exitcode < 0:
        name = failure.signal_name()
        return BllossomError(
            f"rank {rank} was killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}, the others were "
            "ended; the same command goes on from the last checkpoint"
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
        f"{first.message} (traceback above), the others were ended; the same command goes on from the last checkpoint"
    )


@contextmanager
def _forward_stop_requests() -> Iterator[None]:
    """Hand SIGTERM and Ctrl-C on to the ranks, which end after their step, and wait for them."""

    def forward(number: int, _: object) -> None:
        say("stopping after this step")
        for child in psutil.Process().children():
            child.send_signal(signal.SIGTERM)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
