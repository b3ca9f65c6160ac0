"""export: a Llama-shaped model folder as one GGUF file, which llama.cpp, Ollama and LM Studio read.

Weights are written as they are in f32, or rounded to f16 or bf16; norms stay f32, as llama.cpp wants them. Its
rotary embedding pairs neighbouring rows of the query and key matrices where transformers pairs halves: rows are
interleaved on the way (convert_hf_to_gguf.py does the same).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, LlamaFileType, get_tensor_name_map, quantize
from pydantic import Field
from safetensors import safe_open

from bllossom.artifacts import Manifest, publish
from bllossom.config import InputPath, StageConfig
from bllossom.errors import BllossomError
from bllossom.export.gguf_tokenizer import add_tokenizer
from bllossom.model.checkpoint import Checkpoint, open_checkpoint

FORMATS = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
}


class ExportConfig(StageConfig):
    """Keys of export."""

    model: Annotated[InputPath, Field(description="a model's folder with its tokenizer, not an adapter")]
    format: Annotated[Literal["gguf"], Field(description="what is written")] = "gguf"
    dtype: Annotated[Literal["f32", "f16", "bf16"], Field(description="of the matrices; norms stay f32")] = "f16"


def export(config: ExportConfig, *, force: bool = False) -> Manifest:
    """Publish a folder with model.gguf.

    Raises:
        BllossomError: the model is no Llama, or its pre-tokenizer has no name in llama.cpp.
    """
    checkpoint = open_checkpoint(config.model)
    _check(checkpoint)
    return publish(
        config,
        stage="export",
        inputs={"model": config.model},
        build=lambda folder: write_gguf(checkpoint, folder / "model.gguf", config.dtype),
        force=force,
    )


def dry_run(config: ExportConfig) -> list[str]:
    """Say what would be written, and refuse a model that the run would refuse."""
    if config.model.is_dir():
        _check(open_checkpoint(config.model))
    return [f"{config.output}/model.gguf in {config.dtype}"]


def write_gguf(checkpoint: Checkpoint, path: Path, dtype: Literal["f32", "f16", "bf16"]) -> dict[str, Any]:
    """Write the file; give its figures."""
    config = checkpoint.config
    kind, file_type = FORMATS[dtype]
    path.unlink(missing_ok=True)
    writer = GGUFWriter(str(path), "llama")
    _add_shape(writer, config)
    writer.add_file_type(file_type)
    add_tokenizer(writer, checkpoint.folder, config["vocab_size"])
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    count = 0
    for name, tensor in _tensors(checkpoint):
        target = names.get_name(name, try_suffixes=(".weight",))
        if target is None:
            raise BllossomError(f"{checkpoint.folder}: {name} has no place in a GGUF file; export a plain Llama")
        values = _rotate(name, tensor, config)
        stored = GGMLQuantizationType.F32 if values.ndim == 1 else kind
        writer.add_tensor(target, quantize(values, stored), raw_dtype=stored)
        count += 1
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {"rows": config["vocab_size"], "tensors": count, "bytes": path.stat().st_size}


def _check(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    kind = ", ".join(config.get("architectures") or ["an unnamed architecture"])
    if config.get("model_type") not in ("llama", "mistral") or config.get("sliding_window"):
        raise BllossomError(f"{checkpoint.folder} is {kind}: only models of Llama's shape are exported; name one")
    if (scaling := _rope(config)["rope_type"]) != "default":
        raise BllossomError(
            f"{checkpoint.folder} scales its rotary embedding ({scaling}), which is not exported; "
            "convert it with llama.cpp's own convert_hf_to_gguf.py"
        )


def _rope(config: Any) -> dict[str, Any]:
    """transformers 5 keeps the rotary settings in one block, older files beside the others, the oldest with `type`."""
    older = {"rope_theta": config.get("rope_theta", 10_000.0), **(config.get("rope_scaling") or {})}
    rope = config.get("rope_parameters") or older
    return rope | {"rope_type": rope.get("rope_type", rope.get("type", "default"))}


def _add_shape(writer: GGUFWriter, config: Any) -> None:
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_name(Path(str(config.get("_name_or_path") or "model")).name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float(_rope(config)["rope_theta"]))
    writer.add_rope_dimension_count(head_size)
    writer.add_vocab_size(config["vocab_size"])


def _tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor as float32; of tied matrices that are both stored, one."""
    for shard in checkpoint.shards:
        with safe_open(shard.path, framework="pt") as file:
            for tensor in shard.tensors:
                if tensor.name == checkpoint.output_name and checkpoint.tied:
                    continue
                if tensor.name.endswith(".rotary_emb.inv_freq"):  # older files keep what follows from rope_theta
                    continue
                yield tensor.name, file.get_tensor(tensor.name).to(torch.float32).numpy()


def _rotate(name: str, values: np.ndarray, config: Any) -> np.ndarray:
    heads = config["num_attention_heads"]
    if name.endswith("k_proj.weight"):
        heads = config.get("num_key_value_heads") or heads
    elif not name.endswith("q_proj.weight"):
        return values
    return values.reshape(heads, 2, values.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(values.shape)
