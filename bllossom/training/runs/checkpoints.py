"""Checkpoints to go on from after a kill. One is complete once it has its name: it is written beside, then renamed.

<partial output>/checkpoints/step-00000200/engine/…     the engine's own files
                                           state.json   steps and tokens so far, ranks, the run's inputs, checksums
<partial output>/checkpoints/writing/      being written, or left by a kill: never read
<partial output>/checkpoints/damaged-step-00000200/     not what was written any more, and set aside: never read
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from bllossom.artifacts import Inputs, partial_folders, read_origin
from bllossom.config import StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.files import sync_folder, write_whole
from bllossom.provenance.identity import changed_keys
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.engine import Engine
from bllossom.training.runs.checksums import checksums_of, first_difference, seal, unseal

CHECKPOINTS = "checkpoints"
PHASES = "phases"
"""Below the partial output: what each phase but the last leaves for the next one."""
WRITING = "writing"
ENGINE = "engine"
STATE = "state.json"
DAMAGED = "damaged-"
ACCURACY = "accuracy"
"""What held-out pairs tell beside their loss, by which no checkpoint is the best."""

RunInputs = Callable[[int], Mapping[str, str]]
"""After so many steps: fingerprints and sizes that must be the same when a run goes on."""


class State(BaseModel):
    """Where a run stands. Everything else follows from the config and the step's number."""

    model_config = ConfigDict(validate_by_name=True)

    step: int = 0  # steps done, over all phases
    tokens: int = 0  # supervised tokens so far
    flops: float = 0.0  # floating-point operations so far, as flops.py counts them; 0 where rows differ in length
    phase: int = 0
    losses: dict[str, float] = {}  # of the last step, by name: loss/GROUP, and what else the objective tells
    recent: list[float] = []  # losses of the last steps, for telling a spike
    heldout: dict[str, float] = {}  # the score of held-out data at this step, where it was measured
    unscored: dict[str, float] = {}  # what the log says of this step, where its held-out data are still to be scored
    best_step: int = 0  # that scored best so far
    best_score: float | None = None
    scores_since_best: int = 0
    engine: str = ""
    ranks: int | Literal["any"] = 1
    # See RunInputs; checkpoints of before 0.2 call them "reads".
    inputs: Annotated[dict[str, str], Field(validation_alias=AliasChoices("inputs", "reads"))] = {}
    checksums: dict[str, str] = {}  # of every other file of the checkpoint; none before 0.2

    def score(self) -> float | None:
        """Mean held-out loss over the languages; None where they were not measured at this step."""
        losses = [score for name, score in self.heldout.items() if name != ACCURACY]
        return sum(losses) / len(losses) if losses else None


def scored(state: State, heldout: dict[str, float]) -> State:
    """The state with what its step scored, and with what that makes of the best one."""
    state = state.model_copy(update={"heldout": heldout, "unscored": {}})
    score = state.score()
    if state.best_score is None or (score is not None and score < state.best_score):
        return state.model_copy(update={"best_step": state.step, "best_score": score, "scores_since_best": 0})
    return state.model_copy(update={"scores_since_best": state.scores_since_best + 1})


def save(folder: Path, state: State, engine: Engine, ranks: Ranks, keep: int) -> Path:
    """Write a checkpoint, and once it is complete remove all but the newest `keep` and the best one."""
    writing, complete = folder / WRITING, at_step(folder, state.step)
    if ranks.first:
        shutil.rmtree(writing, ignore_errors=True)
        (writing / ENGINE).mkdir(parents=True)
    ranks.wait()
    engine.save(writing / ENGINE)
    ranks.wait()
    checksums = checksums_of(writing, ranks)
    if ranks.first:
        write_state(writing, state, checksums)
        finish(writing, complete)
        for path in unneeded(folder, keep):
            shutil.rmtree(path)
    ranks.wait()
    return complete


def add_scores(folder: Path, state: State) -> None:
    """Tell the checkpoint of this step, if there is one, what its held-out text scored."""
    checkpoint = at_step(folder, state.step)
    if checkpoint.is_dir():
        write_state(checkpoint, state, read_state(checkpoint).checksums)


def write_state(folder: Path, state: State, checksums: dict[str, str]) -> None:
    """Write the state of a checkpoint whose other files have these checksums."""
    values = state.model_copy(update={"checksums": checksums}).model_dump(mode="json")
    write_whole(folder / STATE, seal(values).encode())


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


def at_step(folder: Path, step: int) -> Path:
    """Where the checkpoint after so many steps is."""
    return folder / f"step-{step:08d}"


