"""The stages by name: where each lives, and what a dry run says of one."""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from bllossom.artifacts import Manifest
from bllossom.config import Loaded, StageConfig


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


def describe(stage: Stage, loaded: Loaded[StageConfig], say_line: Callable[[str], None]) -> None:
    """What a dry run says of one stage: its resolved config, what is not here yet, and what would happen."""
    say_line(yaml.safe_dump(loaded.config.model_dump(mode="json"), allow_unicode=True, sort_keys=False).rstrip())
    for line in [*loaded.missing, *stage.dry_run(loaded.config)]:
        say_line(f"# {line}")
