"""sft: tune on instructions, with loss on the outputs only, L_SFT of the paper (arXiv 2403.10882, section 3)."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bllossom.artifacts import Manifest
from bllossom.config import InputPath, Source
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.hub import pin
from bllossom.instructions.dataset import Examples, NoExampleError, TooLongAction, hold_out, make_examples, tell
from bllossom.instructions.formats.choose import FormatName, chat_format
from bllossom.instructions.formats.format import ChatFormat, Example
from bllossom.instructions.messages import Conversation
from bllossom.instructions.reading import Instructions, InstructionSource, read_instructions
from bllossom.model.folder import recorded_rows
from bllossom.ranks.device import device_here
from bllossom.ranks.ranks import Ranks
from bllossom.tokenizer.chat_template import date_figures
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.engines import document_attention
from bllossom.training.engines.deepspeed_engine import offloads_gradients
from bllossom.training.engines.lora import check_base
from bllossom.training.engines.objective import CausalObjective
from bllossom.training.engines.rows import PACKABLE
from bllossom.training.models import check_kernels, resolve_here, window_of
from bllossom.training.runs.checkpoints import RunInputs
from bllossom.training.runs.launch import publish_trained, rank_count
from bllossom.training.runs.run import Run, Segment, Watch, accumulation_of, figures_of
from bllossom.training.runs.steps import EvenSteps, StepSource
from bllossom.training.runs.train_segment import train_segment
from bllossom.training.runs.validation import mean_loss
from bllossom.training.settings import LearningRate, TrainingConfig
from bllossom.training.tuning.chat_files import write_companions
from bllossom.training.tuning.example_rows import OUTPUTS, ExampleRows, PackedSteps, packed_row
from bllossom.training.tuning.instruction_data import are_here, list_left_out
from bllossom.training.tuning.samples import SAMPLES, write_samples
from bllossom.training.tuning.stage import adapted_model, check_length, identities, inputs_of, tell_run

LIMA_TOKENS = 2048


class SftConfig(TrainingConfig):
    """What `bllossom sft` reads. The defaults are LIMA's own recipe (arXiv 2305.11206, section 3), but for its residual
    dropout of 0 to 0.3, which none of the model families here has."""

    execution_keys: ClassVar[frozenset[str]] = TrainingConfig.execution_keys | {"packing"}

    model: Annotated[Source, Field(description="a model folder with its tokenizer, or a hub id")]
    data: Annotated[
        list[InstructionSource],
        Field(min_length=1, description="instructions, each a path or a mapping with path, format, fields, language"),
    ]
    template: Annotated[
        FormatName | InputPath | None,
        Field(description="the chat format: plain, lima, llama2, llama3, chatml, a Jinja file; null: the model's own"),
    ] = None
    on_error: Annotated[
        Literal["stop", "skip"], Field(description="a record that cannot be used ends the stage, or is skipped")
    ] = "stop"
    train_on: Annotated[
        Literal["outputs", "all"], Field(description="which tokens carry loss; all is there for comparison")
    ] = "outputs"
    examples_per_step: Annotated[int, Field(gt=0, description="examples in one optimizer step; LIMA: 32, or 64")] = 32
    epochs: Annotated[int, Field(gt=0, description="times that each example is read; LIMA: 15")] = 15
    learning_rate: Annotated[LearningRate, Field(description="LIMA: 1e-5 falling linearly to 1e-6, no warm-up")] = (
        LearningRate(peak=1e-5, warmup_fraction=0, schedule="linear", final_fraction=0.1)
    )
    max_tokens: Annotated[
        int | None,
        Field(gt=1, description="longest example and packed row, in tokens; null: the model's window, at most 2,048"),
    ] = None
    too_long: Annotated[
        TooLongAction,
        Field(description="a longer example is dropped, cut at its end, split by turns, or refused; each is listed"),
    ] = "drop"
    packing: Annotated[
        bool, Field(description="several examples in a row, each with its own attention; micro_batch then counts rows")
    ] = True
    neftune_alpha: Annotated[
        float | None, Field(gt=0, description="noise on embeddings while training (arXiv 2310.05914), as 5; null: none")
    ] = None
    holdout: Annotated[
        float, Field(ge=0, lt=1, description="share of the conversations kept back; their loss is measured each epoch")
    ] = 0.0
    patience: Annotated[
        int | None,
        Field(gt=0, description="with holdout: end after so many epochs in a row that are no better; null: never"),
    ] = None
    samples: Annotated[
        int, Field(ge=0, description="answers that the tuned model gives in samples.md, to held-out questions if any")
    ] = 5

    @model_validator(mode="after")
    def _patience_needs_holdout(self) -> Self:
        if self.patience is not None and not self.holdout:
            raise ValueError("patience: there is nothing to measure without held-out data; set holdout, as 0.05")
        return self

    def attention_kernel(self) -> str:
        """See TrainingConfig: packed rows are attended to example by example."""
        return document_attention.NAME if self.one_row else self.attention

    @property
    def one_row(self) -> bool:
        """Whether the rows of a micro-batch are put end to end."""
        return self.packing and self.attention == "sdpa"


def sft(config: SftConfig, *, force: bool = False) -> Manifest:
    """Tune the model of `config` on its instructions and publish a plain Hugging Face folder with a chat template; with
    lora a peft adapter's folder.

    Raises:
        BllossomError: a record is of no known shape or cannot be used, no example is left, or the format does not fit.
        Stopped: stopped on request; the same command goes on.
    """
    config = resolve_here(config)
    config = with_window(config.model_copy(update={"model": pin(config.model)}), window_of(config.model))
    if not config.packing:
        accumulation_of(config.examples_per_step, config, rank_count(config), "examples")
    check_kernels(config, device_here(config.gpus))
    check_base(config.model, config.lora)
    run_inputs = partial(_run_inputs, config)
    return publish_trained(
        config, stage="sft", inputs=inputs_of(config), run_inputs=run_inputs, work=_train, force=force
    )


def dry_run(config: SftConfig) -> list[str]:
    """The batch arithmetic, and what the run would learn from, once model and data are there; refuses what it would."""
    config = resolve_here(config)
    check_kernels(config, device_here(config.gpus))
    model_is_here = Path(config.model).is_dir()
    if model_is_here:
        check_base(config.model, config.lora)
        config = with_window(config, window_of(config.model))
    batch = f"{_arithmetic(config, rank_count(config))}; {config.epochs} epochs of {len(config.data)} sources"
    lines = [batch, config.computing(device_here(config.gpus))]
    if not (model_is_here and are_here(config.data, config.template)):
        return lines
    _, examples, heldout, _ = load_examples(config)
    held = f"; {len(heldout.items):,} held out" if heldout else ""
    return [*lines, ", ".join(f"{name} {count:,}" for name, count in examples.figures().items()) + held]


def with_window(config: SftConfig, window: int | None) -> SftConfig:
    """The config with its longest example, in tokens, of a model with that window.

    Raises:
        ConfigError: longer than the window.
    """
    if config.max_tokens is None:
        return config.model_copy(update={"max_tokens": min(window or LIMA_TOKENS, LIMA_TOKENS)})
    check_length(config.max_tokens, window)
    return config


def load_examples(config: SftConfig) -> tuple[ChatFormat, Examples, Examples | None, list[Conversation]]:
    """The chat format, the examples to train on, those held out, and conversations to answer for samples.md."""
    chat = chat_format(config.template, load_tokenizer(config.model))
    found = read_instructions(config.data, on_error=config.on_error)
    heldout: list[Conversation] = []
    if config.holdout:
        found, heldout = hold_out(found, config.holdout, config.seed)
    make = partial(
        make_examples,
        chat=chat,
        max_tokens=config.max_tokens or LIMA_TOKENS,
        too_long=config.too_long,
        on_error=config.on_error,
    )
    examples = make(found, train_on=config.train_on)
    try:
        held = make(Instructions(heldout, [], 0)) if heldout else None
    except NoExampleError as error:
        told = f"holdout: of the {len(heldout):,} conversations held out {error}"
        raise BllossomError(f"{told}; or set another seed, or a larger holdout") from error
    left_out = {skipped.source for skipped in (held or examples).skipped}  # the format has no place for these
    questions = [each for each in heldout or found.conversations if each.source not in left_out]
    return chat, examples, held, questions


def _arithmetic(config: SftConfig, world: int) -> str:
    ranks = f"{world} {'rank' if world == 1 else 'ranks'}"
    if config.packing:
        return (
            f"{config.examples_per_step} examples a step, packed into rows of at most "
            f"{config.max_tokens or LIMA_TOKENS:,} tokens, {config.micro_batch} rows at a time on each of {ranks}"
        )
    accumulation = accumulation_of(config.examples_per_step, config, world, "examples")
    return (
        f"micro-batch {config.micro_batch} examples × {ranks} × {accumulation} accumulation = "
        f"{config.examples_per_step} examples a step"
    )


def _run_inputs(config: SftConfig, folder: Path) -> RunInputs:
    """What a checkpoint must have been made from (see checkpoints.RunInputs)."""
    fixed = identities(config, folder) | {
        "examples_per_step": str(config.examples_per_step),
        "precision": config.precision,
        "order": f"max_tokens {config.max_tokens} {config.too_long} seed {config.seed}",
    }
    return lambda step: fixed


def _train(config: SftConfig, folder: Path, ranks: Ranks) -> dict[str, Any]:
    chat, examples, heldout, questions = load_examples(config)
    figures = examples.figures() | ({"heldout_examples": len(heldout.items)} if heldout else {})
    model = adapted_model(config.model, config, chat, folder)
    config, unpacked = without_leaks(config, model.config.model_type)
    if unpacked:
        accumulation_of(config.examples_per_step, config, ranks.world, "examples")
    if ranks.first:
        if unpacked:
            say(f"{unpacked}: packing is off, one example a row")
        tell_run(_arithmetic(config, ranks.world), config, figures, chat)
        tell(examples, chat)
        if heldout and (heldout.too_long or heldout.skipped):
            told = f"{len(heldout.too_long):,} too long, {len(heldout.skipped):,} that the format has no place for"
            say(f"of what is held out, {told}: listed with the others")
        list_left_out([examples, heldout] if heldout else [examples], folder)
    # In whole numbers: a share of a step that is rounded up would be a step too many.
    read = [epoch * len(examples.items) for epoch in range(1, config.epochs + 1)]
    epoch_ends = [-(-count // config.examples_per_step) for count in read]
    steps = epoch_ends[-1]
    state = train_segment(
        Run(config, folder, ranks, _run_inputs(config, folder)),
        model,
        CausalObjective([OUTPUTS], config.neftune_alpha, one_row=config.one_row),
        _steps(config, examples.items),
        Segment(steps, config.examples_per_step, config.learning_rate, total=steps),
        _watch(config, heldout, ranks, epoch_ends),
        save_to=folder,
        save_dtype=config.save_dtype,
    )
    if ranks.first:
        write_companions(config.model, model, chat, folder)
        try:
            write_samples(folder, config, model, chat, questions[: config.samples])
        except Exception as error:  # whatever answering fails by: the training is done, and is not to be lost by it
            say(f"{SAMPLES} is left out, as the model does not answer here: {str(error) or type(error).__name__}")
    best = {"best_step": state.best_step} if heldout else {}
    return (
        recorded_rows(config.model) | figures | date_figures(chat.template) | figures_of(state, "heldout_loss") | best
    )


def without_leaks(config: SftConfig, model_type: str) -> tuple[SftConfig, str]:
    """The config, with packing off where examples of one row could not be kept apart, and why; "" where it stays."""
    why = ""
    if config.packing and model_type not in PACKABLE:
        why = f"the attention of {model_type} is not known to keep examples of one row apart"
    elif config.packing and config.deepspeed is not None and offloads_gradients(str(config.deepspeed)):
        why = "ZeRO 1 and 2 with offload want as many micro-batches in every step"
    return (config.model_copy(update={"packing": False}), why) if why else (config, why)


def _steps(config: SftConfig, examples: Sequence[Example]) -> StepSource:
    rows = ExampleRows(examples, config.seed)
    if not config.packing:
        return EvenSteps(rows, config.examples_per_step, config.micro_batch)
    return PackedSteps(rows, config.examples_per_step, config.max_tokens or LIMA_TOKENS, config.micro_batch)


def _watch(config: SftConfig, heldout: Examples | None, ranks: Ranks, epoch_ends: Iterable[int]) -> Watch:
    """The loss on held-out answers at the end of each epoch, by language; the best epoch's weights are kept."""
    if heldout is None:
        return Watch()
    languages = sorted({example.language for example in heldout.items})
    rows = {
        language or OUTPUTS: [packed_row([example]) for example in heldout.items if example.language == language]
        for language in languages
    }
    score = partial(mean_loss, heldout=rows, ranks=ranks, micro_batch=config.micro_batch)
    return Watch(score, "heldout_loss", evaluate_at=frozenset(epoch_ends), keep_best=True, patience=config.patience)
