"""The stages by name, and a recipe: named steps in order, skipping what is already published and unchanged."""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, field_validator

from bllossom.artifacts import Manifest
from bllossom.config import Loaded, Model, StageConfig, load_config
from bllossom.console import say
from bllossom.errors import ConfigError


@dataclass(frozen=True)
class Stage:
    """Where a stage lives. Loaded on use: `bllossom --help` imports neither torch nor transformers."""

    module: str
    config_name: str
    function_name: str
    summary: str
    previews: str = ""  # the module that shows what training will see, where there is one
    bare_key: str = ""
    """The key, a list, that arguments of the command without a = belong to."""

    def config(self) -> type[StageConfig]:
        """The class of the stage's config."""
        return getattr(importlib.import_module(self.module), self.config_name)

    def overrides(self, arguments: Sequence[str]) -> list[str]:
        """Arguments of the command as `key=value`."""
        bare = [argument for argument in arguments if "=" not in argument]
        if not self.bare_key or not bare:
            return list(arguments)
        named = [argument for argument in arguments if "=" in argument]
        return [f"{self.bare_key}={json.dumps(bare, ensure_ascii=False)}", *named]

    def run(self, config: StageConfig, *, force: bool) -> Manifest:
        """Run the stage and publish its output."""
        return getattr(importlib.import_module(self.module), self.function_name)(config, force=force)

    def preview(self, config: StageConfig, count: int, **how: Any) -> None:
        """Show `count` examples as training will see them."""
        importlib.import_module(self.previews).preview(config, count, **how)

    def dry_run(self, config: StageConfig) -> list[str]:
        """Lines that say what the stage would do."""
        return importlib.import_module(self.module).dry_run(config)


STAGES: Mapping[str, Stage] = {
    "train-vocab": Stage(
        "bllossom.vocab.train", "TrainVocabConfig", "train_vocab", "Train a SentencePiece vocabulary from text."
    ),
    "merge-vocab": Stage(
        "bllossom.vocab.merge", "MergeVocabConfig", "merge_vocab", "Add a donor's pieces to a base vocabulary."
    ),
    "expand": Stage("bllossom.model.expand", "ExpandConfig", "expand", "Give a model rows for the new pieces."),
    "distill-rows": Stage(
        "bllossom.model.distill_rows",
        "DistillRowsConfig",
        "distill_rows",
        "Learn the new rows: what the old spellings did.",
    ),
    "prepare": Stage("bllossom.corpus.prepare", "PrepareConfig", "prepare", "Clean text and turn it into tokens."),
    "pretrain": Stage("bllossom.training.pretrain", "PretrainConfig", "pretrain", "Pretrain on a mixture of tokens."),
    "sft": Stage(
        "bllossom.training.sft",
        "SftConfig",
        "sft",
        "Tune on instructions, with loss on the outputs only.",
        previews="bllossom.training.preview",
    ),
    "dpo": Stage("bllossom.training.dpo", "DpoConfig", "dpo", "Tune on pairs of answers, the better and the worse."),
    "merge-adapter": Stage(
        "bllossom.model.merge_adapter", "MergeAdapterConfig", "merge_adapter", "Merge a LoRA adapter into its base."
    ),
    "localize translate": Stage(
        "bllossom.localize.translate", "TranslateConfig", "translate", "Translate an instruction set."
    ),
    "localize flag": Stage(
        "bllossom.localize.flag", "FlagConfig", "flag", "Say where a translation should be looked at."
    ),
    "localize export": Stage(
        "bllossom.localize.export", "ExportConfig", "export", "Publish what was reviewed, with a report."
    ),
    "export": Stage("bllossom.export.gguf", "ExportConfig", "export", "Write a model as one GGUF file, for llama.cpp."),
    "eval": Stage("bllossom.evaluation.harness", "EvalConfig", "evaluate", "Score a model: tasks and bits per byte."),
    "answers": Stage(
        "bllossom.evaluation.answers.answers",
        "AnswersConfig",
        "answers",
        "Let models answer a file of prompts.",
        bare_key="models",
    ),
    "judge": Stage(
        "bllossom.evaluation.judge.judge",
        "JudgeConfig",
        "judge",
        "Have a judge say which of two models answers better.",
        bare_key="answers",
    ),
}


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


