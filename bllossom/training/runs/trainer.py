"""The training loop that pretrain and sft share. It is short so that exactness can be read off it.

A step is a pure function of the weights, the optimizer's state and the step's number: its rows are
`step * rows_per_step …`, its learning rate follows from its number, and so does what dropout draws. So a run that was
killed goes on from its checkpoint to the same weights, bit for bit.

    global batch    rows 0 1 2 3 4 5 6 7     2 ranks, micro-batch 2, so 2 micro-batches each
    rank 0               0 1     4 5
    rank 1                   2 3     6 7
"""

import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bllossom.console import say
from bllossom.errors import BllossomError, Stopped
from bllossom.training.engines.engine import Engine
from bllossom.training.engines.loss import loss_inputs
from bllossom.training.engines.optimization import learning_rate_at
from bllossom.training.engines.rows import Row, RowSource, collate
from bllossom.training.ranks.ranks import Ranks
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checkpoints import CHECKPOINTS, State
from bllossom.training.runs.log import memory_bytes, step_log
from bllossom.training.runs.run import Run, Segment, Watch
from bllossom.training.runs.validation import bits_per_byte
from bllossom.training.settings import TrainingConfig

SPIKE_WINDOW = 32


@dataclass(frozen=True)
class StepResult:
    """Means over the step's supervised tokens (nats a token), and the gradient's L2 norm before clipping."""

    loss: float
    losses: dict[str, float]
    tokens: int
    stop_asked: bool = False


def train(
    run: Run[TrainingConfig], engine: Engine, source: RowSource, segment: Segment, watch: Watch, start: State
) -> State:
    """Train the steps of `segment` that are left after the newest checkpoint in the run's folder; gives the state at
    the end.

    `start` is the state that the phase before left.

    Raises:
        Stopped: SIGTERM or Ctrl-C came; a checkpoint of the last whole step is saved.
        BllossomError: the loss or the gradient is not finite, or the loss spikes; or the checkpoint is not this run's.
    """
    config, ranks = run.config, run.ranks
    saved = run.folder / CHECKPOINTS
    state = _go_on(run, engine, segment, start)
    engine.training(True)
    with (
        step_log(run.folder, config, ranks, done=state.step, steps=segment.total or segment.end) as log,
        _stop_requests() as stopping,
    ):
        for step in range(state.step, segment.end):
            started = time.monotonic()
            rows = rank_rows(source, step, segment.rows_per_step, config.micro_batch, ranks)
            loading = time.monotonic() - started
            rate = learning_rate_at(step - segment.first, segment.steps, segment.learning_rate)
            torch.manual_seed(dropout_seed(config.seed, step, ranks.rank))
            result = accumulate(engine, rows, source.groups, config.micro_batch, ranks, stopping())
            if problem := _problem(result.loss, state.recent, config.spike_factor):
                checkpoints.save(saved, state, engine, ranks, config.keep)
                raise BllossomError(_bad_step(step, problem, source, segment, "the weights before it are saved"))
            norm = engine.step(rate)
            if not math.isfinite(norm):
                problem = f"the gradient norm is {norm}"
                raise BllossomError(_bad_step(step, problem, source, segment, "going on starts at the last checkpoint"))
            seconds = time.monotonic() - started
            done = step + 1
            state = state.model_copy(
                update={
                    "step": done,
                    "tokens": state.tokens + result.tokens,
                    "losses": result.losses,
                    "recent": [*state.recent, result.loss][-SPIKE_WINDOW:],
                    "heldout": {},
                    "inputs": dict(run.inputs(done)),
                }
            )
            if watch.heldout and (done == segment.end or (watch.evaluate_every and done % watch.evaluate_every == 0)):
                held = bits_per_byte(engine, watch.heldout, ranks, config.micro_batch)
                state = state.model_copy(update={"heldout": held})
            log.write(done, _figures(state, result, rate, norm, seconds, loading, watch, ranks))
            if (done % config.checkpoint_every == 0 and done < segment.end) or result.stop_asked:
                checkpoints.save(saved, state, engine, ranks, config.keep)
            if result.stop_asked:
                of = f"{done} of {segment.total or segment.end}"
                raise Stopped(f"stopped after step {of}, saved; to go on, run the same command")
    return state


