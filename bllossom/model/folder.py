"""A published model folder: what its manifest says of its rows, writing it, and reading its headers back."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from bllossom.artifacts import read_manifest
from bllossom.errors import BllossomError


def check_rows(source: str, model: PreTrainedModel, pieces: int) -> None:
    """Refuse a model that lacks rows for the tokens' pieces, or that has another number than its manifest says.

    Raises:
        BllossomError: says both numbers and what to run.
    """
    found = model.config.vocab_size
    recorded = recorded_rows(source).get("rows", found)
    if found < pieces or found != recorded:
        raise BllossomError(
            f"{source}: the model has {found:,} rows, its manifest says {recorded:,}, the tokens have {pieces:,} "
            "pieces; run `bllossom expand` with the tokenizer of these tokens, or prepare tokens with the model's own"
        )


def recorded_rows(source: str | Path) -> dict[str, int]:
    """What a model's manifest says of its embedding rows, for the next one's: `rows`, and where expand added some
    `old_rows`. Nothing for a model that no stage published."""
    manifest = read_manifest(Path(source)) if Path(source).is_dir() else None
    figures = manifest.figures if manifest else {}
    return {name: figures[name] for name in ("rows", "old_rows") if name in figures}


def old_rows(source: object) -> int:
    """Rows that a model had before expand.

    Raises:
        BllossomError: nobody wrote that down.
    """
    recorded = recorded_rows(source) if isinstance(source, str | Path) else {}
    if "old_rows" not in recorded:
        raise BllossomError(
            "trainable: new_rows needs a model that `bllossom expand` made, or one trained from it: the manifest knows "
            "the rows"
        )
    return recorded["old_rows"]


def save_model(
    model: PreTrainedModel, weights: Iterable[tuple[str, torch.Tensor]], folder: Path, dtype: str, *, writes: bool
) -> None:
    """Write a plain Hugging Face folder and read its safetensors headers back; only the rank that `writes` does.

    The weights come from the engine, one after the other, since `model` itself may hold only parts of them.
    """
    stored = torch.bfloat16 if dtype == "bf16" else torch.float32
    weights_on_cpu = {name: tensor.to(stored) for name, tensor in weights if writes}
    if not writes:
        return
    with torch.device("meta"):
        plain = type(model)(model.config)
    torch.nn.Module.to(plain, stored)
    plain.load_state_dict(weights_on_cpu, strict=False, assign=True)
    plain.tie_weights()
    if missing := [name for name, weight in plain.named_parameters() if weight.is_meta]:
        raise BllossomError(f"{folder}: the engine gave no {', '.join(missing[:3])}; nothing is published")
    disable_progress_bar()
    plain.generation_config = _savable(model)
    plain.save_pretrained(folder)
    check_headers(folder, model.config.vocab_size)


def _savable(model: PreTrainedModel) -> GenerationConfig:
    """The model's generation settings; plain ones where transformers would refuse to write them (a temperature without
    sampling, say): a stage that has the file itself carries it unchanged."""
    settings = model.generation_config
    try:
        settings.validate(strict=True)
    except ValueError:
        return GenerationConfig.from_model_config(model.config)
    return settings


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
