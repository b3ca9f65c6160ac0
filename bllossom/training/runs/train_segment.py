"""From a model and its rows to a trained, saved model: what pretrain and sft do alike, on every rank."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bllossom.model.folder import save_model
from bllossom.training.engines.deepspeed_engine import DeepSpeedEngine
from bllossom.training.engines.engine import Engine, PlainEngine
from bllossom.training.engines.lora import save_adapter
from bllossom.training.engines.objective import Objective
from bllossom.training.models import prepare_for_training
from bllossom.training.runs.checkpoints import State
from bllossom.training.runs.log import flops_per_token, matmul_limit
from bllossom.training.runs.run import Run, Segment, Watch
from bllossom.training.runs.steps import StepSource
from bllossom.training.runs.trainer import train
from bllossom.training.settings import TrainingConfig


def train_segment(
    run: Run[TrainingConfig],
    model: PreTrainedModel,
    objective: Objective,
    source: StepSource,
    segment: Segment,
    watch: Watch,
    *,
    save_to: Path,
    save_dtype: str,
    start: State | None = None,
) -> State:
    """Train one segment and write the model, or its adapters, to `save_to`; gives the state at its end.

    What may train is selected before (select_trainable, add_adapters). `start` is the state that the phase before left.
    """
    config, ranks = run.config, run.ranks
    if ranks.first and watch.row_tokens:
        dtype = torch.bfloat16 if config.bf16 else torch.float32
        limit = matmul_limit(ranks.device, dtype) * (ranks.world if ranks.device.type == "cuda" else 1)
        every = flops_per_token(model.config, parameter_count(model.parameters()), watch.row_tokens)
        flops = every - 2.0 * frozen_in_products(model)
        watch = replace(watch, flops_per_token=flops, matmul_limit=limit)
    prepare_for_training(model, config)
    engine = make_engine(model, run, segment, objective)
    state = train(run, engine, objective, source, segment, watch, start or State())
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


def make_engine(model: PreTrainedModel, run: Run[TrainingConfig], segment: Segment, objective: Objective) -> Engine:
    """The engine that the config names."""
    config, ranks = run.config, run.ranks
    if config.deepspeed is None:
        return PlainEngine(model, config, ranks, segment.trainable, objective)
    accumulation = max(1, segment.rows_per_step // (config.micro_batch * ranks.world))
    return DeepSpeedEngine(model, config, ranks, segment.trainable, objective, accumulation=accumulation)