def _go_on(run: Run[TrainingConfig], engine: Engine, segment: Segment, start: State) -> State:
    """The state to start from: the newest checkpoint's if it is of this phase."""
    ranks, inputs = run.ranks, run.inputs
    checkpoint = checkpoints.newest(run.folder / CHECKPOINTS)
    if checkpoint is not None:
        state = checkpoints.check(checkpoint, engine=engine.name, ranks=ranks.world, inputs=inputs)
        if state.phase == segment.phase:
            engine.load(checkpoint / checkpoints.ENGINE)
            if ranks.first:
                say(f"going on after step {state.step} of {segment.total or segment.end}")
            return state.model_copy(update={"ranks": ranks.world})
    ours = {"phase": segment.phase, "engine": engine.name, "ranks": ranks.world, "inputs": dict(inputs(segment.first))}
    return start.model_copy(update=ours)


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """What a rank's random numbers of one step follow from: 64 bits."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def rank_rows(source: RowSource, step: int, rows_per_step: int, micro_batch: int, ranks: Ranks) -> list[Row]:
    """The rows of a global batch that this rank reads (see the drawing above), one language after the other."""
    stride = micro_batch * ranks.world
    base = step * rows_per_step + ranks.rank * micro_batch
    starts = range(base, base + rows_per_step, stride)
    rows = [source.row(start + place) for start in starts for place in range(micro_batch)]
    # Their order does not move the sum, and micro-batches of one language make the head's gradient once, not twice.
    return sorted(rows, key=lambda row: source.groups.index(row.group))


def accumulate(
    engine: Engine,
    rows: Sequence[Row],
    groups: Sequence[str],
    micro_batch: int,
    ranks: Ranks,
    stop_asked: bool = False,
) -> StepResult:
    """The loss and the gradient of one global batch, of which `rows` are this rank's part.

    Both are means over the supervised tokens of the *global* batch, so that neither micro-batches nor ranks move them.
    """
    own = [float(sum(row.supervised() for row in rows if row.group == group)) for group in groups]
    counts = ranks.sum(own)
    total = sum(counts)
    if not total:
        raise BllossomError("a step has no supervised token: every label is masked; look at the data")
    sums: Any = 0.0
    starts = range(0, len(rows), micro_batch)
    for start in starts:
        batch = collate(rows[start : start + micro_batch])
        nats = engine.nats(loss_inputs(batch, groups, ranks.device))
        engine.backward(nats.sum() / total, last=start == starts[-1])
        sums = sums + nats.detach().double()
    *nats_sums, stops = ranks.sum([*sums.tolist(), float(stop_asked)])
    means = {group: value / count for group, value, count in zip(groups, nats_sums, counts, strict=True) if count}
    return StepResult(sum(nats_sums) / total, means, int(total), stops > 0)


def _problem(loss: float, recent: Sequence[float], factor: float | None) -> str | None:
    """What is wrong with a loss, if anything."""
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if factor is None or len(recent) < SPIKE_WINDOW:
        return None
    median = statistics.median(recent)
    if loss <= factor * median:
        return None
    return f"the loss is {loss:.4f}, the median of the {SPIKE_WINDOW} steps before it {median:.4f}"


def _bad_step(step: int, problem: str, source: RowSource, segment: Segment, saved: str) -> str:
    indices = range(step * segment.rows_per_step, (step + 1) * segment.rows_per_step)
    rows = "\n".join(f"  {source.describe(index)}" for index in indices)
    return (
        f"step {step + 1}: {problem}; {saved}. Its rows:\n{rows}\nlook at these, then {source.leave_out(indices)}; or "
        "go on with a higher spike_factor where it was a spike; or start over with a lower learning_rate.peak"
    )


def _figures(
    state: State,
    result: StepResult,
    rate: float,
    norm: float,
    seconds: float,
    loading: float,
    watch: Watch,
    ranks: Ranks,
) -> dict[str, Any]:
    speed = result.tokens / seconds
    return {
        "loss": result.loss,
        **{f"loss/{group}": loss for group, loss in result.losses.items()},
        **{f"bits_per_byte/{language}": bits for language, bits in state.heldout.items()},
        "learning_rate": rate,
        "gradient_norm": norm,
        "tokens_per_second": round(speed, 1),
        "matmul_share": round(speed * watch.flops_per_token / watch.matmul_limit, 4),
        "loading_share": round(loading / seconds, 4),
        "peak_memory_bytes": memory_bytes(ranks.device),
    }


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