def complete_ones(folder: Path) -> list[Path]:
    """The complete checkpoints, oldest first. Whether they are still what was written, `damage` says."""
    return sorted(folder.glob("step-*"))


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint."""
    found = complete_ones(folder)
    return found[-1] if found else None


def unneeded(folder: Path, keep: int = 1) -> list[Path]:
    """The complete checkpoints that may go: all but the newest `keep` and the best one, with which a run may end.

    One whose state cannot be read is no matter for a run that is past it. Where that is the newest, the one before it
    is what a run goes on from, and stays.
    """
    found = complete_ones(folder)
    states = {path: state for path in found if (state := _state_of(path)) is not None}
    if not states:
        return []
    newest_readable = max(states)
    scores = {path: score for path, state in states.items() if (score := state.score()) is not None}
    # They are one, unless the step that scored best was not saved.
    best = {at_step(folder, states[newest_readable].best_step), min(scores, key=lambda p: scores[p], default=None)}
    return [path for path in found[:-keep] if path < newest_readable and path not in best]


def _state_of(checkpoint: Path) -> State | None:
    try:
        return read_state(checkpoint)
    except BllossomError:
        return None


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files; None where each is what was written, or where no checksums were.

    The latter is said.
    """
    try:
        state = State.model_validate(unseal((checkpoint / STATE).read_bytes()))
    except FileNotFoundError:
        return f"{STATE} is missing"
    except (OSError, ValueError) as error:
        return f"{STATE}: {error}"
    if not state.checksums:
        say(f"{checkpoint} is of before there were checksums: its files are taken as they are")
    return first_difference(checkpoint, state.checksums)


def set_damaged_aside(folder: Path) -> None:
    """Leave the newest checkpoint that is whole as the newest one: those after it get another name, and it is said.

    Raises:
        BllossomError: there are checkpoints, and none of them is whole.
    """
    damaged: dict[Path, str] = {}
    for checkpoint in reversed(complete_ones(folder)):
        why = damage(checkpoint)
        if why is None:
            break
        damaged[checkpoint] = why
    else:
        if damaged:
            told = "; ".join(f"{path.name}: {why}" for path, why in damaged.items())
            raise BllossomError(
                f"{folder}: every checkpoint is damaged ({told}); bring one back from a copy, or remove that folder to "
                "start over from the first step"
            )
        return
    for path, why in damaged.items():
        aside = path.with_name(f"{DAMAGED}{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        say(f"{path} is damaged ({why}): going on from {checkpoint.name}; it is kept as {aside.name}")


def read_state(checkpoint: Path) -> State:
    """The state.json of a checkpoint.

    Raises:
        BllossomError: there is none, or it is damaged.
    """
    try:
        return State.model_validate(unseal((checkpoint / STATE).read_bytes()))
    except FileNotFoundError as error:
        told = f"{checkpoint} is no checkpoint (it has no {STATE}); name a folder step-… in a run's {CHECKPOINTS}/"
        raise BllossomError(told) from error
    except (OSError, ValueError) as error:
        raise BllossomError(f"{checkpoint} is damaged ({STATE}: {error}); name an older one") from error


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
    check_ranks(checkpoint, state, ranks)
    return state


def check_ranks(checkpoint: Path, state: State, ranks: int) -> None:
    """Refuse a checkpoint of another number of ranks.

    Raises:
        BllossomError: says both numbers and the way through.
    """
    if state.ranks not in ("any", ranks):
        raise BllossomError(
            f"{checkpoint} was made by {state.ranks} ranks, this run has {ranks}; convert it with "
            f"`bllossom reshard {checkpoint}`, then run the same command, or go on with {state.ranks}"
        )


def refuse_other_runs(partial: Path, config: StageConfig, sources: Inputs, inputs: RunInputs) -> None:
    """Refuse to start over beside the unfinished run of another config at the same output.

    Raises:
        BllossomError: there is one with a checkpoint; names the keys and inputs in which they differ.
    """
    for other in partial_folders(config.output.resolve()):
        checkpoint = newest(other / CHECKPOINTS)
        if other == partial or checkpoint is None or newest(partial / CHECKPOINTS):
            continue
        try:
            state, origin = read_state(checkpoint), read_origin(other)
        except BllossomError:
            continue  # nothing that could be gone on from
        keys = changed_keys(config, origin, sources) if origin else []
        why = "; ".join([*keys, *filter(None, [_differences(state, inputs)])]) or "the same data under another config"
        raise BllossomError(
            f"{checkpoint} is another run's ({why}), stopped after step {state.step}; restore that config to go on"
            f"{_precision_of(state, inputs)}, name another output, or discard it with --force"
        )


def _precision_of(state: State, inputs: RunInputs) -> str:
    """The one key that may be another although nobody changed the config."""
    saved, now = state.inputs.get("precision"), inputs(state.step).get("precision")
    return f" (precision={saved}; auto depends on the device)" if saved not in (None, now) else ""


def _differences(state: State, inputs: RunInputs) -> str:
    saved, now = state.inputs, inputs(state.step)
    names = [name for name in sorted(saved.keys() | now.keys()) if saved.get(name) != now.get(name)]
    return "; ".join(f"{name} {saved.get(name)} there, {now.get(name)} here" for name in names)


def _choice(engine: str) -> str:
    return "null" if engine == "plain" else engine
