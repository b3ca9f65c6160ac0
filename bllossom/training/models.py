"""Models in, models out: plain Hugging Face folders, with the tokenizer beside the weights."""

import json
import shutil
import struct
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from bllossom.config import Model, Source
from bllossom.errors import BllossomError
from bllossom.training.optimization import embedding_matrices

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


def init_model(shape: LlamaShape, rows: int, seed: int) -> PreTrainedModel:
    """A Llama with random weights in fp32 and `rows` embedding rows, on the GPU where there is one."""
    torch.manual_seed(seed)
    return on_device(LlamaForCausalLM(llama_config(shape, rows)))


def load_model(source: str, rows: int | None = None) -> PreTrainedModel:
    """A causal language model in fp32, on the GPU where there is one; `rows` is how many it should have.

    Raises:
        BllossomError: the model has another number of rows, or cannot be had.
    """
    disable_progress_bar()
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BllossomError(f"{source}: no model loads ({reason}); name a model folder or a hub id") from error
    found = len(embedding_matrices(model)[0])
    if rows is not None and found != rows:
        raise BllossomError(
            f"{source}: the model has {found:,} rows, the tokens were made for {rows:,}; run `bllossom expand` with "
            "the tokenizer of these tokens, or prepare tokens with the model's own tokenizer"
        )
    return on_device(model)


def on_device(model: PreTrainedModel) -> PreTrainedModel:
    """Move a model to the GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.nn.Module.to(model, device)


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


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write weights and configs as Hugging Face does, and read the safetensors headers back."""
    disable_progress_bar()
    model.save_pretrained(folder)
    check_headers(folder, len(embedding_matrices(model)[0]))


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