class Recipe(Model):
    """Named steps in order; step NAME publishes `<output>/NAME`."""

    output: Annotated[Path, Field(description="the folder that holds every step's output")]
    seed: Annotated[int, Field(description="given to every step whose stage takes a seed")] = 0
    steps: Annotated[list[RecipeStep], Field(min_length=1)]

    @field_validator("steps")
    @classmethod
    def _named_once(cls, steps: list[RecipeStep]) -> list[RecipeStep]:
        names = [step.name for step in steps]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"every step needs a name of its own; used twice: {', '.join(twice)}")
        return steps


@dataclass(frozen=True)
class PlannedStep:
    """A step with its config read and checked."""

    name: str
    stage: Stage
    loaded: Loaded[StageConfig]


@dataclass(frozen=True)
class PlannedRecipe:
    """A recipe with every step's config read and checked."""

    recipe: Recipe
    steps: list[PlannedStep]

    def between(self, first: str | None, last: str | None) -> list[PlannedStep]:
        """The steps from `first` to `last`, both included; None is the recipe's own end."""
        names = [step.name for step in self.steps]
        for name in (first, last):
            if name is not None and name not in names:
                raise ConfigError(f"there is no step {name!r}; the steps are {', '.join(names)}")
        start = names.index(first) if first else 0
        stop = names.index(last) + 1 if last else len(names)
        if start >= stop:
            raise ConfigError(f"--from {first} comes after --until {last}; the steps are {', '.join(names)}")
        return self.steps[start:stop]


def read_recipe(path: Path, overrides: Sequence[str] = (), *, allow_missing: bool = False) -> PlannedRecipe:
    """Read a recipe and the config of each of its steps.

    Raises:
        ConfigError: holds the problems of the recipe, or of all its steps' configs together.
    """
    recipe = load_config(Recipe, path, overrides, keep_steps=True).config
    outputs: dict[str, Path] = {}
    steps: list[PlannedStep] = []
    problems: list[str] = []
    for step in recipe.steps:
        stage = STAGES[step.stage]
        kind = stage.config()
        values = {"output": str(recipe.output / step.name), **step.set}
        if "seed" in kind.model_fields:
            values = {"seed": recipe.seed, **values}
        file = None if step.config is None else path.parent / step.config
        try:
            loaded = load_config(kind, file, values=values, steps=outputs, allow_missing=allow_missing)
            steps.append(PlannedStep(step.name, stage, loaded))
        except ConfigError as error:
            problems += [f"step {step.name}: {problem}" for problem in error.problems]
        outputs[step.name] = recipe.output / step.name
    if problems:
        raise ConfigError(problems)
    return PlannedRecipe(recipe, steps)


def run_steps(steps: Sequence[PlannedStep], *, force: bool = False) -> dict[str, Manifest]:
    """Run the steps in order. What is published and unchanged is skipped; `force` replaces what has changed."""
    manifests: dict[str, Manifest] = {}
    for number, step in enumerate(steps, start=1):
        say(f"── {number}/{len(steps)} {step.name}")
        manifests[step.name] = step.stage.run(step.loaded.config, force=force)
    return manifests


def describe(stage: Stage, loaded: Loaded[StageConfig], say_line: Callable[[str], None]) -> None:
    """What a dry run says of one stage: its resolved config, what is not here yet, and what would happen."""
    say_line(yaml.safe_dump(loaded.config.model_dump(mode="json"), allow_unicode=True, sort_keys=False).rstrip())
    for line in [*loaded.missing, *stage.dry_run(loaded.config)]:
        say_line(f"# {line}")
