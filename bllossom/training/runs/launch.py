"""How a training stage is started on ranks: what is checked of its partial folder, and what its engine needs first."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import distributed

from bllossom.artifacts import Inputs, Manifest
from bllossom.ranks import launch, ranks
from bllossom.ranks.device import device_here
from bllossom.ranks.launch import Work, publish_by_ranks
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.deepspeed_engine import name_accelerator
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checkpoints import CHECKPOINTS, PHASES, RunInputs
from bllossom.training.runs.log import check_trackers
from bllossom.training.settings import TrainingConfig

Config = TypeVar("Config", bound=TrainingConfig)


def rank_count(config: TrainingConfig) -> int:
    """How many ranks the run will have.

    Raises:
        ConfigError: more GPUs than there are.
    """
    return launch.rank_count(config.gpus, config.processes)


def publish_trained(
    config: Config,
    *,
    stage: str,
    inputs: Inputs,
    run_inputs: Callable[[Path], RunInputs],
    work: Work[Config],
    force: bool,
) -> Manifest:
    """Publish what `work` leaves in its folder.

    `run_inputs` gives, by the partial folder, what a checkpoint must have been made from to be used.

    Raises:
        BllossomError: a checkpoint of another run, number of ranks or data is in the way; or a rank failed.
        Stopped: stopped on request; the same command goes on.
    """
    world, device = rank_count(config), device_here(config.gpus)
    name_accelerator(device)
    check_trackers(config.track)

    def check(folder: Path) -> None:
        needed = run_inputs(folder)
        checkpoints.refuse_other_runs(folder, config, inputs, needed)
        checkpoints.set_damaged_aside(folder / CHECKPOINTS)
        if newest := checkpoints.newest(folder / CHECKPOINTS):
            checkpoints.check(newest, engine=config.engine_name(), ranks=world, inputs=needed)

    return publish_by_ranks(
        config,
        stage=stage,
        inputs=inputs,
        world=world,
        device=device,
        check=check,
        work=partial(_work, work),
        force=force,
        scratch=[CHECKPOINTS, PHASES],
    )


def _work(work: Work[Config], config: Config, folder: Path, mine: Ranks) -> dict[str, Any]:
    """Work with a process group of this process where there is none: DeepSpeed wants one, and looks for MPI else.

    It stays for the steps of a recipe to come: DeepSpeed keeps groups made from the first one it met.
    """
    if config.deepspeed is not None and not distributed.is_initialized():
        os.environ.setdefault("LOCAL_RANK", "0")
        group = distributed.HashStore()
        distributed.init_process_group(ranks.backend_of(device_here(config.gpus)), store=group, rank=0, world_size=1)
    return work(config, folder, mine)
