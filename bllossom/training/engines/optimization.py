"""Optimizer, learning rate, and which weights train."""

import math
from typing import Any, Literal, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from bllossom.training.settings import AdamW, LearningRate

Trainable = Literal["all", "new_rows", "embeddings"]


def learning_rate_at(step: int, steps: int, settings: LearningRate) -> float:
    """The learning rate of `step` (0-based) of `steps`: a pure function, so that a resume needs no scheduler state."""
    warmup = math.ceil(steps * settings.warmup_fraction)
    if step < warmup:
        return settings.peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": (1.0 + math.cos(math.pi * progress)) / 2.0,
    }[settings.schedule]
    if settings.schedule == "constant":
        return settings.peak
    return settings.peak * (settings.final_fraction + (1.0 - settings.final_fraction) * shape)


def parameter_groups(model: PreTrainedModel, settings: AdamW, trainable: Trainable) -> list[dict[str, Any]]:
    """The weights that train; weight decay on matrices only.

    With `new_rows` the embeddings do not decay: decay moves rows whose gradient is masked (transformers#35022). A zero
    gradient with zero moments then gives an update of exactly zero, and the old rows stay bit-equal.
    """
    masked = {id(matrix) for matrix in embedding_matrices(model)} if trainable == "new_rows" else set()

    def decays(weight: torch.Tensor) -> bool:
        # A weight that was loaded under ZeRO-3 is a flat part here, and keeps its own shape in ds_shape.
        return len(getattr(weight, "ds_shape", weight.shape)) > 1 and id(weight) not in masked

    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if decays(weight)], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in weights if not decays(weight)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(model: PreTrainedModel, settings: AdamW, trainable: Trainable) -> torch.optim.AdamW:
    """torch's AdamW over `parameter_groups`; the learning rate is set before every step."""
    return torch.optim.AdamW(
        parameter_groups(model, settings, trainable),
        lr=0.0,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def embedding_matrices(model: PreTrainedModel) -> list[nn.Parameter]:
    """The input and the output embedding, [rows, width] each; one where they are tied."""
    found = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    return list({id(matrix): cast(nn.Parameter, matrix) for matrix in found}.values())


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to a LoRA adapter, as peft names them."""
    return ".lora_A." in name or ".lora_B." in name


def trained_weights(model: PreTrainedModel, trainable: Trainable) -> list[nn.Parameter]:
    """The weights that `select_trainable` lets train, before or after it was called."""
    if trainable == "all":  # but what adapters have frozen
        return [weight for weight in model.parameters() if weight.requires_grad]
    matrices = embedding_matrices(model)
    named = model.named_parameters()
    return [weight for name, weight in named if is_adapter(name) or any(weight is matrix for matrix in matrices)]


def select_trainable(model: PreTrainedModel, trainable: Trainable, old_rows: int) -> None:
    """Freeze what does not train. `new_rows` also masks the gradient of the first `old_rows` rows (EEVE's stages,
    arXiv 2402.14714, section 3). Adapters train beside whatever is asked for."""
    trained = {id(weight) for weight in trained_weights(model, trainable)}
    for weight in model.parameters():
        weight.requires_grad_(id(weight) in trained)
    if trainable != "new_rows":
        return

    def mask(weight: torch.Tensor) -> None:
        if weight.grad is not None:
            weight.grad[:old_rows].zero_()

    for matrix in embedding_matrices(model):
        matrix.register_post_accumulate_grad_hook(mask)
