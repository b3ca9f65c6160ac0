"""A training checkpoint for another number of ranks: `bllossom reshard CHECKPOINT`."""

import shutil
from pathlib import Path

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.ranks.ranks import alone
from bllossom.training.engines.deepspeed_engine import to_universal
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checksums import checksums_of


def reshard(checkpoint: Path) -> None:
    """Convert a checkpoint, in its place, so that any number of ranks can go on from it.

    The weights and moments stay as they are. Other ranks add gradients up in another order, so losses go on within
    rounding (2e-4), not bit for bit.

    Raises:
        BllossomError: it is no whole checkpoint, or DeepSpeed cannot convert it.
    """
    state = checkpoints.read_state(checkpoint)
    if why := checkpoints.damage(checkpoint):
        raise BllossomError(f"{checkpoint} is damaged ({why}); name an older one")
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
