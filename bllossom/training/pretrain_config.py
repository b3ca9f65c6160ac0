"""The config of pretrain, and what follows from it alone: phases, batch arithmetic, the mixture."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from bllossom.config import AddedIn, InputPath, Model
from bllossom.tokens.mixture import Mixture, MixtureConfig
from bllossom.training.continuing import EarlierRun
from bllossom.training.engines.optimization import Trainable
from bllossom.training.models import InitModel, ModelSource
from bllossom.training.runs.run import Segment, accumulation_of
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
    bytes_total: Annotated[
        int | None,
        AddedIn(2),
        Field(gt=0, description="UTF-8 bytes of text to train on, to whole steps: as much text for every vocabulary"),
    ] = None
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
        Annotated[int, Field(gt=0)] | Literal[False] | None,
        Field(description="steps between held-out bits per byte; null measures at the end only, false never"),
    ] = None
    evaluate_tokens: Annotated[
        int | None,
        AddedIn(2),
        Field(gt=0, description="most held-out tokens scored of each language at a time; null scores all of them"),
    ] = None
    continue_from: Annotated[
        InputPath | None,
        AddedIn(2),
        Field(description="a run of pretrain that `model` came out of: its blocks are left out, the next ones read"),
    ] = None
    skip_blocks: Annotated[list[int], Field(description="blocks of the mixture to leave out, by number")] = []

    @field_validator("evaluate_every", mode="before")
    @classmethod
    def _check_evaluation(cls, value: object) -> object:
        if value is True or (value == 0 and value is not False):
            raise ValueError("should be a number of steps above 0, null (at the end only) or false (never)")
        return value

    @model_validator(mode="after")
    def _check_batch(self) -> "PretrainConfig":
        if self.global_batch % self.block_size:
            nearest = max(1, round(self.global_batch / self.block_size)) * self.block_size
            raise ValueError(
                f"global_batch {self.global_batch:,} tokens is not a multiple of block_size {self.block_size:,}; the "
                f"nearest that fits is {nearest}"
            )
        # A config that is read back, as from a manifest, states the default too: it was nobody's wish.
        allowed = self.mixture.max_epochs
        if self.epochs and allowed != MixtureConfig.model_fields["max_epochs"].default and allowed < self.epochs:
            raise ValueError(
                f"epochs: {self.epochs:g} are more than mixture.max_epochs {allowed:g} allows; set "
                f"mixture.max_epochs to {self.epochs:g}, or leave it out"
            )
        if self.continue_from is not None and isinstance(self.model, InitModel):
            raise ValueError("continue_from: model.init starts from nothing; set model to the run that is continued")
        lengths = (self.steps, self.tokens_total, self.bytes_total, self.epochs, self.phases)
        if [bool(length) for length in lengths].count(True) != 1:
            raise ValueError("give one of steps, tokens_total, bytes_total, epochs and phases")
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
        """The run's phases, or the run as one; how far `epochs` and `bytes_total` go is known with the mixture only."""
        if self.phases:
            counts = [-(-phase.tokens // self.global_batch) for phase in self.phases]
            parts = [(count, p.trainable, p.learning_rate) for count, p in zip(counts, self.phases, strict=True)]
        elif self.epochs:
            steps = max(0, mixture.longest() - self.blocks_before()) // self.blocks_per_step() if mixture else 0
            parts = [(steps, self.trainable, None)]
        elif self.bytes_total:
            blocks = mixture.blocks_of(self.bytes_total, after=self.blocks_before()) if mixture else 0
            parts = [(-(-blocks // self.blocks_per_step()), self.trainable, None)]
        else:
            parts = [(self.steps or -(-(self.tokens_total or 0) // self.global_batch), self.trainable, None)]
        total = sum(steps for steps, _, _ in parts)
        segments, first = [], 0
        for phase, (steps, trainable, rate) in enumerate(parts):
            rate = rate or self.learning_rate
            segments.append(Segment(steps, self.blocks_per_step(), rate, first, phase, total, trainable))
            first += steps
        return segments

    def earlier_run(self) -> EarlierRun | None:
        """The run that this one continues, once it is there."""
        there = self.continue_from is not None and self.continue_from.is_dir()
        return EarlierRun.read(self.continue_from) if there and self.continue_from else None

    def blocks_before(self) -> int:
        """Blocks that the run before this one has read."""
        earlier = self.earlier_run()
        return earlier.blocks if earlier else 0

    def blocks_left_out(self) -> list[int]:
        """The blocks that this run and the one before it leave out, ascending."""
        earlier = self.earlier_run()
        return sorted({*self.skip_blocks, *(earlier.skip_blocks if earlier else [])})

    def total_steps(self) -> int:
        """Optimizer steps of the whole run; 0 where they depend on tokens that are not here yet."""
        by_text = self.epochs or self.bytes_total
        mixture = open_mixture(self) if by_text and self.tokens.is_dir() else None
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


def open_mixture(config: PretrainConfig) -> Mixture:
    settings = config.mixture
    if config.epochs:
        settings = settings.model_copy(update={"max_epochs": config.epochs})
    left_out = len(config.blocks_left_out())
    return Mixture.open(config.tokens, settings, config.block_size, config.seed, left_out=left_out)
