"""What a run trains on: decided from its config and the number of GPUs alone."""

from typing import Literal

import torch

from bllossom.errors import ConfigError

Gpus = int | Literal["auto"]
DeviceType = Literal["cuda", "cpu"]


def device_type(gpus: Gpus, there: int) -> DeviceType:
    """Where a run with this key trains on a machine that has `there` GPUs."""
    return "cpu" if gpus == 0 or not there else "cuda"


def local_ranks(gpus: Gpus, processes: int, there: int) -> int:
    """Ranks to start on a machine that has `there` GPUs.

    Raises:
        ConfigError: more GPUs than there are.
    """
    if gpus == "auto":
        return there or processes
    if gpus > there:
        raise ConfigError(f"gpus: {gpus} asked for, {there} are here; set gpus to {there or 'auto'}")
    return gpus or processes


def device_here(gpus: Gpus) -> DeviceType:
    """Where a run with this key trains on this machine."""
    return device_type(gpus, torch.cuda.device_count())
