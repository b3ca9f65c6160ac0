"""Models in, models out: plain Hugging Face folders, with the tokenizer beside the weights."""

import importlib.util
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import torch
from pydantic import Field
from transformers import (
    AutoConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils.logging import disable_progress_bar

from bllossom.config import Model, Source
from bllossom.errors import ConfigError
from bllossom.hub import pretrained
from bllossom.model.checkpoint import refuse_wrapper
from bllossom.model.load import clear_failures, load_causal
from bllossom.model.outputs.logits import refuse_head
from bllossom.ranks.device import DeviceType, device_here
from bllossom.tokenizer.files import holds_tokenizer
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokens.shards import read_index
from bllossom.training.engines import document_attention
from bllossom.training.engines.deepspeed_engine import partitioned_loading
from bllossom.training.engines.rows import PACKABLE
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


def init_model(
    shape: LlamaShape, rows: int, seed: int, *, bos: int | None = None, eos: int | None = None
) -> PreTrainedModel:
    """A Llama with random weights in fp32 on the CPU and `rows` embedding rows: the same on every rank. `bos` and `eos`
    are the ids that begin and end a text, where the tokenizer has such."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(llama_config(shape, rows, bos=bos, eos=eos))


def edge_ids(tokens: Path) -> tuple[int | None, int | None]:
    """The ids that begin and end a text: those of the tokenizer in a tokens folder, or that prepare put around
    documents where it kept no tokenizer; None where there is none."""
    if holds_tokenizer(tokens / "tokenizer"):
        tokenizer = load_tokenizer(tokens / "tokenizer")
        return tokenizer.bos_token_id, tokenizer.eos_token_id
    index = read_index(tokens)
    return index.bos, index.eos


def load_model(source: str, config: TrainingConfig, *, whole: bool = False) -> PreTrainedModel:
    """A causal language model: fp32 on the CPU, bf16 where the engine keeps fp32 masters, in parts under ZeRO-3
    unless it is wanted `whole`.

    Raises:
        BllossomError: it cannot be had.
    """
    disable_progress_bar()
    masters_apart = config.deepspeed is not None and config.bf16
    with clear_failures(source):
        shape = AutoConfig.from_pretrained(**pretrained(source))
        refuse_wrapper(source, shape.to_dict())
        refuse_head(source, shape)
        check_attention(source, shape, config.attention)
        with nullcontext() if whole else partitioned_loading(config):
            model = load_causal(source, dtype=torch.bfloat16 if masters_apart else torch.float32)
    model.name_or_path = source  # with the revision, which adapters name too
    if model.config.tie_word_embeddings and model.get_input_embeddings().weight is not output_weight(model):
        # transformers does not tie two different matrices, whatever the config says: what is saved says so.
        model.config.tie_word_embeddings = False
    return model


def check_attention(source: str, shape: PretrainedConfig, kernel: str) -> None:
    """Refuse a family whose attention transformers computes in no way that keeps packed documents apart here.

    Raises:
        ConfigError: names the family, as Gemma 2, whose capped attention scores torch's fused kernel cannot make.
    """
    family: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(shape), None)
    if kernel == "sdpa" and family is not None and not family._supports_sdpa:
        otherwise = " (on a GPU attention: flash_attention_2 serves it)" if family._supports_flash_attn else ""
        raise ConfigError(
            f"model: {source} is {family.__name__}, whose attention torch's scaled_dot_product_attention cannot compute"
            f"{otherwise}; choose a model of another family"
        )


def check_documents(source: ModelSource, config: TrainingConfig, *, document_mask: bool) -> None:
    """Refuse document masks for a family that is not known to keep documents of one row apart, before it is loaded.

    Raises:
        ConfigError: names the family; or it is none that trains at all, whatever the masks.
    """
    shape = None if isinstance(source, InitModel) else _shape_of(source)
    if not document_mask or shape is None:
        return  # what starts from nothing is a Llama; what does not load is refused by the one who loads it
    check_family(str(source), shape, config, document_mask=True)


def check_family(source: str, shape: PretrainedConfig, config: TrainingConfig, *, document_mask: bool) -> None:
    """Refuse a model of this `shape` that does not train as `config` asks: nothing is loaded.

    Raises:
        ConfigError: names the family.
        BllossomError: it wraps another model, or its logits are not its head's products under a known rule.
    """
    refuse_wrapper(source, shape.to_dict())
    refuse_head(source, shape)
    check_attention(source, shape, config.attention)
    if document_mask and shape.model_type not in PACKABLE:
        raise ConfigError(
            f"document_mask: {source} is of the type {shape.model_type}, which is not known to keep the documents of "
            "one row apart; set document_mask to false"
        )


def keeps_documents_apart(source: ModelSource) -> bool:
    """Whether positions alone keep documents of one row apart in a model that loads."""
    if isinstance(source, InitModel):
        return LlamaConfig.model_type in PACKABLE
    shape = _shape_of(source)
    return shape is not None and shape.model_type in PACKABLE


def output_weight(model: PreTrainedModel) -> torch.Tensor:
    """The output matrix, [rows, width]."""
    return cast(torch.nn.Linear, model.get_output_embeddings()).weight


def check_window(source: ModelSource, tokens: int, key: str) -> None:
    """Refuse rows of more `tokens` than the model was made for, before it is loaded; `key` is what sets them.

    Raises:
        ConfigError: names the longest that fits.
    """
    window = source.init.window if isinstance(source, InitModel) else window_of(source)
    if window is not None and tokens > window:
        raise ConfigError(
            f"{key}: {tokens:,} tokens are more than the model's window of {window:,}; set {key} to at most {window}"
        )


def window_of(source: str) -> int | None:
    """The longest sequence that a model was made for, in tokens; None where its config does not say."""
    return getattr(_shape_of(source), "max_position_embeddings", None)


def _shape_of(source: str) -> PretrainedConfig | None:
    try:
        shape: PretrainedConfig = AutoConfig.from_pretrained(**pretrained(source))
    except (OSError, ValueError):
        return None  # it does not load: the one who loads it says so
    return shape


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
    if config.head_tf32 and device != "cuda":
        raise ConfigError("head_tf32: needs a GPU; set head_tf32 to false")
    if config.liger:
        _check_kernel(device, "liger", "liger-kernel", "set liger to false")


def _check_kernel(device: DeviceType, what: str, package: str, otherwise: str) -> None:
    if device != "cuda":
        raise ConfigError(f"{what}: needs a GPU; {otherwise}")
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        raise ConfigError(f"{what}: not installed; pip install {package}, or {otherwise}")


def prepare_for_training(model: PreTrainedModel, config: TrainingConfig) -> None:
    """Switch on what the config asks for in the model itself."""
    document_attention.register()
    model.set_attn_implementation(config.attention_kernel())
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.liger:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        # The loss is ours: chunked, and summed by group.
        _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
    if config.compile:
        model.base_model.compile()


def llama_config(shape: LlamaShape, rows: int, *, bos: int | None = None, eos: int | None = None) -> LlamaConfig:
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
        bos_token_id=bos,
        eos_token_id=eos,
    )
