"""A Hugging Face model folder as it lies on disk: its config, its safetensors shards, and its two matrices."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from bllossom.errors import BllossomError
from bllossom.hub import download, is_hub_id
from bllossom.model.safetensors import FLOAT_DTYPES, StoredTensor, WeightShard, read_shard

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FETCHED = ["*.safetensors", "*.json", "tokenizer.model", "LICENSE*", "NOTICE*", "USE_POLICY*"]


@dataclass(frozen=True)
class Checkpoint:
    """A whole model folder: every shard was seen, and has the length its header says."""

    folder: Path
    config: Mapping[str, Any]
    index: Mapping[str, Any] | None
    shards: tuple[WeightShard, ...]

    @cached_property
    def input_name(self) -> str:
        """The name of the embedding matrix."""
        return self._matrix_name("embed_tokens.weight")

    @cached_property
    def output_name(self) -> str | None:
        """The name of the output matrix; None where the embedding matrix is stored for both."""
        if self.tied and not self._names("lm_head.weight"):
            return None
        return self._matrix_name("lm_head.weight")

    @cached_property
    def tied(self) -> bool:
        """Whether one matrix serves both sides."""
        # Where config.json is silent, only the architecture's own class knows.
        stated = self.config.get("tie_word_embeddings")
        return AutoConfig.from_pretrained(self.folder).tie_word_embeddings if stated is None else stated

    def find(self, name: str) -> tuple[WeightShard, StoredTensor]:
        """The shard that holds the tensor `name`, and the tensor."""
        return next((shard, tensor) for shard in self.shards for tensor in shard.tensors if tensor.name == name)

    def _names(self, ending: str) -> list[str]:
        names = [tensor.name for shard in self.shards for tensor in shard.tensors]
        return [name for name in names if name == ending or name.endswith(f".{ending}")]

    def _matrix_name(self, ending: str) -> str:
        names = self._names(ending)
        if len(names) != 1 or self._names("lm_head.bias"):
            kind = ", ".join(self.config.get("architectures") or ["an unnamed architecture"])
            message = (
                f"{self.folder} is {kind}: it must hold one embed_tokens.weight, and an lm_head.weight without a bias"
            )
            raise BllossomError(f"{message} (found {len(names)} × {ending}); choose a Llama-like causal language model")
        _, tensor = self.find(names[0])
        if tensor.dtype not in FLOAT_DTYPES or len(tensor.shape) != 2:
            message = f"{self.folder}: {names[0]} is {tensor.dtype} {tensor.shape}, not an fp32, fp16 or bf16 matrix"
            raise BllossomError(f"{message}; expand the model before it is quantised")
        return names[0]


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read a model folder's config, index and all shard headers.

    Raises:
        BllossomError: no config, no safetensors, a shard missing or cut short, an index that does not fit.
    """
    config = _read_json(folder / "config.json", "name the folder that holds the model's config.json")
    if (folder / SINGLE).is_file():
        return Checkpoint(folder, config, None, (read_shard(folder / SINGLE),))
    if not (folder / INDEX).is_file():
        message = f"{folder} holds neither {SINGLE} nor {INDEX}"
        if list(folder.glob("pytorch_model*.bin")):
            message += ", only pytorch_model*.bin: load it with transformers, and save it again with save_pretrained"
        else:
            message += ": name a folder with the weights in safetensors"
        raise BllossomError(message)
    index = _read_json(folder / INDEX, "download it again")
    names: Mapping[str, str] = index.get("weight_map", {})
    shards = tuple(read_shard(folder / name) for name in sorted(set(names.values())))
    shard_of = {tensor.name: shard.path.name for shard in shards for tensor in shard.tensors}
    for tensor, name in names.items():
        if shard_of.get(tensor) != name:
            raise BllossomError(f"{folder / name} lacks {tensor}, which {INDEX} says it holds; download both again")
    return Checkpoint(folder, config, index, shards)


def fetch(model: str) -> Path:
    """The local folder of a model: the folder itself, or a hub id's snapshot, downloaded if it is not here.

    Raises:
        BllossomError: no such folder, or the hub id is unknown, gated or cannot be reached.
    """
    if not is_hub_id(model):
        if not Path(model).is_dir():
            raise BllossomError(f"model: there is no folder {model}; name a model's folder, or a hub id owner/name")
        return Path(model)
    return download(model, FETCHED)


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        raise BllossomError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except ValueError as error:
        raise BllossomError(f"{path} is not JSON ({error}); {remedy}") from error
