"""A training checkpoint for another number of ranks: `bllossom reshard CHECKPOINT`."""

import shutil
from contextlib import nullcontext
from pathlib import Path

from bllossom.artifacts import PARTIAL, lock_of, output_of, read_origin
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.files import locked
from bllossom.provenance.circumstances import begin_attempt
from bllossom.provenance.manifest import UNFINISHED
from bllossom.ranks.ranks import alone
from bllossom.training.engines.deepspeed_engine import to_universal
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checkpoints import State
from bllossom.training.runs.checksums import checksums_of


def reshard(checkpoint: Path) -> None:
    """Convert a checkpoint, in its place, so that any number of ranks can go on from it; and the one that scored best
    so far, where the run may end with its weights.

    The weights and moments stay as they are. Other ranks add gradients up in another order, so losses go on within
    rounding (2e-4), not bit for bit.

    Raises:
        BllossomError: it is no whole checkpoint, a run is at work there, or DeepSpeed cannot convert it.
    """
    partial = checkpoint.resolve().parent.parent
    # A copy elsewhere is no run's.
    output = output_of(partial) if PARTIAL in partial.name and partial.is_dir() else None
    with locked(lock_of(output), str(output)) if output else nullcontext():
        state = checkpoints.read_state(checkpoint)
        if why := checkpoints.damage(checkpoint):
            raise BllossomError(f"{checkpoint} is damaged ({why}); name an older one")
        if (partial / UNFINISHED).is_file() and (origin := read_origin(partial)) is not None:
            begin_attempt(partial, origin)  # what is written here, hours later, is no time of the run that was stopped
        best = checkpoints.at_step(checkpoint.parent, state.best_step)
        # The best one first: after a kill the other is still to be converted, and named again. One that is not there,
        # or damaged, is left to the run, which refuses it and says what to do.
        wanted = _may_end_with_best(partial) and best.name != checkpoint.name and best.is_dir()
        if wanted and checkpoints.damage(best) is None:
            _convert(best, checkpoints.read_state(best))
        _convert(checkpoint, state)


def _may_end_with_best(folder: Path) -> bool:
    """Whether the run is one that ends with its best weights: sft's do, and a copy does not say whose it is."""
    origin = read_origin(folder)
    return origin is None or origin.stage == "sft"


def _convert(checkpoint: Path, state: State) -> None:
    if state.ranks == "any":
        say(f"{checkpoint} is for any number of ranks already: nothing to do")
        return
    writing = checkpoint.parent / checkpoints.WRITING
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir()
    if state.engine == "plain":
        shutil.copytree(checkpoint / checkpoints.ENGINE, writing / checkpoints.ENGINE)
    else:
        to_universal(checkpoint / checkpoints.ENGINE, writing / checkpoints.ENGINE)
    checksums = checksums_of(writing, alone("cpu"))
    checkpoints.write_state(writing, state.model_copy(update={"ranks": "any"}), checksums)
    checkpoints.finish(writing, checkpoint)
    say(f"{checkpoint} is for any number of ranks now; run the same command with the number that you have")
