"""pretrain: causal language modelling over a mixture of tokens, L_CLM of the paper (arXiv 2403.10882, section 3).

Old and new embeddings train together. The same stage makes a base from nothing (`model: {init: …}`).
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator
from transformers import PreTrainedModel

from bllossom.artifacts import Manifest, fingerprint
from bllossom.config import InputPath, Model
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.hub import pin
from bllossom.model.folder import check_rows, recorded_rows
from bllossom.tokenizer.files import copy_tokenizer, tokenizer_files
from bllossom.tokenizer.ids import tokenizer_fingerprint
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokens.mixture import Mixture, MixtureConfig, MixturePlan, heldout_blocks
from bllossom.tokens.shards import INDEX, read_index
from bllossom.training.block_rows import BlockRows, as_row, block_number
from bllossom.training.engines.lora import adapter_parameters, add_adapters, check_base, load_adapter
from bllossom.training.engines.optimization import Trainable, select_trainable, trained_weights
from bllossom.training.models import InitModel, ModelSource, check_kernels, init_model, load_model, resolve_here
from bllossom.training.planning.disk import PHASES, DiskNeed, check_disk, disk_need, strategy_of
from bllossom.training.ranks.device import device_here
from bllossom.training.ranks.ranks import Ranks
from bllossom.training.runs import checkpoints
from bllossom.training.runs.checkpoints import CHECKPOINTS, RunInputs, State
from bllossom.training.runs.launch import publish_trained, rank_count
from bllossom.training.runs.run import Run, Segment, Watch, accumulation_of, figures_of
from bllossom.training.runs.train_segment import parameter_count, train_segment
from bllossom.training.runs.validation import HeldOutRows
from bllossom.training.settings import LearningRate, TrainingConfig


class Phase(Model):
    """A part of a run with its own trainable weights, optimizer and learning-rate schedule (EEVE, arXiv 2402.14714)."""

    trainable: Annotated[Trainable, Field(description="as the key of the same name beside phases")]
    tokens: Annotated[int, Field(gt=0, description="tokens to train on, rounded up to whole steps")]
    learning_rate: Annotated[LearningRate | None, Field(description="another schedule than the run's")] = None


class PretrainConfig(TrainingConfig):
    """What `bllossom pretrain` reads."""

    # A run that met a bad block has to find its checkpoint again; which blocks it left out is part of its result.
    mending_keys: ClassVar[frozenset[str]] = frozenset({"skip_blocks"})

    model: Annotated[ModelSource, Field(description="a model folder, a hub id, or {init: …} to start from nothing")]
    tokens: Annotated[InputPath, Field(description="the folder that prepare made, with this model's tokenizer")]
    mixture: MixtureConfig
    block_size: Annotated[int, Field(gt=1, description="tokens in a row")]
    global_batch: Annotated[int, Field(gt=0, description="tokens in one optimizer step")]
    steps: Annotated[int | None, Field(gt=0, description="optimizer steps; or say tokens_total, epochs or phases")] = (
        None
    )
    tokens_total: Annotated[int | None, Field(gt=0, description="tokens to train on, rounded up to whole steps")] = None
    epochs: Annotated[
        float | None, Field(gt=0, description="whole steps until the first source has been read so often")
    ] = None
    phases: Annotated[
        list[Phase], Field(description="runs one after the other, each from the weights that the one before left")
    ] = []
    document_mask: Annotated[bool, Field(description="attention stays inside a document")] = True
    trainable: Annotated[
        Trainable,
        Field(description="all weights, both embedding matrices, or the rows that expand added; adapters train beside"),
    ] = "all"
    evaluate_every: Annotated[
        int | None, Field(gt=0, description="steps between held-out bits per byte; null measures at the end only")
    ] = None
    skip_blocks: Annotated[list[int], Field(description="blocks of the mixture to leave out, by number")] = []

    @model_validator(mode="after")
    def _check_batch(self) -> "PretrainConfig":
        if self.global_batch % self.block_size:
            nearest = max(1, round(self.global_batch / self.block_size)) * self.block_size
            raise ValueError(
                f"global_batch {self.global_batch:,} tokens is not a multiple of block_size {self.block_size:,}; the "
                f"nearest that fits is {nearest}"
            )
        if [bool(self.steps), bool(self.tokens_total), bool(self.epochs), bool(self.phases)].count(True) != 1:
            raise ValueError("give one of steps, tokens_total, epochs and phases")
        return self

    @model_validator(mode="after")
    def _check_lora(self) -> "PretrainConfig":
        if self.lora is None:
            return self
        if isinstance(self.model, InitModel):
            raise ValueError("lora: adapters need a trained model; name a folder or a hub id instead of model.init")
        if "all" in ([phase.trainable for phase in self.phases] or [self.trainable]):
            raise ValueError(
                "lora: trainable: all would train the very weights that adapters leave alone; set trainable to "
                "embeddings (beside the adapters both embedding matrices) or new_rows (the rows that expand added)"
            )
        return self

    def blocks_per_step(self) -> int:
        """Rows of one optimizer step."""
        return self.global_batch // self.block_size

    def segments(self, mixture: Mixture | None = None) -> list[Segment]:
        """The run's phases, or the run as one; how far `epochs` go is known with the mixture only."""
        if self.phases:
            counts = [-(-phase.tokens // self.global_batch) for phase in self.phases]
            parts = [(count, p.trainable, p.learning_rate) for count, p in zip(counts, self.phases, strict=True)]
        elif self.epochs:
            steps = mixture.longest() // self.blocks_per_step() if mixture else 0
            parts = [(steps, self.trainable, None)]
        else:
            parts = [(self.steps or -(-(self.tokens_total or 0) // self.global_batch), self.trainable, None)]
        total = sum(steps for steps, _, _ in parts)
        segments, first = [], 0
        for phase, (steps, trainable, rate) in enumerate(parts):
            rate = rate or self.learning_rate
            segments.append(Segment(steps, self.blocks_per_step(), rate, first, phase, total, trainable))
            first += steps
        return segments

    def total_steps(self) -> int:
        """Optimizer steps of the whole run; 0 where `epochs` asks for tokens that are not here yet."""
        mixture = _open_mixture(self) if self.epochs and self.tokens.is_dir() else None
        return self.segments(mixture)[0].total

    def arithmetic(self, world: int, steps: int) -> list[str]:
        """The batch arithmetic, said before the first step.

        Raises:
            ConfigError: ranks × micro-batch does not divide the global batch.
        """
        blocks = self.blocks_per_step()
        accumulation = accumulation_of(blocks, self, world, "tokens", self.block_size)
        return [
            f"micro-batch {self.micro_batch} blocks × {world} {'rank' if world == 1 else 'ranks'} × {accumulation} "
            f"accumulation = {blocks} blocks × {self.block_size:,} tokens = {self.global_batch:,} tokens a step",
            f"{steps:,} steps = {steps * blocks:,} blocks = {steps * self.global_batch:,} tokens",
        ]


def pretrain(config: PretrainConfig, *, force: bool = False) -> Manifest:
    """Train the model of `config` on its tokens and publish a plain Hugging Face folder; with lora a peft adapter's.

    Raises:
        BllossomError: model and tokens do not fit, the mixture has too little text, the loss is not finite.
        Stopped: stopped on request; the same command goes on.
    """
    config = resolve_here(config)
    inputs: dict[str, Path | str] = {"tokens": config.tokens}
    if isinstance(config.model, str):
        config = config.model_copy(update={"model": pin(config.model)})
        inputs["model"] = str(config.model)
    config.arithmetic(rank_count(config), 0)
    check_kernels(config, device_here(config.gpus))
    _check_tokenizer(config)
    if isinstance(config.model, str):
        check_base(config.model, config.lora)
    return publish_trained(
        config, stage="pretrain", inputs=inputs, run_inputs=lambda _: _run_inputs(config), work=_train, force=force
    )


def _check_tokenizer(config: PretrainConfig) -> None:
    """Refuse a model whose own tokenizer gives other ids than the tokens were made with."""
    if isinstance(config.model, str) and tokenizer_files(Path(config.model)):
        read_index(config.tokens, tokenizer_fingerprint(load_tokenizer(config.model)))


def dry_run(config: PretrainConfig) -> list[str]:
    """The batch arithmetic, and, once the tokens are there, what the mixture would read."""
    config, steps = resolve_here(config), config.total_steps()
    lines = [*config.arithmetic(rank_count(config), steps), config.computing(device_here(config.gpus))]
    if config.tokens.is_dir():
        lines += _plan(config, _open_mixture(config), steps).lines()
    return lines


def _open_mixture(config: PretrainConfig) -> Mixture:
    settings = config.mixture
    if config.epochs:
        settings = settings.model_copy(update={"max_epochs": min(config.epochs, settings.max_epochs)})
    return Mixture.open(config.tokens, settings, config.block_size, config.seed)


def _plan(config: PretrainConfig, mixture: Mixture, steps: int) -> MixturePlan:
    return mixture.plan(steps * config.blocks_per_step() + len(set(config.skip_blocks)))


def _run_inputs(config: PretrainConfig) -> RunInputs:
    """What a checkpoint must have been made from (see checkpoints.RunInputs)."""
    index = read_index(config.tokens)
    fixed = {
        "tokens": fingerprint(config.tokens / INDEX)[:16],
        "tokenizer": index.tokenizer[:16],
        "block_size": str(config.block_size),
        "global_batch": str(config.global_batch),
        "precision": config.precision,
        "mixture": f"{json.dumps(config.mixture.model_dump(), sort_keys=True)} seed {config.seed}",
    }
    skipped = sorted(set(config.skip_blocks))

    def after(step: int) -> Mapping[str, str]:
        last = block_number(step * config.blocks_per_step() - 1, skipped) if step else -1
        return fixed | {"skipped": ", ".join(str(block) for block in skipped if block < last) or "no block"}

    return after


def _train(config: PretrainConfig, folder: Path, ranks: Ranks) -> dict[str, Any]:
    """Train phase after phase on this rank; rank 0 leaves the published files in `folder`."""
    mixture = _open_mixture(config)
    segments = config.segments(mixture)
    steps = segments[0].total
    if not steps:
        raise BllossomError("not one whole step of text: lower global_batch, or add text")
    plan = _plan(config, mixture, steps)
    if ranks.first:
        computing = config.computing(device_here(config.gpus))
        for line in [*config.arithmetic(ranks.world, steps), computing, *plan.lines()]:
            say(line)
    rows = BlockRows(mixture, config.document_mask, config.skip_blocks)
    run = Run(config, folder, ranks, _run_inputs(config))
    watch = Watch(_heldout(config), config.evaluate_every, row_tokens=config.block_size)
    start, source = State(), config.model
    sizes: dict[str, int] = {}
    for segment in segments:
        last = segment is segments[-1]
        kept = folder / PHASES / str(segment.phase)
        if kept.is_dir():
            start, source = checkpoints.read_state(kept), str(kept / "model")
            continue
        model = _model(config, source, read_index(config.tokens).pieces)
        sizes = _sizes(model)
        check_disk(folder, _disk_need(config, model, [segment.trainable for segment in segments]))
        select_trainable(model, segment.trainable, _old_rows(config) if segment.trainable == "new_rows" else 0)
        unfinished = kept.with_name(f"{kept.name}.unfinished")
        start = train_segment(
            run,
            model,
            rows,
            segment,
            watch,
            save_to=folder if last else unfinished / "model",
            save_dtype=config.save_dtype if last else "fp32",
            start=start,
        )
        if not last and ranks.first:
            (unfinished / checkpoints.STATE).write_text(start.model_dump_json())
            checkpoints.finish(unfinished, kept)
        ranks.wait()
        source = str(kept / "model")
    if ranks.first:
        copy_tokenizer(config.tokens / "tokenizer", folder)
        for leftover in (CHECKPOINTS, PHASES):
            shutil.rmtree(folder / leftover, ignore_errors=True)
    rows_before = recorded_rows(config.model) if isinstance(config.model, str) else {}
    return (
        sizes | rows_before | {"tokens": steps * config.global_batch} | {"mixture": _shares(plan)} | figures_of(start)
    )


def _model(config: PretrainConfig, source: str | InitModel, pieces: int) -> PreTrainedModel:
    if isinstance(source, InitModel):
        return init_model(source.init, pieces, config.seed)
    # With lora, what a phase leaves is an adapter on the same base.
    model = load_model(source if config.lora is None else str(config.model), config)
    check_rows(str(config.model), model, pieces)
    if config.lora is not None:
        add_adapters(model, config.lora, config.seed)
        if source != config.model:
            load_adapter(model, Path(source))
    return model


def _disk_need(config: PretrainConfig, model: PreTrainedModel, phases: Sequence[Trainable]) -> DiskNeed:
    """Of all phases: what the first one writes is there until the last one ends."""
    most = max(parameter_count(trained_weights(model, trainable)) for trainable in phases)
    parameters = parameter_count(model.parameters())
    return disk_need(config, strategy_of(config), trained=most, parameters=parameters, phases=len(phases))


def _sizes(model: PreTrainedModel) -> dict[str, int]:
    adapters = adapter_parameters(model)
    sizes = {"parameters": parameter_count(model.parameters()) - adapters}
    return sizes | ({"adapter_parameters": adapters} if adapters else {})


def _heldout(config: PretrainConfig) -> dict[str, HeldOutRows]:
    """The held-out rows of the mixture's languages, as far as prepare kept some back."""
    index = read_index(config.tokens)
    languages = sorted({source.language for source in index.sources if source.heldout} & config.mixture.weights.keys())
    found = {}
    for language in languages:
        held = heldout_blocks(config.tokens, language, config.block_size)
        found[language] = HeldOutRows([as_row(block, document_mask=True) for block in held], held.bytes)
    return found


def _shares(plan: MixturePlan) -> dict[str, Any]:
    """Target beside observed, by language and by source, in the mixture's unit."""
    kept = ("target", "observed", "tokens", "bytes", "epochs")
    rows = {f"{row.language}/{row.source}".rstrip("/"): row for row in [*plan.languages, *plan.sources]}
    return {name: {key: getattr(row, key) for key in kept} for name, row in rows.items()}


def _old_rows(config: PretrainConfig) -> int:
    """Rows that the model had before expand.

    Raises:
        BllossomError: nobody wrote that down.
    """
    rows_before = recorded_rows(config.model) if isinstance(config.model, str) else {}
    if "old_rows" not in rows_before:
        raise BllossomError(
            "trainable: new_rows needs a model that `bllossom expand` made, or one trained from it: the manifest knows "
            "the rows"
        )
    return rows_before["old_rows"]
