"""pretrain: causal language modelling over a mixture of tokens, L_CLM of the paper (arXiv 2403.10882, section 3).

Old and new embeddings train together. The same stage makes a base from nothing (`model: {init: …}`).
"""

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from bllossom.artifacts import Manifest, publish, read_manifest
from bllossom.config import InputPath, is_hub_id
from bllossom.console import say
from bllossom.corpus.mixture import Mixture, MixtureConfig, Plan
from bllossom.corpus.shards import read_index
from bllossom.errors import BllossomError
from bllossom.training.models import InitModel, ModelSource, copy_tokenizer, init_model, load_model, save_model
from bllossom.training.optimization import Trainable, select_trainable
from bllossom.training.rows import IGNORED, Row
from bllossom.training.settings import TrainingConfig
from bllossom.training.trainer import CHECKPOINTS, train


class PretrainConfig(TrainingConfig):
    """What `bllossom pretrain` reads."""

    model: Annotated[ModelSource, Field(description="a model folder, a hub id, or {init: …} to start from nothing")]
    tokens: Annotated[InputPath, Field(description="the folder that prepare made, with this model's tokenizer")]
    mixture: MixtureConfig
    block_size: Annotated[int, Field(gt=1, description="tokens in a row")]
    global_batch: Annotated[int, Field(gt=0, description="tokens in one optimizer step")]
    steps: Annotated[int | None, Field(gt=0, description="optimizer steps; or say tokens_total")] = None
    tokens_total: Annotated[int | None, Field(gt=0, description="tokens to train on, rounded up to whole steps")] = None
    document_mask: Annotated[bool, Field(description="attention stays inside a document")] = True
    trainable: Annotated[
        Trainable, Field(description="all weights, both embedding matrices, or only the rows that expand added")
    ] = "all"

    @model_validator(mode="after")
    def _check_batch(self) -> "PretrainConfig":
        unit = self.block_size * self.micro_batch
        if self.global_batch % unit:
            nearest = max(1, round(self.global_batch / unit)) * unit
            raise ValueError(
                f"global_batch {self.global_batch:,} tokens is not a multiple of micro_batch × block_size = {unit:,}; "
                f"the nearest that fits is {nearest}"
            )
        if (self.steps is None) == (self.tokens_total is None):
            raise ValueError("give either steps or tokens_total")
        return self

    def blocks_per_step(self) -> int:
        """Rows of one optimizer step."""
        return self.global_batch // self.block_size

    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps or -(-(self.tokens_total or 0) // self.global_batch)

    def arithmetic(self) -> list[str]:
        """The batch arithmetic, said before the first step."""
        blocks, steps = self.blocks_per_step(), self.total_steps()
        return [
            f"micro-batch {self.micro_batch} blocks × 1 rank × {blocks // self.micro_batch} accumulation = {blocks} "
            f"blocks × {self.block_size:,} tokens = {self.global_batch:,} tokens a step",
            f"{steps:,} steps = {steps * blocks:,} blocks = {steps * self.global_batch:,} tokens",
        ]


class BlockRows:
    """The mixture's blocks as rows. With document masks positions restart at each document, and its first token has
    no label: what stands before it belongs to another document."""

    def __init__(self, mixture: Mixture, document_mask: bool) -> None:
        self.mixture = mixture
        self.document_mask = document_mask

    def row(self, index: int) -> Row:
        """Block `index` of the mixture."""
        block = self.mixture.block(index)
        if not self.document_mask:
            return Row(block.ids, block.ids, np.arange(len(block.ids)), block.language)
        labels = np.where(block.positions == 0, IGNORED, block.ids)
        return Row(block.ids, labels, block.positions, block.language)

    def describe(self, index: int) -> str:
        """Where block `index` comes from."""
        block = self.mixture.block(index)
        return f"block {index} ({block.language}/{block.source}, documents {list(block.documents)})"


def pretrain(config: PretrainConfig, *, force: bool = False) -> Manifest:
    """Train the model of `config` on its tokens and publish a plain Hugging Face folder.

    Raises:
        BllossomError: model and tokens do not fit, the mixture has too little text, the loss is not finite.
        Stopped: stopped on request; the same command goes on.
    """
    inputs = {"tokens": config.tokens}
    if isinstance(config.model, str) and not is_hub_id(config.model):
        inputs["model"] = Path(config.model)
    return publish(config, stage="pretrain", inputs=inputs, build=lambda folder: _build(config, folder), force=force)


def dry_run(config: PretrainConfig) -> list[str]:
    """The batch arithmetic, and, once the tokens are there, what the mixture would read."""
    lines = config.arithmetic()
    if config.tokens.is_dir():
        lines += _open_mixture(config).plan(config.total_steps() * config.blocks_per_step()).lines()
    return lines


def _open_mixture(config: PretrainConfig) -> Mixture:
    return Mixture.open(config.tokens, config.mixture, config.block_size, config.seed)


def _build(config: PretrainConfig, folder: Path) -> dict[str, Any]:
    mixture = _open_mixture(config)
    steps, blocks = config.total_steps(), config.blocks_per_step()
    plan = mixture.plan(steps * blocks)
    for line in [*config.arithmetic(), *plan.lines()]:
        say(line)
    expected = read_index(config.tokens).pieces
    if isinstance(config.model, InitModel):
        model = init_model(config.model.init, expected, config.seed)
    else:
        model = load_model(config.model, expected)
    select_trainable(model, config.trainable, _old_rows(config))
    rows = BlockRows(mixture, config.document_mask)
    figures = train(
        model,
        rows,
        config,
        folder,
        steps=steps,
        rows_per_step=blocks,
        trainable=config.trainable,
        describe_rows=rows.describe,
    )
    save_model(model, folder)
    copy_tokenizer(config.tokens / "tokenizer", folder)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"parameters": parameters, "tokens": steps * config.global_batch, "mixture": _shares(plan), **figures}


def _shares(plan: Plan) -> dict[str, Any]:
    """Target beside observed, by language and by source, in the mixture's unit."""
    kept = ("target", "observed", "tokens", "bytes", "epochs")
    rows = {f"{row.language}/{row.source}".rstrip("/"): row for row in [*plan.languages, *plan.sources]}
    return {name: {key: getattr(row, key) for key in kept} for name, row in rows.items()}


def _old_rows(config: PretrainConfig) -> int:
    """Rows that the model had before expand; only needed where just the new ones train."""
    if config.trainable != "new_rows":
        return 0
    manifest = read_manifest(Path(config.model)) if isinstance(config.model, str) else None
    if isinstance(config.model, InitModel) or manifest is None or "old_rows" not in manifest.figures:
        raise BllossomError(
            "trainable: new_rows needs a model that `bllossom expand` made: its manifest knows the rows"
        )
    return int(manifest.figures["old_rows"])
