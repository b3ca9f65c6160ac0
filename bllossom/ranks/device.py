"""What a run trains on: decided from its config and the number of GPUs alone."""

from typing import Literal

import torch

from bllossom.errors import ConfigError

Gpus = int | Literal["auto"]
DeviceType = Literal["cuda", "cpu"]


def device_type(gpus: Gpus, available: int) -> DeviceType:
    """Where a run with this key trains on a machine that has `available` GPUs."""
    return "cpu" if gpus == 0 or not available else "cuda"


def local_ranks(gpus: Gpus, processes: int, available: int) -> int:
    """Ranks to start on a machine that has `available` GPUs.

    Raises:
        ConfigError: more GPUs than there are.
    """
    if gpus == "auto":
        return available or processes
    if gpus > available:
        raise ConfigError(f"gpus: {gpus} asked for, {available} are here; set gpus to {available or 'auto'}")
    return gpus or processes


def device_here(gpus: Gpus) -> DeviceType:
    """Where a run with this key trains on this machine."""
    return device_type(gpus, torch.cuda.device_count())
