"""dpo: tune on pairs of answers, the better and the worse, against a reference (DPO, arXiv 2305.18290)."""

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from transformers import AutoConfig

from bllossom.artifacts import Manifest
from bllossom.config import InputPath, Source
from bllossom.errors import BllossomError
from bllossom.hub import pin, pretrained
from bllossom.instructions.dataset import Examples, TooLong
from bllossom.instructions.formats.choose import FormatName, chat_format
from bllossom.instructions.formats.format import ChatFormat
from bllossom.instructions.messages import UnusableError
from bllossom.instructions.preferences import EncodedPair, PreferenceSource, encode_pair, read_pairs
from bllossom.instructions.reading import Skipped
from bllossom.model.folder import recorded_rows
from bllossom.ranks.device import device_here
from bllossom.ranks.ranks import Ranks
from bllossom.tokenizer.chat_template import date_figures
from bllossom.tokenizer.ids import tokenizer_fingerprint
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.engines.lora import check_base
from bllossom.training.engines.preference_loss import PreferenceObjective, PreferenceSettings
from bllossom.training.models import check_kernels, resolve_here, window_of
from bllossom.training.runs.checkpoints import RunInputs
from bllossom.training.runs.launch import publish_trained, rank_count
from bllossom.training.runs.run import Run, Segment, Watch, accumulation_of, figures_of
from bllossom.training.runs.train_segment import train_segment
from bllossom.training.settings import LearningRate, TrainingConfig
from bllossom.training.tuning.chat_files import write_companions
from bllossom.training.tuning.instruction_data import are_here, list_left_out
from bllossom.training.tuning.pair_rows import PairSteps, shares_prompt
from bllossom.training.tuning.pair_scores import pair_scores
from bllossom.training.tuning.references import reference_log_probabilities
from bllossom.training.tuning.stage import adapted_model, check_length, identities, inputs_of, tell_run


class DpoConfig(TrainingConfig):
    """What `bllossom dpo` reads. Learning rate, beta and pairs a step are by default those of DPO's authors
    (arXiv 2305.18290, appendix B), but for RMSprop and their warm-up of 150 steps."""

    model: Annotated[Source, Field(description="a model folder with its tokenizer, or a hub id")]
    reference: Annotated[
        Source | None, Field(description="what the model is held near to; null: itself as it is before the first step")
    ] = None
    data: Annotated[
        list[PreferenceSource],
        Field(min_length=1, description="pairs with prompt, chosen, rejected: a path, or a mapping with path, fields"),
    ]
    template: Annotated[
        FormatName | InputPath | None,
        Field(description="the chat format: plain, lima, llama2, llama3, chatml, a Jinja file; null: the model's own"),
    ] = None
    on_error: Annotated[
        Literal["stop", "skip"], Field(description="a record that cannot be used ends the stage, or is skipped")
    ] = "stop"
    beta: Annotated[float, Field(gt=0, description="how near to the reference the model is held: higher is nearer")] = (
        0.1
    )
    loss: Annotated[
        Literal["sigmoid", "ipo"], Field(description="DPO's own, or IPO's square of log-probabilities a token")
    ] = "sigmoid"
    normalise_by_length: Annotated[
        bool, Field(description="sigmoid on log-probabilities a token; ipo is so in any case")
    ] = False
    label_smoothing: Annotated[
        float, Field(ge=0, lt=0.5, description="share of pairs that are taken to be the wrong way round (cDPO)")
    ] = 0.0
    sft_weight: Annotated[
        float, Field(ge=0, description="weight of the chosen answers' own loss, a token, that is added")
    ] = 0.0
    pairs_per_step: Annotated[int, Field(gt=0, description="pairs in one optimizer step")] = 64
    epochs: Annotated[int, Field(gt=0, description="times that each pair is read")] = 1
    learning_rate: LearningRate = LearningRate(peak=1e-6, warmup_fraction=0.1, schedule="linear", final_fraction=0)
    max_tokens: Annotated[
        int | None, Field(gt=1, description="longest prompt with an answer, in tokens; null: the model's window")
    ] = None
    too_long: Annotated[
        Literal["drop", "refuse"], Field(description="what is done with a longer pair; each is listed")
    ] = "drop"
    holdout: Annotated[
        float,
        Field(ge=0, lt=1, description="share of the prompts kept back, to measure loss and accuracy on"),
    ] = 0.0
    evaluate_every: Annotated[
        int | None, Field(gt=0, description="steps between looks at what is held out; the end is always looked at")
    ] = None

    @model_validator(mode="after")
    def _ipo_is_by_length(self) -> Self:
        if self.loss == "ipo" and (self.normalise_by_length or self.label_smoothing):
            raise ValueError("loss: ipo is by length already and knows no label_smoothing; leave both out")
        return self

    @model_validator(mode="after")
    def _head_is_exact(self) -> Self:
        # What is learned from is a small difference of sums over whole answers.
        if self.head_tf32:
            raise ValueError("head_tf32: is not for dpo, whose log-probabilities are fp32; leave it out")
        return self

    def preference_settings(self) -> PreferenceSettings:
        """What decides the loss of a pair."""
        return PreferenceSettings(self.beta, self.loss, self.normalise_by_length, self.label_smoothing, self.sft_weight)


