"""A recipe: named steps in order, skipping what is already published and unchanged."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from bllossom.artifacts import Manifest, read_manifest
from bllossom.config import Loaded, Model, OutputPath, StageConfig, load_config
from bllossom.console import say
from bllossom.errors import ConfigError
from bllossom.paths import there
from bllossom.pipeline import STAGES, Stage
from bllossom.recipe.matrix import Choice, Values, chosen, expand, read_only, steps_read, strings


class RecipeStep(Model):
    """One named step of a recipe."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="also the name of its output folder")]
    stage: Annotated[str, Field(description="one of the stages, as the command is called")]
    config: Annotated[
        Path | None, Field(description="the stage's YAML, relative to the recipe's folder; without one, `set` is all")
    ] = None
    set: Annotated[dict[str, Any], Field(default_factory=dict, description="dotted keys set on top of the YAML")]

    @field_validator("stage")
    @classmethod
    def _known(cls, stage: str) -> str:
        if stage not in STAGES:
            raise ValueError(f"there is no stage {stage!r}; the stages are {', '.join(STAGES)}")
        return stage


RECIPE_KEYS = frozenset({"output", "seed", "matrix", "steps"})
Scalar = bool | int | float | str


class Recipe(Model):
    """Named steps in order; step NAME publishes `<output>/NAME`. matrix.py says how steps are repeated over values."""

    output: Annotated[OutputPath, Field(description="the folder that holds every step's output")]
    seed: Annotated[
        int | None, Field(description="given to every step whose stage takes a seed; null leaves each its own")
    ] = None
    matrix: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Annotated[list[Scalar], Field(min_length=1)]],
        Field(description="values that steps are repeated over, each where it is used as ${matrix.NAME}"),
    ] = {}
    steps: Annotated[list[RecipeStep], Field(min_length=1)]

    @field_validator("steps")
    @classmethod
    def _named_once(cls, steps: list[RecipeStep]) -> list[RecipeStep]:
        names = [step.name for step in steps]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"every step needs a name of its own; used twice: {', '.join(twice)}")
        if own := sorted(set(names) & RECIPE_KEYS):
            raise ValueError(f"{own[0]} is a key of the recipe, and cannot name a step; give it another name")
        return steps


@dataclass(frozen=True)
class PlannedStep:
    """A step with its config read and checked."""

    name: str
    command: str  # the stage's name
    stage: Stage
    loaded: Loaded[StageConfig]
    choice: Choice  # the values of the matrix that it stands for
    reads: frozenset[str]  # steps whose output it names, as ${steps…} or by its path


@dataclass(frozen=True)
class PlannedRecipe:
    """A recipe with every step's config read and checked."""

    recipe: Recipe
    steps: list[PlannedStep]
    chosen: list[PlannedStep]  # of these, what is to be run

    def results_before(self, first: str | None) -> dict[str, Manifest]:
        """What is there of the steps before `first`, from earlier runs."""
        start = [step.name for step in self.steps].index(first) if first else 0
        found = {step.name: read_manifest(step.loaded.config.output) for step in self.steps[:start]}
        return {name: manifest for name, manifest in found.items() if manifest is not None}


@dataclass(frozen=True)
class Part:
    """What of a recipe is to be run: the steps from `first` to `last`, both included, where None is the recipe's own
    end; of copies over a matrix those that `only` (`NAME=VALUE`) asks for."""

    first: str | None = None
    last: str | None = None
    only: Sequence[str] = ()

    def of(self, steps: Mapping[str, Choice], matrix: Values) -> list[str]:
        """The names of the steps to run, out of all steps by name.

        Raises:
            ConfigError: there is no such step or value, or nothing is left.
        """
        wanted = read_only(self.only, matrix)
        names = list(steps)
        for name in (self.first, self.last):
            if name is not None and name not in names:
                raise ConfigError(f"there is no step {name!r}; the steps are {', '.join(names)}")
        start = names.index(self.first) if self.first else 0
        stop = names.index(self.last) + 1 if self.last else len(names)
        if start >= stop:
            raise ConfigError(f"--from {self.first} comes after --until {self.last}; the steps are {', '.join(names)}")
        found = [name for name in names[start:stop] if chosen(steps[name], wanted)]
        if not found:
            told = ", ".join(names[start:stop])
            raise ConfigError(f"--only {', '.join(self.only)} leaves none of {told}; leave it out")
        return found


WHOLE = Part()


