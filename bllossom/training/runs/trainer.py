"""The training loop that pretrain, sft and dpo share. It is short so that exactness can be read off it.

A step is a pure function of the weights, the optimizer's state and the step's number: its rows and its learning rate
follow from its number (steps.py, optimization.py), and so does what dropout draws. So a run that was killed goes on
from its checkpoint to the same weights, bit for bit. What is minimised the loop does not know (objective.py).
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bllossom.console import say
from bllossom.errors import BllossomError, Stopped
from bllossom.ranks.lifetime import stop_requests
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.engine import Engine, PlainEngine
from bllossom.training.engines.objective import Objective
from bllossom.training.engines.optimization import learning_rate_at
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checkpoints import CHECKPOINTS, State
from bllossom.training.runs.log import StepLog, memory_bytes, step_log
from bllossom.training.runs.run import Run, Segment, Watch
from bllossom.training.runs.steps import StepSource
from bllossom.training.settings import TrainingConfig

SPIKE_WINDOW = 32


@dataclass(frozen=True)
class StepResult:
    """The loss, a mean over the global batch, what else the objective tells of it, and its supervised tokens."""

    loss: float
    figures: dict[str, float]
    tokens: int
    stop_asked: bool = False


def train(
    run: Run[TrainingConfig],
    engine: Engine,
    objective: Objective,
    source: StepSource,
    segment: Segment,
    watch: Watch,
    start: State,
) -> State:
    """Train the steps of `segment` that are left after the newest checkpoint in the run's folder; gives the state at
    the end.

    `start` is the state that the phase before left.

    Raises:
        Stopped: somebody asked to; a checkpoint of the last whole step is saved.
        BllossomError: the loss or the gradient is not finite, or the loss spikes; or the checkpoint is not this run's,
            or the one that scored best is damaged, or of another number of ranks.
    """
    state = _go_on(run, engine, segment, start)
    if watch.keep_best and state.best_step not in (0, state.step):
        _check_best(run, engine, state)  # at the end too, but nobody wants to hear of it only then
    engine.training(True)
    logged = state.step - bool(state.unscored)  # a step is logged with what it scored
    with (
        step_log(run.folder, run.config, run.ranks, done=logged, steps=segment.total or segment.end) as log,
        stop_requests() as asked,
    ):
        loop = _Loop(run, engine, objective, source, segment, watch, log, lambda: bool(asked()))
        if state.unscored:
            state = loop.score(state)
        while state.step < segment.end and not watch.ends_early(state):
            state = loop.step(state)
    return _best(run, engine, state) if watch.keep_best else state


@dataclass(frozen=True)
class _Loop:
    """The steps of a segment: each takes the state that the one before it left."""

    run: Run[TrainingConfig]
    engine: Engine
    objective: Objective
    source: StepSource
    segment: Segment
    watch: Watch
    log: StepLog
    stopping: Callable[[], bool]

    def step(self, state: State) -> State:
        """Take the next step: read, compute, apply, note.

        Raises:
            Stopped, BllossomError: see train.
        """
        config, ranks, segment, step = self.run.config, self.run.ranks, self.segment, state.step
        started = time.monotonic()
        batches = self.source.micro_batches(step, ranks)
        loading = time.monotonic() - started
        rate = learning_rate_at(step - segment.first, segment.steps, segment.learning_rate)
        torch.manual_seed(dropout_seed(config.seed, step, ranks.rank))
        result = accumulate(self.engine, self.objective, batches, ranks, self.stopping())
        norm = self._apply(state, result.loss, rate)
        seconds = time.monotonic() - started
        figures = _figures(result, rate, norm, seconds, loading, self.watch, ranks)
        after = {
            "step": step + 1,
            "tokens": state.tokens + result.tokens,
            "flops": state.flops + segment.rows_per_step * self.watch.row_tokens * self.watch.flops_per_token,
            "losses": result.figures,
            "recent": [*state.recent, result.loss][-SPIKE_WINDOW:],
            "heldout": {},
            "unscored": {},
            "inputs": dict(self.run.inputs(step + 1)),
        }
        state = state.model_copy(update=after)
        return self._note(state, figures | _so_far(state), result.stop_asked)

    def _apply(self, state: State, loss: float, rate: float) -> float:
        """Apply the gradient; gives its norm. A loss that is wrong is not applied."""
        if problem := _problem(loss, state.recent, self.run.config.spike_factor):
            self._save(state)
            raise BllossomError(_bad_step(state.step, problem, self.source, "the weights before it are saved"))
        norm = self.engine.step(rate)
        if not math.isfinite(norm):
            problem = f"the gradient norm is {norm}"
            raise BllossomError(_bad_step(state.step, problem, self.source, "going on starts at the last checkpoint"))
        return norm

    def _note(self, state: State, figures: dict[str, Any], stop_asked: bool) -> State:
        """Log a step, save it and score what is held out, each where it is due."""
        due, last = self.watch.due(state.step, self.segment.end), state.step == self.segment.end
        if due:
            state = state.model_copy(update={"unscored": figures})
        else:
            self.log.write(state.step, figures)
        # Before anything is scored, which may take longer than the steps did; and after the last step always: a stop
        # or a kill while the model is written, or answers for samples, costs no training.
        periodic = state.step % self.run.config.checkpoint_every == 0
        if periodic or stop_asked or last or (due and self.watch.keep_best):
            self._save(state)
        if stop_asked:
            raise _stopped(state, self.segment)
        return self.score(state) if due else state

    def score(self, state: State) -> State:
        """Score held-out data after a step that is due for it, and log the step with what it scored.

        Raises:
            Stopped: somebody asked to; a checkpoint of the step is saved, and scoring begins anew from it.
        """
        heldout = self.watch.score(self.engine, self.stopping) if self.watch.score else {}
        if heldout is None:
            self._save(state)
            raise _stopped(state, self.segment)
        scores = {f"{self.watch.score_name}/{name}": score for name, score in heldout.items()}
        self.log.write(state.step, state.unscored | scores)
        state = checkpoints.scored(state, heldout)
        if self.run.ranks.first:
            checkpoints.add_scores(self.run.folder / CHECKPOINTS, state)
        self.run.ranks.wait()
        return state

    def _save(self, state: State) -> None:
        checkpoints.save(self.run.folder / CHECKPOINTS, state, self.engine, self.run.ranks, self.run.config.keep)


def _stopped(state: State, segment: Segment) -> Stopped:
    of = f"{state.step} of {segment.total or segment.end}"
    return Stopped(f"stopped after step {of}, saved; to go on, run the same command")


def _best(run: Run[TrainingConfig], engine: Engine, state: State) -> State:
    """Bring back the weights that scored best; the state tells how far the run had come, and what they scored."""
    if state.best_step == state.step:
        return state
    checkpoint = _check_best(run, engine, state)
    best = checkpoints.read_state(checkpoint)
    engine.load(checkpoint / checkpoints.ENGINE)
    if run.ranks.first:
        say(f"the weights after step {best.step} of {state.step} scored best on what was held out: they are kept")
    return state.model_copy(update={"heldout": best.heldout, "losses": best.losses, "recent": best.recent})


def _check_best(run: Run[TrainingConfig], engine: Engine, state: State) -> Path:
    """The checkpoint that scored best, which is not the newest one.

    Raises:
        BllossomError: it is not what was written any more, or DeepSpeed's of another number of ranks; on every rank.
    """
    checkpoint = checkpoints.at_step(run.folder / CHECKPOINTS, state.best_step)
    if why := run.ranks.from_first(checkpoints.damage(checkpoint) if run.ranks.first else None):
        raise BllossomError(
            f"{checkpoint}, which scored best, is damaged ({why}), and the run may end with its weights; bring it back "
            f"from a copy, or remove {checkpoint.parent} to start over from the first step"
        )
    if engine.name != PlainEngine.name:  # whose weights are whole in every checkpoint
        checkpoints.check_ranks(checkpoint, checkpoints.read_state(checkpoint), run.ranks.world)
    return checkpoint


def _go_on(run: Run[TrainingConfig], engine: Engine, segment: Segment, start: State) -> State:
    """The state to start from: the newest checkpoint's if it is of this phase."""
    ranks, inputs = run.ranks, run.inputs
    checkpoint = checkpoints.newest(run.folder / CHECKPOINTS)
    if checkpoint is not None:
        state = checkpoints.check(checkpoint, engine=engine.name, ranks=ranks.world, inputs=inputs)
        if state.phase == segment.phase:
            _load(engine, checkpoint)
            if ranks.first:
                say(f"going on after step {state.step} of {segment.total or segment.end}")
            return state.model_copy(update={"ranks": ranks.world})
    ours = {"phase": segment.phase, "engine": engine.name, "ranks": ranks.world, "inputs": dict(inputs(segment.first))}
    return start.model_copy(update=ours)


