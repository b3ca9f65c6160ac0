"""The training loop that pretrain and sft share. It is short so that exactness can be read off it.

A step is a pure function of the weights, the optimizer's state and the step's number: its rows are
`step * rows_per_step …`, its learning rate follows from its number, and nothing is drawn at random. So a run that was
killed goes on from its checkpoint to the same weights, bit for bit.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from bllossom.artifacts import LOGS
from bllossom.console import progress, say
from bllossom.errors import BllossomError, Stopped
from bllossom.training import checkpoints
from bllossom.training.loss import group_losses
from bllossom.training.optimization import Trainable, learning_rate_at, make_optimizer
from bllossom.training.rows import Row, RowSource, collate
from bllossom.training.settings import TrainingConfig

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class StepResult:
    """Means over the step's supervised tokens (nats a token), and the gradient's L2 norm before clipping."""

    loss: float
    losses: dict[str, float]
    gradient_norm: float
    tokens: int


def train(
    model: PreTrainedModel,
    source: RowSource,
    config: TrainingConfig,
    folder: Path,
    *,
    steps: int,
    rows_per_step: int,
    trainable: Trainable = "all",
    describe_rows: Callable[[int], str] = str,
) -> dict[str, Any]:
    """Train for `steps` steps, or for those that are left after the newest checkpoint in `folder`.

    `describe_rows(index)` names a row where the loss is not a number. Gives the figures of the run.

    Raises:
        Stopped: SIGTERM or Ctrl-C came; a checkpoint of the last whole step is saved.
        BllossomError: the loss or the gradient is not finite.
    """
    model.train()
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    optimizer = make_optimizer(model, config.optimizer, trainable)
    saved = checkpoints.load_latest(folder / CHECKPOINTS, model, optimizer) or {"step": 0, "tokens": 0}
    first, tokens = int(saved["step"]), int(saved["tokens"])
    if first:
        say(f"going on after step {first} of {steps}")
    result: StepResult | None = None
    log = _open_log(folder / LOGS / "train.jsonl", first)
    with log.open("a", encoding="utf8") as lines, _stop_requests() as stopping, progress("training", steps) as advance:
        advance(first)
        for step in range(first, steps):
            started = time.monotonic()
            rows = [source.row(step * rows_per_step + offset) for offset in range(rows_per_step)]
            loading = time.monotonic() - started
            rate = learning_rate_at(step, steps, config.learning_rate)
            result = train_step(model, optimizer, rows, config, rate)
            if not torch.isfinite(torch.tensor([result.loss, result.gradient_norm])).all():
                names = ", ".join(describe_rows(step * rows_per_step + offset) for offset in range(rows_per_step))
                raise BllossomError(
                    f"step {step + 1}: the loss is {result.loss}, the gradient norm {result.gradient_norm}; rows: "
                    f"{names}. Lower learning_rate.peak, or look at these rows"
                )
            tokens += result.tokens
            seconds = time.monotonic() - started
            lines.write(json.dumps(_log_line(step, result, rate, seconds, loading)) + "\n")
            advance(1)
            due = (step + 1) % config.checkpoint_every == 0 and step + 1 < steps
            if due or stopping():
                lines.flush()
                state = {"tokens": tokens, "losses": result.losses}
                checkpoints.save(folder / CHECKPOINTS, step + 1, model, optimizer, state)
            if stopping():
                raise Stopped(f"stopped after step {step + 1} of {steps}, saved; to go on, run the same command")
    losses = result.losses if result else saved["losses"]
    return {"steps": steps, "supervised_tokens": tokens, "last_loss": {k: round(v, 6) for k, v in losses.items()}}


def train_step(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, rows: Sequence[Row], config: TrainingConfig, rate: float
) -> StepResult:
    """One optimizer step on a global batch; its loss is the mean over the batch's supervised tokens, so that neither
    the micro-batch nor the accumulation changes it."""
    total = sum(row.supervised() for row in rows)
    nats: dict[str, float] = {}
    counts: dict[str, int] = {}
    optimizer.zero_grad(set_to_none=True)
    for start in range(0, len(rows), config.micro_batch):
        batch = collate(rows[start : start + config.micro_batch])
        losses = group_losses(model, batch, loss_chunk=config.loss_chunk, precision=config.precision)
        torch.stack([loss.nats for loss in losses.values()]).sum().div(total).backward()
        for group, loss in losses.items():
            nats[group] = nats.get(group, 0.0) + float(loss.nats.detach())
            counts[group] = counts.get(group, 0) + loss.tokens
    norm = torch.nn.utils.clip_grad_norm_(
        [weight for weight in model.parameters() if weight.requires_grad], config.optimizer.gradient_clip
    )
    for parameters in optimizer.param_groups:
        parameters["lr"] = rate
    optimizer.step()
    means = {group: nats[group] / counts[group] for group in sorted(nats) if counts[group]}
    return StepResult(sum(nats.values()) / total, means, float(norm), total)


def _log_line(step: int, result: StepResult, rate: float, seconds: float, loading: float) -> dict[str, Any]:
    return {
        "step": step + 1,
        "loss": result.loss,
        **{f"loss/{group}": loss for group, loss in result.losses.items()},
        "learning_rate": rate,
        "gradient_norm": result.gradient_norm,
        "tokens_per_second": round(result.tokens / seconds, 1),
        "loading_share": round(loading / seconds, 4),
    }


def _open_log(path: Path, steps_done: int) -> Path:
    """Keep the lines of the steps that the checkpoint holds: later ones are about to be made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.read_text(encoding="utf8").splitlines(keepends=True)[:steps_done] if path.exists() else []
    path.write_text("".join(kept), encoding="utf8")
    return path


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGTERM or Ctrl-C came; the step under way is finished first."""
    asked: list[int] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in previous:
        signal.signal(number, lambda received, _: asked.append(received))
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
