"""From a model and its rows to a trained, saved model: what pretrain and sft do alike, on every rank."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from bllossom.errors import ConfigError
from bllossom.model.folder import save_model
from bllossom.training.engines.deepspeed_engine import DeepSpeedEngine
from bllossom.training.engines.engine import Engine, PlainEngine
from bllossom.training.engines.lora import save_adapter
from bllossom.training.engines.optimization import Trainable
from bllossom.training.engines.rows import RowSource
from bllossom.training.models import prepare_for_training
from bllossom.training.ranks.ranks import Ranks
from bllossom.training.runs.checkpoints import CHECKPOINTS, Reads, State, is_universal, newest
from bllossom.training.runs.heldout import HeldOutRows
from bllossom.training.runs.log import flops_per_token, matmul_limit
from bllossom.training.runs.trainer import Segment, Watch, train
from bllossom.training.settings import TrainingConfig


def train_and_save(
    model: PreTrainedModel,
    source: RowSource,
    config: TrainingConfig,
    folder: Path,
    ranks: Ranks,
    segment: Segment,
    *,
    reads: Reads,
    save_to: Path,
    save_dtype: str,
    start: State | None = None,
    trainable: Trainable = "all",
    heldout: Mapping[str, HeldOutRows] | None = None,
    evaluate_every: int | None = None,
    row_tokens: int = 0,
) -> State:
    """Train one segment and write the model, or its adapters, to `save_to`.

    What may train is selected before (select_trainable, add_adapters).
    """
    watch = Watch(heldout or {}, evaluate_every)
    if ranks.first and row_tokens:
        dtype = torch.bfloat16 if config.bf16 else torch.float32
        limit = matmul_limit(ranks.device, dtype) * (ranks.world if ranks.device.type == "cuda" else 1)
        every = flops_per_token(model.config, parameter_count(model.parameters()), row_tokens)
        flops = every - 2.0 * frozen_in_products(model)
        watch = replace(watch, flops_per_token=flops, matmul_limit=limit)
    prepare_for_training(model, config)
    engine = make_engine(model, config, ranks, trainable, segment.rows_per_step, folder)
    state = train(engine, source, config, folder, ranks, segment, reads=reads, start=start, watch=watch)
    if config.lora is None:
        save_model(model, engine.weights(), save_to, save_dtype, writes=ranks.first)
    else:
        trained_weights = engine.weights(trained_only=True)
        save_adapter(model, config.lora, trained_weights, save_to, save_dtype, writes=ranks.first)
    ranks.wait()
    if isinstance(engine, DeepSpeedEngine):
        engine.close()
    return state


def parameter_count(weights: Iterable[torch.Tensor]) -> int:
    """Parameters of whole weights, of which this rank may hold a part (ZeRO-3)."""
    return sum(getattr(weight, "ds_numel", weight.numel()) for weight in weights)


def frozen_in_products(model: PreTrainedModel) -> int:
    """Parameters that are multiplied but get no gradient of their own, which saves 2 of their 6 operations a token."""
    looked_up = None if model.config.tie_word_embeddings else model.get_input_embeddings().weight
    frozen = (weight for weight in model.parameters() if not weight.requires_grad and weight is not looked_up)
    return parameter_count(frozen)


def make_engine(
    model: PreTrainedModel, config: TrainingConfig, ranks: Ranks, trainable: Trainable, rows_per_step: int, folder: Path
) -> Engine:
    """The engine that the config names."""
    if config.deepspeed is None:
        return PlainEngine(model, config, ranks, trainable)
    accumulation = rows_per_step // (config.micro_batch * ranks.world)
    checkpoint = newest(folder / CHECKPOINTS)
    universal = checkpoint is not None and is_universal(checkpoint)
    return DeepSpeedEngine(model, config, ranks, trainable, accumulation=accumulation, universal=universal)


def accumulation_of(rows_per_step: int, config: TrainingConfig, world: int, unit: str, size: int = 1) -> int:
    """Micro-batches of one rank in a step.

    Raises:
        ConfigError: ranks × micro-batch does not divide the global batch; names the nearest that fit, in `unit`
            (`size` of which are a row).
    """
    stride = config.micro_batch * world
    if rows_per_step % stride == 0:
        return rows_per_step // stride
    below, above = rows_per_step // stride * stride, math.ceil(rows_per_step / stride) * stride
    fits = " or ".join(f"{rows * size:,}" for rows in (below, above) if rows)
    raise ConfigError(
        f"{rows_per_step * size:,} {unit} a step are not a multiple of {world} ranks × micro_batch "
        f"{config.micro_batch}{f' × {size:,}' if size > 1 else ''} = {stride * size:,} {unit}; the nearest that fit: "
        f"{fits}; or change micro_batch"
    )


def figures_of(state: State) -> dict[str, Any]:
    """What a manifest tells of the training."""
    told: dict[str, Any] = {
        "steps": state.step,
        "supervised_tokens": state.tokens,
        "last_loss": {group: round(loss, 6) for group, loss in state.losses.items()},
    }
    if state.heldout:
        told["bits_per_byte"] = {language: round(bits, 6) for language, bits in state.heldout.items()}
    return told
