"""The room on disk that a training run takes: one rule for the plan and for the check before the first step."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from bllossom.console import size_text
from bllossom.errors import BllossomError
from bllossom.training.engines.deepspeed_engine import read_settings, stage_of
from bllossom.training.planning.footprint import Strategy
from bllossom.training.settings import TrainingConfig


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that are on disk at once, at worst."""

    checkpoint: float
    checkpoints: int  # the newest `keep`, the best, and the one being written
    left_by_phases: float
    published: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.checkpoint * self.checkpoints + self.left_by_phases + self.published


def disk_need(config: TrainingConfig, strategy: Strategy, *, trained: int, parameters: int, phases: int) -> DiskNeed:
    """What a run of `phases` phases needs, of a model of `parameters` of which at most `trained` train, adapters
    included. With lora it is the adapter that is published, and left by phases: everything that trains."""
    saved = parameters if config.lora is None else trained
    return DiskNeed(
        checkpoint=checkpoint_bytes(trained, strategy, bf16=config.bf16),
        checkpoints=config.keep + 2,
        left_by_phases=4.0 * saved * (phases - 1),  # in fp32, whatever is published
        published=saved * (2.0 if config.save_dtype == "bf16" else 4.0),
    )


def checkpoint_bytes(trained: int, strategy: Strategy, *, bf16: bool) -> float:
    """Bytes of a training checkpoint: fp32 weights and two moments of what trains. DeepSpeed's ZeRO 1 and 2 write the
    weights once more as they compute with them; ZeRO-3 does not, nor do replicas, which have no others."""
    again = (2 if bf16 else 4) if strategy in ("zero1", "zero2") else 0
    return float(trained * (12 + again))


def strategy_of(config: TrainingConfig) -> Strategy:
    """What the checkpoints of a config are written as. A JSON without ZeRO writes no more than ZeRO 1."""
    if config.deepspeed is None:
        return "replicas"
    return "zero3" if stage_of(read_settings(str(config.deepspeed))) == 3 else "zero1"


def check_disk(folder: Path, need: DiskNeed) -> None:
    """Refuse to train in the partial output `folder` where not everything that the run writes will fit.

    Raises:
        BllossomError: says what is free and what is needed.
    """
    written = [path for path in folder.rglob("*") if path.is_file()]  # the model, too, where only publishing was left
    written_bytes = sum(path.stat().st_size for path in written)
    free = shutil.disk_usage(folder).free
    if free + written_bytes >= need.total:
        return
    phases = f", {size_text(need.left_by_phases)} that phases leave" if need.left_by_phases else ""
    raise BllossomError(
        f"{folder}: {size_text(free)} are free, {size_text(need.total - written_bytes)} are needed "
        f"({need.checkpoints} checkpoints of {size_text(need.checkpoint)}{phases}, {size_text(need.published)} to "
        "publish); free some room, lower keep, or move the output"
    )