def dpo(config: DpoConfig, *, force: bool = False) -> Manifest:
    """Tune the model of `config` on pairs and publish a plain Hugging Face folder, or with lora an adapter's.

    Raises:
        BllossomError: a record is no pair, a pair is equal, no pair is left, or the reference has another tokenizer.
        Stopped: stopped on request; the same command goes on.
    """
    reference = None if config.reference is None else pin(config.reference)
    config = resolve_here(config).model_copy(update={"model": pin(config.model), "reference": reference})
    inputs = inputs_of(config, config.reference)
    accumulation_of(config.pairs_per_step, config, rank_count(config), "pairs")
    _check(config)
    run_inputs = partial(_run_inputs, config)
    return publish_trained(config, stage="dpo", inputs=inputs, run_inputs=run_inputs, work=_train, force=force)


def dry_run(config: DpoConfig) -> list[str]:
    """The batch arithmetic, and what the run would learn from, once model and data are there; refuses what it would."""
    config = resolve_here(config)
    lines = [_arithmetic(config, rank_count(config)), config.computing(device_here(config.gpus))]
    models = [config.model, *([config.reference] if config.reference else [])]
    if not (all(Path(model).is_dir() for model in models) and are_here(config.data, config.template)):
        return lines
    _check(config)
    _, pairs, heldout, left_out = load_pairs(config)
    dropped = f"{len(left_out.too_long):,} too long, {len(left_out.skipped):,} skipped"
    return [*lines, f"{len(pairs):,} pairs to train on, {len(heldout):,} held out, {dropped}"]


def _check(config: DpoConfig) -> None:
    """Refuse what needs no data to be told, and a reference that reads other ids than the model: its log-probabilities
    would be of other texts."""
    check_kernels(config, device_here(config.gpus))
    check_base(config.model, config.lora)
    check_length(config.max_tokens, window_of(config.model))
    if config.reference is None:
        return
    sides = [tokenizer_fingerprint(load_tokenizer(source)) for source in (config.model, config.reference)]
    if sides[0] != sides[1]:
        raise BllossomError(
            f"reference: {config.reference} has another tokenizer than {config.model}; name one with the same, or none"
        )


def _arithmetic(config: DpoConfig, world: int) -> str:
    accumulation = accumulation_of(config.pairs_per_step, config, world, "pairs")
    ranks = f"{world} {'rank' if world == 1 else 'ranks'}"
    return (
        f"micro-batch {config.micro_batch} pairs × {ranks} × {accumulation} accumulation = {config.pairs_per_step} "
        f"pairs a step; {config.epochs} epochs"
    )


def _run_inputs(config: DpoConfig, folder: Path) -> RunInputs:
    """What a checkpoint must have been made from (see checkpoints.RunInputs)."""
    same = identities(config, folder, config.reference)
    fixed = (
        {"reference": same["model"]}
        | same
        | {
            "precision": config.precision,
            "order": f"max_tokens {config.max_tokens} pairs a step {config.pairs_per_step} seed {config.seed}",
            "loss": str(config.preference_settings()),
        }
    )
    return lambda step: fixed


