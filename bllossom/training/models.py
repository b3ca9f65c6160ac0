"""Models in, models out: plain Hugging Face folders, with the tokenizer beside the weights."""

import importlib.util
import json
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import torch
from pydantic import Field
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from bllossom.artifacts import read_manifest
from bllossom.config import Model, Source
from bllossom.errors import BllossomError, ConfigError
from bllossom.training.engines.deepspeed_engine import partitioned_loading
from bllossom.training.ranks.device import DeviceType, device_here
from bllossom.training.settings import TrainingConfig

TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json")


class LlamaShape(Model):
    """A Llama to be started from nothing."""

    hidden_size: Annotated[int, Field(gt=0)]
    intermediate_size: Annotated[int, Field(gt=0)]
    layers: Annotated[int, Field(gt=0)]
    heads: Annotated[int, Field(gt=0)]
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
    try:
        with partitioned_loading(config):
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                source, dtype=torch.bfloat16 if masters_apart else torch.float32
            )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BllossomError(f"{source}: no model loads ({reason}); name a model folder or a hub id") from error
    return model


def check_rows(source: str, model: PreTrainedModel, pieces: int) -> None:
    """Refuse a model that lacks rows for the tokens' pieces, or that has another number than its manifest says.

    Raises:
        BllossomError: says both numbers and what to run.
    """
    found = model.config.vocab_size
    told = told_rows(source).get("rows", found)
    if found < pieces or found != told:
        raise BllossomError(
            f"{source}: the model has {found:,} rows, its manifest says {told:,}, the tokens have {pieces:,} pieces; "
            "run `bllossom expand` with the tokenizer of these tokens, or prepare tokens with the model's own"
        )


def told_rows(source: str | Path) -> dict[str, int]:
    """What a model's manifest says of its embedding rows, for the next one's: `rows`, and where expand added some
    `old_rows`. Nothing for a model that no stage published."""
    manifest = read_manifest(Path(source)) if Path(source).is_dir() else None
    figures = manifest.figures if manifest else {}
    return {name: figures[name] for name in ("rows", "old_rows") if name in figures}


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


def save_model(
    model: PreTrainedModel, weights: Iterable[tuple[str, torch.Tensor]], folder: Path, dtype: str, *, writes: bool
) -> None:
    """Write a plain Hugging Face folder and read its safetensors headers back; only the rank that `writes` does.

    The weights come from the engine, one after the other, since `model` itself may hold only parts of them.
    """
    stored = torch.bfloat16 if dtype == "bf16" else torch.float32
    whole = {name: tensor.to(stored) for name, tensor in weights if writes}
    if not writes:
        return
    with torch.device("meta"):
        plain = type(model)(model.config)
    torch.nn.Module.to(plain, stored)
    plain.load_state_dict(whole, strict=False, assign=True)
    plain.tie_weights()
    if missing := [name for name, weight in plain.named_parameters() if weight.is_meta]:
        raise BllossomError(f"{folder}: the engine gave no {', '.join(missing[:3])}; nothing is published")
    disable_progress_bar()
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder)
    check_headers(folder, model.config.vocab_size)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Put a tokenizer's files beside the weights, unchanged."""
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)


def check_headers(folder: Path, rows: int) -> None:
    """Refuse empty tensors and embedding matrices of another height (seen: DeepSpeed#7900, LLaMA-Factory#253)."""
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as handle:
            header = json.loads(handle.read(struct.unpack("<Q", handle.read(8))[0]))
        header.pop("__metadata__", None)
        for name, tensor in header.items():
            shape = tensor["shape"]
            embedding = name.endswith(("embed_tokens.weight", "lm_head.weight"))
            if 0 in shape or not shape or (embedding and shape[0] != rows):
                raise BllossomError(f"{file.name}: {name} was saved with shape {shape}; the folder is not published")
