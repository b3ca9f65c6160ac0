"""A training run as one rank sees it, and the part of it that is trained in one go."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from bllossom.errors import ConfigError
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.engine import Engine
from bllossom.training.engines.optimization import Trainable
from bllossom.training.runs.checkpoints import RunInputs, State
from bllossom.training.settings import LearningRate, TrainingConfig

Config = TypeVar("Config", bound=TrainingConfig, covariant=True)


@dataclass(frozen=True)
class Run(Generic[Config]):
    """What stays the same from a run's first step to its last."""

    config: Config
    folder: Path  # the partial folder: checkpoints, logs, and at the end what is published
    ranks: Ranks
    inputs: RunInputs  # what a checkpoint must have been made from to be gone on from


@dataclass(frozen=True)
class Segment:
    """Steps `first` to `first + steps` of a run: all of it, or one of its phases."""

    steps: int
    rows_per_step: int
    learning_rate: LearningRate
    first: int = 0
    phase: int = 0
    total: int = 0  # steps of the whole run, for what is said
    trainable: Trainable = "all"

    @property
    def end(self) -> int:
        """The step after the last one."""
        return self.first + self.steps


Score = Callable[[Engine, Callable[[], bool]], dict[str, float] | None]
"""Scores held-out data, by language; less is better. None where the second argument says that a stop was asked for."""


@dataclass(frozen=True)
class Watch:
    """What is looked at along the way, beside the loss."""

    score: Score | None = None
    score_name: str = "validation_loss_bits"
    evaluate_every: int | None = None  # steps; the last one is always scored
    evaluate_at: frozenset[int] = frozenset()  # steps that are scored, too
    keep_best: bool = False  # end with the weights that scored best, not with the last
    patience: int | None = None  # end after so many scores in a row that are no better than the best
    row_tokens: int = 0  # where every row has as many: for the share of the machine's speed that is used
    flops_per_token: float = 0.0
    matmul_limit: float = math.inf  # floating-point operations a second that all ranks together could do

    def due(self, done: int, end: int) -> bool:
        """Whether held-out data are scored after `done` steps of `end`."""
        every = self.evaluate_every is not None and done % self.evaluate_every == 0
        return self.score is not None and (done == end or every or done in self.evaluate_at)

    def ends_early(self, state: State) -> bool:
        """Whether the score has not got better for long enough."""
        return self.patience is not None and state.scores_since_best >= self.patience


def accumulation_of(rows_per_step: int, config: TrainingConfig, world: int, unit: str, size: int = 1) -> int:
    """Micro-batches of one rank in a step.

    Raises:
        ConfigError: ranks × micro-batch does not divide the global batch; names the nearest that fit, in `unit`
            (`size` of which are a row).
    """
    stride = config.micro_batch * world
    if rows_per_step % stride == 0:
        return rows_per_step // stride
    below, above = rows_per_step // stride * stride, math.ceil(rows_per_step / stride) * stride
    fits = " or ".join(f"{rows * size:,}" for rows in (below, above) if rows)
    raise ConfigError(
        f"{rows_per_step * size:,} {unit} a step are not a multiple of {world} ranks × micro_batch "
        f"{config.micro_batch}{f' × {size:,}' if size > 1 else ''} = {stride * size:,} {unit}; the nearest that fit: "
        f"{fits}; or change micro_batch"
    )


def figures_of(state: State, score_name: str = "validation_loss_bits") -> dict[str, Any]:
    """What a manifest tells of the training; `last_loss` is by group, or one `loss` where there are no groups."""
    told = {name: round(value, 6) for name, value in state.losses.items()}
    groups = {name.removeprefix("loss/"): loss for name, loss in told.items() if name.startswith("loss/")}
    beside = {name: value for name, value in told.items() if not name.startswith("loss/")}
    figures: dict[str, Any] = {
        "steps": state.step,
        "supervised_tokens": state.tokens,
        "last_loss": groups or {"loss": round(state.recent[-1], 6)},
    }
    if beside:
        figures["last_step"] = beside
    if state.heldout:
        figures[score_name] = {language: round(bits, 6) for language, bits in state.heldout.items()}
    return figures
