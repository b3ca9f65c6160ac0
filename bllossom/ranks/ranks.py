"""The ranks of a run: which one this is, and the little they tell each other outside the engine.

One process is rank 0 of 1 and needs no process group. Sums are float64 and go over the CPU, on GPU machines too.
"""

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, TypeVar

import torch
from pydantic import BaseModel
from torch import distributed

from bllossom.errors import BllossomError
from bllossom.ranks.device import DeviceType

T = TypeVar("T")

FIRST_FAILURE = "bllossom/first-failure"
PATIENCE = timedelta(hours=2)
"""How long ranks wait for one another: rank 0 may be hashing or writing a model of many gigabytes meanwhile."""


class Failure(BaseModel):
    """What a rank died of."""

    rank: int
    message: str  # names the rank, and the error's class where it was not an expected one
    traceback: str  # empty where the error was an expected one

    @classmethod
    def of(cls, rank: int, error: Exception) -> Self:
        """The failure of `rank` with this error."""
        if isinstance(error, BllossomError):
            return cls(rank=rank, message=f"rank {rank}: {error}", traceback="")
        message = f"rank {rank} failed: {type(error).__name__}: {error}"
        return cls(rank=rank, message=message, traceback="".join(traceback.format_exception(error)).rstrip())


@dataclass(frozen=True)
class Ranks:
    """Rank `rank` of `world`, on `device`."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True on the rank that writes and talks."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all ranks of each value."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(tensor)
        return tensor.tolist()

    def from_first(self, value: Any) -> Any:
        """What rank 0 has for `value`, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def gather(self, value: T) -> list[T]:
        """What each rank has for `value`, in their order, on every rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value)
        return found

    def first_failure(self, error: Exception) -> Failure:
        """The failure that came first, where this rank now fails with `error`: its own, or the one it is an echo of.

        Ask before this rank's connections close. Then what the others meet because they closed comes second for sure.
        """
        own = Failure.of(self.rank, error)
        if self.world == 1:
            return own
        try:
            store = distributed.distributed_c10d._get_default_store()
            return Failure.model_validate_json(store.compare_set(FIRST_FAILURE, "", own.model_dump_json()))
        except RuntimeError:  # whoever kept the store was killed
            return own

    def wait(self) -> None:
        """Go on once every rank has come here."""
        self.sum([0.0])


def alone(on: DeviceType) -> Ranks:
    """The ranks of one process."""
    return Ranks(0, 1, _device(on, 0))


def launched_from_outside() -> bool:
    """True where torchrun, the deepspeed launcher, Slurm's template or Kubernetes started this process as a rank."""
    return "WORLD_SIZE" in os.environ


def backend_of(device: DeviceType) -> str:
    """The process group's backend. Beside GPUs the CPU has its own: see Ranks.sum."""
    return "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"


def join(on: DeviceType) -> Ranks:
    """Join the process group that the environment describes (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).

    Raises:
        BllossomError: the environment is incomplete, the port is taken, or another number of ranks came.
    """
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise BllossomError(f"{', '.join(missing)} not set: start the ranks with torchrun, or unset WORLD_SIZE")
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = _device(on, int(os.environ.get("LOCAL_RANK", rank)))
    if on == "cuda":
        torch.cuda.set_device(device)
    elif "OMP_NUM_THREADS" not in os.environ:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local))
    try:
        if not distributed.is_initialized():  # it is, in the second run of one process
            distributed.init_process_group(backend_of(on), timeout=PATIENCE)
    except (RuntimeError, ValueError, OSError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        if "in use" in str(error):
            raise BllossomError(f"{address} is taken; set MASTER_PORT to a free port") from error
        raise BllossomError(f"the ranks did not find each other at {address} ({_line(error)})") from error
    # Under HF Trainer ranks on CPU were seen to train copies apart from each other, and to end well.
    if distributed.get_world_size() != world:
        raise BllossomError(f"{distributed.get_world_size()} ranks came, WORLD_SIZE is {world}; start all of them")
    return Ranks(rank, world, device)


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def leave() -> None:
    """Leave the process group, if one was joined."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _device(on: DeviceType, local_rank: int) -> torch.device:
    return torch.device("cuda", local_rank) if on == "cuda" else torch.device("cpu")