def read_recipe(
    path: Path, overrides: Sequence[str] = (), part: Part = WHOLE, *, allow_missing: bool = False
) -> PlannedRecipe:
    """Read a recipe and the config of each of its steps. An override is `key=value` of the recipe, or of a step,
    `STEP.key=value`; that goes before what the recipe sets. Inputs must be there for the steps of `part` alone: what
    others read may come to be in between, by people's hands.

    Raises:
        ConfigError: holds the problems of the recipe, or of all its steps' configs together.
    """
    own = [text for text in overrides if _first_part(text) in RECIPE_KEYS]
    recipe = load_config(Recipe, path, own, keep_steps=True).config
    copies = expand(recipe.matrix, [step.model_dump() for step in recipe.steps])
    twice = sorted(name for name, count in Counter(step["name"] for _, step in copies).items() if count > 1)
    if twice:
        raise ConfigError(f"{path}: matrix: two values give the name {twice[0]}; change one of them, or a step's name")
    to_run = part.of({step["name"]: choice for choice, step in copies}, recipe.matrix)
    of_steps = _by_step([text for text in overrides if text not in own], [step["name"] for _, step in copies])
    outputs: dict[str, Path] = {}
    steps: list[PlannedStep] = []
    problems: list[str] = []
    for choice, copy in copies:
        step = RecipeStep.model_validate(copy)
        stage = STAGES[step.stage]
        kind = stage.config()
        values = {"output": str(recipe.output / step.name), **step.set}
        if "seed" in kind.model_fields and recipe.seed is not None:
            values = {"seed": recipe.seed, **values}
        file = None if step.config is None else path.parent / step.config
        try:
            mine = of_steps.get(step.name, [])
            lenient = allow_missing or step.name not in to_run
            loaded = load_config(kind, file, mine, values=values, steps=outputs, allow_missing=lenient)
            reads = steps_read([step.set, mine]) | _steps_within(loaded.config, outputs)
            steps.append(PlannedStep(step.name, step.stage, stage, loaded, choice, reads))
            outputs[step.name] = loaded.config.output
        except ConfigError as error:
            problems += [f"step {step.name}: {problem}" for problem in error.problems]
            outputs[step.name] = recipe.output / step.name  # for what the steps behind it say
    if problems:
        raise ConfigError(problems)
    return PlannedRecipe(recipe, steps, [step for step in steps if step.name in to_run])


def _steps_within(config: StageConfig, outputs: Mapping[str, Path]) -> frozenset[str]:
    """The steps in whose output a path of the config lies, wherever it was written: in the step's own YAML too."""
    values = config.model_dump(mode="json", exclude={"output"})
    paths = [Path(text) for text in strings(values)]
    return frozenset(name for name, output in outputs.items() if any(path.is_relative_to(output) for path in paths))


def _first_part(override: str) -> str:
    return override.partition("=")[0].partition(".")[0]


def _by_step(overrides: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """The overrides of each step, without its name in front.

    Raises:
        ConfigError: names each override that is of no step.
    """
    problems: list[str] = []
    found: dict[str, list[str]] = {}
    for override in overrides:
        name, _, rest = override.partition(".")
        if name in names and "=" not in name:
            found.setdefault(name, []).append(rest)
            continue
        key = override.partition("=")[0]
        nearest = difflib.get_close_matches(_first_part(override), [*names, *RECIPE_KEYS], n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"the steps are {', '.join(names)}"
        problems.append(f"command line: {key}: neither a key of the recipe nor STEP.key ({hint})")
    if problems:
        raise ConfigError(problems)
    return found


def run_steps(steps: Sequence[PlannedStep], *, force: bool = False) -> dict[str, Manifest]:
    """Run the steps in order. What is published and unchanged is skipped; `force` replaces what has changed, is
    damaged, or was left open (requests without a reply, tasks that were not run)."""
    manifests: dict[str, Manifest] = {}
    for number, step in enumerate(steps, start=1):
        say(f"── {number}/{len(steps)} {step.name}")
        manifests[step.name] = step.stage.run(step.loaded.config, force=force)
        check_made(step, steps[number:])
    return manifests


def check_made(step: PlannedStep, behind: Sequence[PlannedStep]) -> None:
    """Look for what steps behind a published one read in its folder.

    Raises:
        ConfigError: it did not make that, and the steps between would run for nothing.
    """
    output = step.loaded.config.output
    for other in behind:
        for path in other.loaded.awaited:
            if Path(path).is_relative_to(output) and not there(path):
                raise ConfigError(
                    f"step {other.name} reads {path}, which step {step.name} did not make; change what {other.name} "
                    f"reads, or the config of {step.name}, which says why where it leaves something out"
                )
