"""Checkpoints to go on from after a kill. One is complete once it has its name: it is written beside, then renamed.

<partial output>/checkpoints/step-00000200/engine/…     the engine's own files
                                           state.json   steps and tokens so far, ranks, what the run reads
<partial output>/checkpoints/writing/      being written, or left by a kill: never read
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from bllossom.errors import BllossomError
from bllossom.training.engines.engine import Engine
from bllossom.training.ranks.ranks import Ranks

CHECKPOINTS = "checkpoints"
WRITING = "writing"
ENGINE = "engine"
STATE = "state.json"


Reads = Callable[[int], Mapping[str, str]]
"""After so many steps: fingerprints and sizes that must be the same when a run goes on."""


class State(BaseModel):
    """Where a run stands. Everything else follows from the config and the step's number."""

    step: int = 0  # steps done, over all phases
    tokens: int = 0  # supervised tokens so far
    phase: int = 0
    losses: dict[str, float] = {}  # of the last step, by group
    recent: list[float] = []  # losses of the last steps, for telling a spike
    heldout: dict[str, float] = {}  # bits per byte at this step, where they were measured
    engine: str = ""
    ranks: int | Literal["any"] = 1
    reads: dict[str, str] = {}  # see Reads

    def score(self) -> float | None:
        """Mean held-out bits per byte over the languages; None where they were not measured at this step."""
        return sum(self.heldout.values()) / len(self.heldout) if self.heldout else None


def save(folder: Path, state: State, engine: Engine, ranks: Ranks, keep: int) -> Path:
    """Write a checkpoint, and once it is complete remove all but the newest `keep` and the best one."""
    writing, complete = folder / WRITING, folder / f"step-{state.step:08d}"
    if ranks.first:
        shutil.rmtree(writing, ignore_errors=True)
        (writing / ENGINE).mkdir(parents=True)
    ranks.wait()
    engine.save(writing / ENGINE)
    ranks.wait()
    if ranks.first:
        (writing / STATE).write_text(state.model_dump_json())
        finish(writing, complete)
        for unneeded in _unneeded(folder, keep):
            shutil.rmtree(unneeded)
    ranks.wait()
    return complete


def finish(writing: Path, complete: Path) -> None:
    """Bring everything to the disk, then give it its name."""
    for path in [*writing.rglob("*"), writing]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if complete.exists():
        old = complete.with_name(f"{WRITING}.replaced")
        shutil.rmtree(old, ignore_errors=True)
        complete.rename(old)
        writing.rename(complete)
        shutil.rmtree(old)
    else:
        writing.rename(complete)


def complete_ones(folder: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE).is_file())


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint."""
    found = complete_ones(folder)
    return found[-1] if found else None


def read_state(checkpoint: Path) -> State:
    """The state.json of a checkpoint.

    Raises:
        BllossomError: there is none, or it is damaged.
    """
    try:
        return State.model_validate_json((checkpoint / STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise BllossomError(
            f"{checkpoint} is no complete checkpoint ({type(error).__name__}); name a folder step-…, or remove it"
        ) from error


def check(checkpoint: Path, *, engine: str, ranks: int, reads: Reads) -> State:
    """Read a checkpoint's state, and refuse one that this run cannot go on from. Nothing else is loaded.

    Raises:
        BllossomError: another engine, number of ranks, or data; says both sides and the way through.
    """
    state = read_state(checkpoint)
    if pairs := _differences(state, reads):
        raise BllossomError(
            f"{checkpoint} was made from something else: {pairs}. Restore that, name another output, or start over "
            "with --force"
        )
    if state.engine != engine:
        raise BllossomError(
            f"{checkpoint} was made with deepspeed: {_choice(state.engine)}, this run has {_choice(engine)}; go on "
            "with the same, or name another output"
        )
    if state.ranks not in ("any", ranks):
        raise BllossomError(
            f"{checkpoint} was made by {state.ranks} ranks, this run has {ranks}; convert it with "
            f"`bllossom reshard {checkpoint}`, then run the same command, or go on with {state.ranks}"
        )
    return state


def refuse_other_runs(partial: Path, output: Path, reads: Reads) -> None:
    """Refuse to start over beside the unfinished run of another config at the same output.

    Raises:
        BllossomError: there is one with a checkpoint; names what it read and what this one reads.
    """
    for other in sorted(output.parent.glob(f"{output.name}.partial-*")):
        checkpoint = newest(other / CHECKPOINTS)
        if other == partial or checkpoint is None or newest(partial / CHECKPOINTS):
            continue
        state = read_state(checkpoint)
        pairs = _differences(state, reads)
        raise BllossomError(
            f"{checkpoint} is another run's ({pairs or 'the same data under another config'}), stopped after step "
            f"{state.step}; restore that config to go on{_precision_of(state, reads)}, name another output, or discard "
            "it with --force"
        )


def _precision_of(state: State, reads: Reads) -> str:
    """The one key that may be another although nobody changed the config."""
    there, here = state.reads.get("precision"), reads(state.step).get("precision")
    return f" (precision={there}; auto depends on the device)" if there not in (None, here) else ""


def is_universal(checkpoint: Path) -> bool:
    """True where `bllossom reshard` made it loadable by any number of ranks."""
    return read_state(checkpoint).ranks == "any"


def _differences(state: State, reads: Reads) -> str:
    there, here = state.reads, reads(state.step)
    names = [name for name in sorted(there.keys() | here.keys()) if there.get(name) != here.get(name)]
    return "; ".join(f"{name} {there.get(name)} there, {here.get(name)} here" for name in names)


def _choice(engine: str) -> str:
    return "null" if engine == "plain" else engine


def _unneeded(folder: Path, keep: int) -> list[Path]:
    found = complete_ones(folder)
    scores = {path: score for path in found if (score := read_state(path).score()) is not None}
    best = min(scores, key=lambda path: scores[path]) if scores else None
    return [path for path in found[:-keep] if path != best]