def load_pairs(config: DpoConfig) -> tuple[ChatFormat, list[EncodedPair], list[EncodedPair], Examples]:
    """The chat format, the pairs to train on and those held out, and what was left out."""
    chat = chat_format(config.template, load_tokenizer(config.model))
    limit = config.max_tokens or window_of(config.model) or math.inf
    found, skipped = read_pairs(config.data, config.on_error)
    pairs: list[EncodedPair] = []
    listed: list[TooLong] = []
    for pair in found:
        try:
            encoded = encode_pair(chat, pair)
        except UnusableError as error:
            if config.on_error == "stop":
                raise BllossomError(f"{pair.chosen.source}: {error}; or set on_error: skip") from error
            skipped.append(Skipped(pair.chosen.source, str(error)))
            continue
        if encoded.longest() <= limit:
            pairs.append(encoded)
        elif config.too_long == "refuse":
            raise BllossomError(
                f"{encoded.source}: {encoded.longest():,} tokens, more than {limit:,}; raise max_tokens, or set "
                "too_long: drop"
            )
        else:
            listed.append(TooLong(encoded.source, encoded.longest(), "dropped"))
    training, heldout = _hold_out(pairs, config.holdout, config.seed)
    if not training:
        told = f"no pair is left to train on: {len(listed):,} too long, {len(heldout):,} held out"
        raise BllossomError(f"{told}; {'raise max_tokens' if listed else 'lower holdout, or add data'}")
    return chat, training, heldout, Examples([], listed, skipped, 0)


def _hold_out(pairs: Sequence[EncodedPair], share: float, seed: int) -> tuple[list[EncodedPair], list[EncodedPair]]:
    """Those to train on, and a share of the prompts, with all of their pairs, held out."""
    if not share:
        return list(pairs), []

    def place(pair: EncodedPair) -> bytes:
        return hashlib.sha256(f"{seed}".encode() + pair.prompt.tobytes()).digest()

    places = sorted({place(pair) for pair in pairs})
    held = set(places[: max(1, round(share * len(places)))])
    return [p for p in pairs if place(p) not in held], [p for p in pairs if place(p) in held]


def _train(config: DpoConfig, folder: Path, ranks: Ranks) -> dict[str, Any]:
    chat, pairs, heldout, left_out = load_pairs(config)
    figures = {
        "pairs": len(pairs),
        "heldout_pairs": len(heldout),
        "answer_tokens": sum(len(pair.chosen) + len(pair.rejected) for pair in pairs),
        "dropped": len(left_out.too_long),
        "skipped": len(left_out.skipped),
    }
    share = shares_prompt(AutoConfig.from_pretrained(**pretrained(config.model)), config.attention)
    if ranks.first:
        tell_run(_arithmetic(config, ranks.world), config, figures, chat)
        list_left_out([left_out], folder)
    references = reference_log_probabilities(
        config.reference or config.model, [*pairs, *heldout], config, ranks, folder.parent, share_prompt=share
    )
    model = adapted_model(config.model, config, chat, folder)
    objective = PreferenceObjective(config.preference_settings(), share_prompt=share)
    steps = math.ceil(len(pairs) * config.epochs / config.pairs_per_step)
    state = train_segment(
        Run(config, folder, ranks, _run_inputs(config, folder)),
        model,
        objective,
        PairSteps(pairs, references[: len(pairs)], config.seed, config.pairs_per_step, config.micro_batch),
        Segment(steps, config.pairs_per_step, config.learning_rate, total=steps),
        _watch(config, objective, heldout, references[len(pairs) :], ranks),
        save_to=folder,
        save_dtype=config.save_dtype,
    )
    if ranks.first:
        write_companions(config.model, model, chat, folder)
    return recorded_rows(config.model) | figures | date_figures(chat.template) | figures_of(state, "heldout")


def _watch(
    config: DpoConfig,
    objective: PreferenceObjective,
    heldout: Sequence[EncodedPair],
    references: NDArray[np.float64],
    ranks: Ranks,
) -> Watch:
    """Loss and accuracy on the pairs that are held out."""
    if not heldout:
        return Watch()
    rows = PairSteps(heldout, references, config.seed, len(heldout), config.micro_batch)
    score = partial(
        pair_scores,
        objective=objective,
        rows=[rows.row(place) for place in range(len(heldout))],
        ranks=ranks,
        micro_batch=config.micro_batch,
    )
    return Watch(score, "heldout", evaluate_every=config.evaluate_every)
