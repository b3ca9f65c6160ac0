"""What a run says of each step: a line of JSON always, and the trackers that accelerate brings if asked for."""

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from bllossom.artifacts import LOGS
from bllossom.console import progress
from bllossom.errors import ConfigError
from bllossom.memory import peak_rss_bytes
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.flops import training_flops_per_token
from bllossom.training.settings import Tracker, TrainingConfig

LOG = "train.jsonl"


class StepLog:
    """Writes a step's figures everywhere; on other ranks than the first it does nothing."""

    def __init__(self, file: Any, advance: Any, trackers: list[Any]) -> None:
        self._file, self._advance, self._trackers = file, advance, trackers

    def write(self, step: int, figures: dict[str, Any]) -> None:
        """Log the figures of `step` (counted from 1)."""
        if self._file is None:
            return
        self._file.write(json.dumps({"step": step} | figures) + "\n")
        self._file.flush()
        for tracker in self._trackers:
            tracker.log(figures, step=step)
        loss, speed = figures["loss"], figures["tokens_per_second"]
        self._advance(1, f"loss {loss:.4f}, {speed:,.0f} tokens/s")


@contextmanager
def step_log(folder: Path, config: TrainingConfig, ranks: Ranks, *, done: int, steps: int) -> Iterator[StepLog]:
    """Go on with the log below `folder` after `done` steps: lines of later steps are about to be made again."""
    if not ranks.first:
        yield StepLog(None, None, [])
        return
    path = folder / LOGS / LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf8").splitlines(keepends=True) if path.exists() else []
    path.write_text("".join(line for line in lines if _step_of(line) <= done), encoding="utf8")
    trackers = [_tracker(name, path.parent, config, ranks, done) for name in config.track]
    try:
        with path.open("a", encoding="utf8") as file, progress("training", steps) as advance:
            advance(done)
            yield StepLog(file, advance, trackers)
    finally:
        for tracker in trackers:
            tracker.finish()  # also when the run stops: a tracker holds back what it has not written yet


def _step_of(line: str) -> float:
    """The step of a line of the log; infinite where a kill cut it."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except ValueError:
        return math.inf


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed, before anything is loaded.

    Raises:
        ConfigError: names them and what to install.
    """
    if not names:
        return
    from accelerate.tracking import get_available_trackers

    missing = sorted(set(names) - {tracker.value for tracker in get_available_trackers()})
    if missing:
        message = f"track: {', '.join(missing)} cannot be used here"
        raise ConfigError(f"{message}; pip install {' '.join(missing)}, or leave it out")


def _tracker(name: Tracker, folder: Path, config: TrainingConfig, ranks: Ranks, done: int) -> Any:
    """A tracker that goes on after `done` steps.

    TensorBoard is told to forget what a killed run had logged after its last checkpoint. The other trackers cannot;
    each start is a run of its own there.
    """
    from accelerate.state import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    before, threads = dict(os.environ), torch.get_num_threads()
    PartialState(cpu=ranks.device.type == "cpu")  # else it takes a GPU wherever there is one
    # Where a process group is, it leaves RANK and others in the environment, which the next stage of a recipe would
    # take for a launcher's, and another number of threads, with which sums round differently.
    for added in os.environ.keys() - before.keys():
        del os.environ[added]
    torch.set_num_threads(threads)
    run = config.output.name
    local = {"logging_dir": folder, "purge_step": done + 1} if name == "tensorboard" else {}
    known = name == "tensorboard" and (folder / run).exists()
    tracker = LOGGER_TYPE_TO_CLASS[name](run, **local)
    tracker.start()
    if not known:  # TensorBoard would list the config once for every start
        tracker.store_init_configuration({key: str(value) for key, value in config.model_dump(mode="json").items()})
    return tracker


def flops_per_token(config: PretrainedConfig, parameters: int, tokens: int) -> float:
    """Floating-point operations of one forward and backward pass, per token of a row of `tokens` tokens.

    Counted as the plan counts them (see training_flops_per_token).
    """
    looked_up = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    return training_flops_per_token(parameters - looked_up, config.num_hidden_layers, width, tokens)


def matmul_limit(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second that this device reaches on a large matrix product: the most of three."""
    size = 8192 if device.type == "cuda" else 1024
    left = torch.ones(size, size, device=device, dtype=dtype)
    rates = []
    for _ in range(3):
        started = time.perf_counter()
        result = left @ left
        float(result[0, 0])  # waits for a GPU
        rates.append(2.0 * size**3 / (time.perf_counter() - started))
    return max(rates)


def memory_bytes(device: torch.device) -> int:
    """Peak memory so far: the GPU's, or the process's resident memory."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_rss_bytes()
