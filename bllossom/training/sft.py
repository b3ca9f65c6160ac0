"""sft: tune on instructions, with loss on the outputs only, L_SFT of the paper (arXiv 2403.10882, section 3)."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from bllossom.artifacts import LOGS, Manifest, publish
from bllossom.config import InputPath, Source, is_hub_id
from bllossom.console import say
from bllossom.instructions.dataset import Examples, epoch_order, load_examples
from bllossom.instructions.template import CHAT_TEMPLATE
from bllossom.training.models import copy_tokenizer, load_model, save_model
from bllossom.training.rows import IGNORED, Row
from bllossom.training.settings import TrainingConfig
from bllossom.training.trainer import CHECKPOINTS, train
from bllossom.vocab.tokenizer import load_tokenizer


class SftConfig(TrainingConfig):
    """What `bllossom sft` reads."""

    model: Annotated[Source, Field(description="a model folder with its tokenizer, or a hub id")]
    data: Annotated[list[InputPath], Field(min_length=1, description="instruction files (see instructions/dataset.py)")]
    examples_per_step: Annotated[int, Field(gt=0, description="examples in one optimizer step")]
    epochs: Annotated[int, Field(gt=0, description="times that each example is read")] = 1
    max_tokens: Annotated[int, Field(gt=1, description="longest example, in tokens")] = 2048
    too_long: Annotated[
        Literal["drop", "cut"], Field(description="what is done with a longer example; each one is counted and listed")
    ] = "drop"

    @model_validator(mode="after")
    def _check_batch(self) -> "SftConfig":
        if self.examples_per_step % self.micro_batch:
            raise ValueError(
                f"examples_per_step {self.examples_per_step} is not a multiple of micro_batch {self.micro_batch}"
            )
        return self


class ExampleRows:
    """Instruction examples as rows: one pass after the other, each in an order of its own.

    The last step of a run is filled from the pass that would follow, so that every example is read at least `epochs`
    times and no step is smaller than the others.
    """

    def __init__(self, examples: Examples, seed: int) -> None:
        self.examples = examples
        self.seed = seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def row(self, index: int) -> Row:
        """Example `index` of the endless sequence of passes."""
        epoch, place = divmod(index, len(self.examples.items))
        if epoch != self._epoch:  # kept only because shuffling anew for each row is slow
            self._epoch, self._order = epoch, epoch_order(len(self.examples.items), self.seed, epoch)
        example = self.examples.items[self._order[place]]
        labels = np.where(example.supervised, example.ids, IGNORED)
        return Row(example.ids, labels, np.arange(len(example.ids)), "outputs")


def sft(config: SftConfig, *, force: bool = False) -> Manifest:
    """Tune the model of `config` on its instructions and publish a plain Hugging Face folder with a chat template.

    Raises:
        BllossomError: an instruction file is not of the documented shape, or no example is left.
        Stopped: stopped on request; the same command goes on.
    """
    inputs = {f"data.{index}": path for index, path in enumerate(config.data)}
    if not is_hub_id(config.model):
        inputs["model"] = Path(config.model)
    return publish(config, stage="sft", inputs=inputs, build=lambda folder: _build(config, folder), force=force)


def dry_run(config: SftConfig) -> list[str]:
    """The batch arithmetic; the number of steps follows from the examples once model and data are there."""
    accumulation = config.examples_per_step // config.micro_batch
    return [
        f"micro-batch {config.micro_batch} examples × 1 rank × {accumulation} accumulation = "
        f"{config.examples_per_step} examples a step; {config.epochs} epochs of {len(config.data)} files"
    ]


def _build(config: SftConfig, folder: Path) -> dict[str, Any]:
    tokenizer = load_tokenizer(config.model)
    examples = load_examples(config.data, tokenizer, config.max_tokens, config.too_long)
    figures = examples.figures()
    say(", ".join(f"{name} {value:,}" for name, value in figures.items()))
    _list_too_long(examples, folder)
    steps = -(-len(examples.items) * config.epochs // config.examples_per_step)
    model = load_model(config.model)
    rows = ExampleRows(examples, config.seed)
    trained = train(model, rows, config, folder, steps=steps, rows_per_step=config.examples_per_step)
    save_model(model, folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    copy_tokenizer(Path(config.model), folder)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return figures | trained


def _list_too_long(examples: Examples, folder: Path) -> None:
    """Write what was dropped or cut where a person can read it."""
    (folder / LOGS).mkdir(exist_ok=True)
    lines = [json.dumps(vars(entry), ensure_ascii=False) + "\n" for entry in examples.too_long]
    (folder / LOGS / "too_long.jsonl").write_text("".join(lines), encoding="utf8")
