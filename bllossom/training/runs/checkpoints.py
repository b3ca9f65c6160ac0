"""Checkpoints to go on from after a kill. One is complete once it has its name: it is written beside, then renamed.

<partial output>/checkpoints/step-00000200/engine/…     the engine's own files
                                           state.json   steps and tokens so far, ranks, the run's inputs
<partial output>/checkpoints/writing/      being written, or left by a kill: never read
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from bllossom.artifacts import partial_folders, read_origin
from bllossom.config import StageConfig
from bllossom.errors import BllossomError
from bllossom.files import sync_folder
from bllossom.provenance.identity import changed_keys
from bllossom.training.engines.engine import Engine
from bllossom.training.ranks.ranks import Ranks

CHECKPOINTS = "checkpoints"
WRITING = "writing"
ENGINE = "engine"
STATE = "state.json"


RunInputs = Callable[[int], Mapping[str, str]]
"""After so many steps: fingerprints and sizes that must be the same when a run goes on."""


class State(BaseModel):
    """Where a run stands. Everything else follows from the config and the step's number."""

    model_config = ConfigDict(validate_by_name=True)

    step: int = 0  # steps done, over all phases
    tokens: int = 0  # supervised tokens so far
    phase: int = 0
    losses: dict[str, float] = {}  # of the last step, by group
    recent: list[float] = []  # losses of the last steps, for telling a spike
    heldout: dict[str, float] = {}  # bits per byte at this step, where they were measured
    engine: str = ""
    ranks: int | Literal["any"] = 1
    # See RunInputs; checkpoints of before 0.2 call them "reads".
    inputs: Annotated[dict[str, str], Field(validation_alias=AliasChoices("inputs", "reads"))] = {}

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
    sync_folder(writing)
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


def check(checkpoint: Path, *, engine: str, ranks: int, inputs: RunInputs) -> State:
    """Read a checkpoint's state, and refuse one that this run cannot go on from. Nothing else is loaded.

    Raises:
        BllossomError: another engine, number of ranks, or data; says both sides and the way through.
    """
    state = read_state(checkpoint)
    if pairs := _differences(state, inputs):
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


def refuse_other_runs(partial: Path, config: StageConfig, inputs: RunInputs) -> None:
    """Refuse to start over beside the unfinished run of another config at the same output.

    Raises:
        BllossomError: there is one with a checkpoint; names the keys and inputs in which they differ.
    """
    for other in partial_folders(config.output.resolve()):
        checkpoint = newest(other / CHECKPOINTS)
        if other == partial or checkpoint is None or newest(partial / CHECKPOINTS):
            continue
        state, origin = read_state(checkpoint), read_origin(other)
        keys = changed_keys(config, origin) if origin else []
        why = "; ".join([*keys, *filter(None, [_differences(state, inputs)])]) or "the same data under another config"
        raise BllossomError(
            f"{checkpoint} is another run's ({why}), stopped after step {state.step}; restore that config to go on"
            f"{_precision_of(state, inputs)}, name another output, or discard it with --force"
        )


def _precision_of(state: State, inputs: RunInputs) -> str:
    """The one key that may be another although nobody changed the config."""
    saved, now = state.inputs.get("precision"), inputs(state.step).get("precision")
    return f" (precision={saved}; auto depends on the device)" if saved not in (None, now) else ""


def is_universal(checkpoint: Path) -> bool:
    """True where `bllossom reshard` made it loadable by any number of ranks."""
    return read_state(checkpoint).ranks == "any"


def _differences(state: State, inputs: RunInputs) -> str:
    saved, now = state.inputs, inputs(state.step)
    names = [name for name in sorted(saved.keys() | now.keys()) if saved.get(name) != now.get(name)]
    return "; ".join(f"{name} {saved.get(name)} there, {now.get(name)} here" for name in names)


def _choice(engine: str) -> str:
    return "null" if engine == "plain" else engine


def _unneeded(folder: Path, keep: int) -> list[Path]:
    found = complete_ones(folder)
    scores = {path: score for path in found if (score := read_state(path).score()) is not None}
    best = min(scores, key=lambda path: scores[path]) if scores else None
    return [path for path in found[:-keep] if path != best]
