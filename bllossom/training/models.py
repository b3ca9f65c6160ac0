"""Models in, models out: plain Hugging Face folders, with the tokenizer beside the weights."""

import importlib.util
from typing import Annotated, TypeVar

import torch
from pydantic import Field
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from bllossom.config import Model, Source
from bllossom.errors import BllossomError, ConfigError
from bllossom.hub import name_and_revision
from bllossom.training.engines.deepspeed_engine import partitioned_loading
from bllossom.training.ranks.device import DeviceType, device_here
from bllossom.training.settings import TrainingConfig


class LlamaShape(Model):
    """A Llama to be started from nothing."""

    hidden_size: Annotated[int, Field(gt=0, description="width of a token's vector")]
    intermediate_size: Annotated[int, Field(gt=0, description="width inside the MLPs")]
    layers: Annotated[int, Field(gt=0, description="blocks of attention and MLP")]
    heads: Annotated[int, Field(gt=0, description="attention heads; hidden_size is a multiple of it")]
    window: Annotated[int, Field(gt=0, description="longest sequence, in tokens")] = 2048
    tied: Annotated[bool, Field(description="one matrix for input and output embeddings")] = False


class InitModel(Model):
    """`model: {init: …}`: start from a shape instead of somebody's weights."""

    init: LlamaShape


ModelSource = Source | InitModel
Config = TypeVar("Config", bound=TrainingConfig)


def init_model(shape: LlamaShape, rows: int, seed: int) -> PreTrainedModel:
    """A Llama with random weights in fp32 on the CPU and `rows` embedding rows: the same on every rank."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(llama_config(shape, rows))


def load_model(source: str, config: TrainingConfig) -> PreTrainedModel:
    """A causal language model: fp32 on the CPU, bf16 where the engine keeps fp32 masters, in parts under ZeRO-3.

    Raises:
        BllossomError: it cannot be had.
    """
    disable_progress_bar()
    masters_apart = config.deepspeed is not None and config.bf16
    name, revision = name_and_revision(source)
    try:
        with partitioned_loading(config):
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                name, revision=revision or "main", dtype=torch.bfloat16 if masters_apart else torch.float32
            )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BllossomError(f"{source}: no model loads ({reason}); name a model folder or a hub id") from error
    model.name_or_path = source
    return model


def resolve_here(config: Config) -> Config:
    """`config` with what `auto` stands for on this machine."""
    installed = importlib.util.find_spec("liger_kernel") is not None
    return config.resolved(device_here(config.gpus), liger_installed=installed)


def check_kernels(config: TrainingConfig, device: DeviceType) -> None:
    """Refuse kernels that cannot run on `device`, before anything is loaded.

    Raises:
        ConfigError: it is no GPU, or the package is not installed; says what to set instead.
    """
    if config.attention == "flash_attention_2":
        _check_kernel(device, "attention: flash_attention_2", "flash-attn", "set attention to sdpa")
    if config.liger:
        _check_kernel(device, "liger", "liger-kernel", "set liger to false")


def _check_kernel(device: DeviceType, what: str, package: str, otherwise: str) -> None:
    if device != "cuda":
        raise ConfigError(f"{what}: needs a GPU; {otherwise}")
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        raise ConfigError(f"{what}: not installed; pip install {package}, or {otherwise}")


def prepare_for_training(model: PreTrainedModel, config: TrainingConfig) -> None:
    """Switch on what the config asks for in the model itself."""
    model.set_attn_implementation(config.attention)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.liger:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        # The loss is ours: chunked, and summed by group.
        _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
    if config.compile:
        model.base_model.compile()


def llama_config(shape: LlamaShape, rows: int) -> LlamaConfig:
    """The transformers config of a shape; Llama 2's constants where the shape says nothing."""
    return LlamaConfig(
        vocab_size=rows,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.window,
        tie_word_embeddings=shape.tied,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
    )
