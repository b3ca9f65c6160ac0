"""A Hugging Face model folder as it lies on disk: its config, its safetensors shards, and its two matrices."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from bllossom.errors import BllossomError
from bllossom.hub import download, is_hub_id
from bllossom.model.carried import CARRIED_FILES
from bllossom.model.safetensors import FLOAT_DTYPES, StoredTensor, WeightShard, equal_data, read_shard
from bllossom.tokenizer.files import TOKENIZER_FILES

OUTPUT = "lm_head.weight"
SINGLE = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
INDEX = "model.safetensors.index.json"
COMPANIONS = (*TOKENIZER_FILES, *CARRIED_FILES)
"""What lies beside a model's config and weights."""
FETCHED = ("*.safetensors", "*.json", *COMPANIONS)


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
        if self.states_tied and not self._names(OUTPUT):
            return None
        return self._matrix_name(OUTPUT)

    @cached_property
    def states_tied(self) -> bool:
        """Whether the config says that one matrix serves both sides."""
        # Where config.json is silent, only the architecture's own class knows.
        stated = self.config.get("tie_word_embeddings")
        if stated is None:
            try:
                stated = getattr(AutoConfig.from_pretrained(self.folder), "tie_word_embeddings", None)
            except (OSError, ValueError, KeyError):  # an architecture that transformers does not know
                stated = None
        return not self._names(OUTPUT) if stated is None else bool(stated)

    @cached_property
    def tied(self) -> bool:
        """Whether one matrix serves both sides.

        Two different ones that are stored both count, whatever the config says: transformers 5 does not tie them.
        """
        if not self.states_tied or self.output_name is None:
            return self.states_tied
        return equal_data(*self.find(self.input_name), *self.find(self.output_name))

    def find(self, name: str) -> tuple[WeightShard, StoredTensor]:
        """The shard that holds the tensor `name`, and the tensor."""
        return next((shard, tensor) for shard in self.shards for tensor in shard.tensors if tensor.name == name)

    def _names(self, ending: str) -> list[str]:
        names = [tensor.name for shard in self.shards for tensor in shard.tensors]
        return [name for name in names if name == ending or name.endswith(f".{ending}")]

    def _matrix_name(self, ending: str) -> str:
        names = self._names(ending)
        biased = bool(self._names("lm_head.bias"))
        if len(names) != 1 or biased:
            kind = ", ".join(self.config.get("architectures") or ["an unnamed architecture"])
            message = (
                f"{self.folder} is {kind}: it must hold one embed_tokens.weight, and an lm_head.weight without a bias"
            )
            found = "a bias, lm_head.bias" if biased else f"{len(names)} × {ending}"
            raise BllossomError(f"{message} (found {found}); choose a Llama-like causal language model")
        _, tensor = self.find(names[0])
        if tensor.dtype not in FLOAT_DTYPES or len(tensor.shape) != 2:
            message = f"{self.folder}: {names[0]} is {tensor.dtype} {tensor.shape}, not an fp32, fp16 or bf16 matrix"
            raise BllossomError(f"{message}; expand the model before it is quantised")
        return names[0]


def refuse_wrapper(source: object, config: Mapping[str, Any]) -> None:
    """Refuse a model that wraps a language model: what is asked here of the config stands one level deeper there.

    Raises:
        BllossomError: it is one, as Gemma 3 with images or LLaVA.
    """
    if "vocab_size" not in config and config.get("text_config"):
        kind = ", ".join(config.get("architectures") or ["a multimodal model"])
        raise BllossomError(
            f"{source} is {kind}, which wraps its language model (config.json: text_config): that is not supported; "
            "name a text-only model, such as the language model that it was made from"
        )


def refuse_adapter(source: Path | str) -> None:
    """Refuse an adapter's folder where a model is asked for.

    Raises:
        BllossomError: says how to make a model of it.
    """
    if (Path(source) / ADAPTER_CONFIG).is_file():
        raise BllossomError(
            f"{source} is a LoRA adapter, not a model; run `bllossom merge-adapter adapter={source} output=FOLDER`, "
            "and name that folder"
        )


def check_written(folder: Path) -> None:
    """Read back a model folder that was just written: its files, its matrices and its config have to agree.

    Raises:
        BllossomError: they do not; says in what.
    """
    written = open_checkpoint(folder)
    rows = {written.find(name)[1].shape[0] for name in (written.input_name, written.output_name) if name}
    if rows != {written.config["vocab_size"]}:
        raise BllossomError(
            f"{folder}: matrices of {sorted(rows)} rows were written, config.json's vocab_size is "
            f"{written.config['vocab_size']}; nothing is published: report this as a bug"
        )
    if written.states_tied != written.tied:
        raise BllossomError(
            f"{folder}: config.json ties two matrices that were written different; nothing is published: report this "
            "as a bug"
        )


def untie(checkpoint: Checkpoint) -> Checkpoint:
    """The same model with an output matrix of its own, which starts as the embedding matrix."""
    config = dict(checkpoint.config) | {"tie_word_embeddings": False}
    if checkpoint.output_name is not None:
        return replace(checkpoint, config=config)
    shard, embedding = checkpoint.find(checkpoint.input_name)
    grown = replace(shard, tensors=(*shard.tensors, replace(embedding, name=OUTPUT)))  # read from the same bytes
    shards = tuple(grown if other is shard else other for other in checkpoint.shards)
    index = checkpoint.index
    if index is not None:
        metadata = dict(index.get("metadata") or {})
        if "total_parameters" in metadata:
            metadata["total_parameters"] += math.prod(embedding.shape)
        weight_map = dict(index["weight_map"]) | {OUTPUT: shard.path.name}
        index = dict(index) | {"metadata": metadata, "weight_map": weight_map}
    return replace(checkpoint, config=config, shards=shards, index=index)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read a model folder's config, index and all shard headers.

    Raises:
        BllossomError: no config, no safetensors, a shard missing or cut short, an index that does not fit.
    """
    refuse_adapter(folder)
    config = _read_json(folder / "config.json", "name the folder that holds the model's config.json")
    refuse_wrapper(folder, config)
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


def fetch(model: str, patterns: Sequence[str] = FETCHED) -> Path:
    """The local folder of a model: the folder itself, or a hub id's snapshot with the files that match `patterns`,
    downloaded if they are not here.

    Raises:
        BllossomError: no such folder, or the hub id is unknown, gated or cannot be reached.
    """
    if not is_hub_id(model):
        if not Path(model).is_dir():
            raise BllossomError(f"model: there is no folder {model}; name a model's folder, or a hub id owner/name")
        return Path(model)
    return download(model, patterns)


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        raise BllossomError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except ValueError as error:
        raise BllossomError(f"{path} is not JSON ({error}); {remedy}") from error