def _load(engine: Engine, checkpoint: Path) -> None:
    try:
        engine.load(checkpoint / checkpoints.ENGINE)
    except BllossomError:
        raise
    except Exception as error:  # whatever safetensors, pickle or DeepSpeed make of a file of before checksums
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BllossomError(
            f"{checkpoint} cannot be loaded ({reason}); remove it to go on from an older one, or from the first step"
        ) from error


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """What a rank's random numbers of one step follow from: 64 bits."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def accumulate(
    engine: Engine, objective: Objective, batches: Sequence[Sequence[Any]], ranks: Ranks, stop_asked: bool = False
) -> StepResult:
    """The loss and the gradient of one global batch, of which `batches` are this rank's part.

    Both are means over the *global* batch, so that neither micro-batches nor ranks move them.
    """
    rows = [row for batch in batches for row in batch]
    *counts, tokens = ranks.sum([*objective.counts(rows), float(sum(row.supervised() for row in rows))])
    if not tokens:
        raise BllossomError("a step has no supervised token: every label is masked; look at the data")
    sums = torch.zeros(len(counts), dtype=torch.float64)
    for number, batch in enumerate(batches, 1):
        part = engine.sums(objective.inputs(batch, ranks.device))
        engine.backward(objective.loss(part, counts), last=number == len(batches))
        sums = sums + part.detach().double().cpu()
    *totals, stops = ranks.sum([*sums.tolist(), float(stop_asked)])
    loss = float(objective.loss(torch.tensor(totals, dtype=torch.float64), counts))
    return StepResult(loss, objective.figures(totals, counts), int(tokens), stops > 0)


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


def _bad_step(step: int, problem: str, source: StepSource, saved: str) -> str:
    rows = "\n".join(f"  {row}" for row in source.describe(step))
    return (
        f"step {step + 1}: {problem}; {saved}. Its rows:\n{rows}\nlook at these, then {source.leave_out(step)}; or "
        "go on with a higher spike_factor where it was a spike; or start over with a lower learning_rate.peak"
    )


def _figures(
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
        **result.figures,
        "learning_rate": rate,
        "gradient_norm": norm,
        "tokens_per_second": round(speed, 1),
        "matmul_share": round(speed * watch.flops_per_token / watch.matmul_limit, 4),
        "loading_share": round(loading / seconds, 4),
        "peak_memory_bytes": memory_bytes(ranks.device),
    }


def _so_far(state: State) -> dict[str, Any]:
    """What the run has cost up to a step: its loss is drawn over both."""
    return {"tokens": state.tokens} | ({"flops": state.flops} if state.flops else {})
