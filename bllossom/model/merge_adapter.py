"""merge-adapter: a LoRA adapter merged into its base, as a plain Hugging Face folder.

Shard by shard and by blocks of rows: W + scale · B A in fp32, then the base's own type. A trained embedding matrix
takes the place of its like in the base. That needs one block and one adapter of memory, and neither peft nor a GPU.
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from safetensors import safe_open
from torch import Tensor

from bllossom.artifacts import Manifest, fingerprint, publish, read_manifest
from bllossom.config import InputPath, Source, StageConfig
from bllossom.console import progress
from bllossom.errors import BllossomError
from bllossom.hub import reference
from bllossom.model.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PREFIX
from bllossom.model.checkpoint import INDEX, Checkpoint, fetch, open_checkpoint
from bllossom.model.folder import CARRIED_FILES, check_headers, recorded_rows
from bllossom.model.safetensors import FLOAT_DTYPES, Growth, Rows, StoredTensor, WeightShard, read_shard, rewrite
from bllossom.tokenizer.files import tokenizer_files

BLOCK_ROWS = 1024
DOWN, UP = ".lora_A.weight", ".lora_B.weight"
UNDERSTOOD = frozenset(
    {
        *("task_type", "peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "bias"),
        *("inference_mode", "r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules", "exclude_modules"),
        *("layers_to_transform", "layers_pattern", "modules_to_save", "init_lora_weights", "ensure_weight_tying"),
        *("megatron_core", "qalora_group_size"),  # set always, and used by options that are refused
    }
)
"""Keys of adapter_config.json that are obeyed here, or that do not matter once an adapter is trained."""
INITS = (True, False, "gaussian")
"""First values that leave the base's weights as they are; after others, as pissa, the base is another one."""


class MergeAdapterConfig(StageConfig):
    """What `bllossom merge-adapter` reads."""

    adapter: Annotated[InputPath, Field(description="the folder that pretrain or sft made with lora, or one of peft's")]
    model: Annotated[
        Source | None, Field(description="the base: a folder or a hub id; null takes the one the adapter names")
    ] = None


@dataclass(frozen=True)
class AdapterMerge:
    """What will be written: known, and checked, before a byte is.

    Raises:
        BllossomError: the adapter is of a kind that is not merged here, or does not fit the base.
    """

    base: Checkpoint
    adapter: WeightShard
    scale: float

    def __post_init__(self) -> None:
        by_name = {tensor.name: tensor for shard in self.base.shards for tensor in shard.tensors}
        for tensor in self.adapter.tensors:
            target = by_name.get(self.target(tensor.name))
            if target is None:
                raise BllossomError(
                    f"{self.adapter.path}: {tensor.name} belongs to nothing in {self.base.folder}; name the base that "
                    "it was trained on with model=, or merge it with peft's merge_and_unload"
                )
            if not self._fits(tensor, target):
                raise BllossomError(
                    f"{self.adapter.path}: {tensor.name} {list(tensor.shape)} does not fit {target.name} "
                    f"{target.dtype} {list(target.shape)} in {self.base.folder}; name the base that it was trained on "
                    "with model="
                )

    @staticmethod
    def target(name: str) -> str:
        """The base's tensor that the adapter's tensor of this name changes."""
        plain = name.removeprefix(PREFIX)
        for ending in (DOWN, UP):
            if plain.endswith(ending):
                return plain.removesuffix(ending) + ".weight"
        return plain

    def _fits(self, tensor: StoredTensor, target: StoredTensor) -> bool:
        """Whether both are matrices of floats, and have the shapes W [out, in], A [rank, in], B [out, rank]."""
        if not {tensor.dtype, target.dtype} <= FLOAT_DTYPES.keys() or len(tensor.shape) != 2 or len(target.shape) != 2:
            return False
        if not tensor.name.endswith((DOWN, UP)):
            return tensor.shape == target.shape
        stem = tensor.name.removesuffix(DOWN).removesuffix(UP)
        shapes = {other.name: other.shape for other in self.adapter.tensors}
        down, up = shapes.get(stem + DOWN), shapes.get(stem + UP)
        return down is not None and up is not None and down[0] == up[1] and (up[0], down[1]) == target.shape

    def growths(self) -> dict[str, Growth]:
        """Each of the base's tensors that changes: none of its rows stays."""
        found = {}
        for tensor in self.adapter.tensors:
            if not tensor.name.endswith(UP):  # met with its A
                name = self.target(tensor.name)
                found[name] = self._growth(tensor, name)
        return found

    def _growth(self, tensor: StoredTensor, name: str) -> Growth:
        shard, old = self.base.find(name)
        rows = old.shape[0]

        def blocks() -> Iterator[Tensor]:
            if not tensor.name.endswith(DOWN):
                yield from Rows(self.adapter.path, tensor, rows).blocks(BLOCK_ROWS)
                return
            with safe_open(self.adapter.path, "pt") as adapter:
                down = adapter.get_tensor(tensor.name).float()
                up = adapter.get_tensor(tensor.name.removesuffix(DOWN) + UP).float()
            old_blocks = Rows(shard.path, old, rows).blocks(BLOCK_ROWS)
            for block, part in zip(old_blocks, up.split(BLOCK_ROWS), strict=True):
                yield block.addmm_(part, down, alpha=self.scale)

        return Growth(0, rows, blocks)

    def figures(self) -> dict[str, Any]:
        """The stage's own numbers."""
        names = [tensor.name for tensor in self.adapter.tensors]
        return {
            **recorded_rows(self.base.folder),
            "rows": self.base.config["vocab_size"],
            "merged_matrices": sum(name.endswith(DOWN) for name in names),
            "replaced_matrices": [self.target(name) for name in names if not name.endswith((DOWN, UP))],
            "scale": self.scale,
        }


def merge_adapter(config: MergeAdapterConfig, *, force: bool = False) -> Manifest:
    """Publish the base of `config` with its adapter merged in, in the base's own type, with the adapter's tokenizer.

    Raises:
        BllossomError: the adapter was made on another base, is of a kind that is not merged here, or lacks a file.
    """
    folder = fetch(_base_of(config))
    _check_fingerprint(config.adapter, folder)
    merge = plan_merge(config.adapter, folder)

    def build(partial: Path) -> dict[str, Any]:
        write_merged(merge, config.adapter, partial)
        return merge.figures()

    inputs = {"adapter": config.adapter, "model": folder}
    return publish(config, stage="merge-adapter", inputs=inputs, build=build, force=force)


def dry_run(config: MergeAdapterConfig) -> list[str]:
    """What would be merged, once adapter and base are here."""
    if not config.adapter.is_dir() or not Path(source := _base_of(config)).is_dir():
        return ["what is merged is known once the adapter and its base are here"]
    figures = plan_merge(config.adapter, Path(source)).figures()
    replaced = ", ".join(figures["replaced_matrices"]) or "no matrix"
    return [f"{source} + {figures['scale']} · B A in {figures['merged_matrices']} matrices; {replaced} replaced"]


def plan_merge(adapter: Path, base: Path) -> AdapterMerge:
    """Read the headers of both folders, and check that they fit each other (see AdapterMerge)."""
    settings = _settings(adapter)
    other = sorted(key for key, value in settings.items() if value and key not in UNDERSTOOD)
    if settings.get("peft_type") != "LORA" or settings.get("init_lora_weights", True) not in INITS or other:
        kind = ", ".join(f"{key}: {settings.get(key)}" for key in ("peft_type", "init_lora_weights", *other))
        raise BllossomError(f"{adapter} is not plain LoRA ({kind}); merge it with peft's merge_and_unload")
    rank = settings["r"]
    scale = settings["lora_alpha"] / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    return AdapterMerge(open_checkpoint(base), read_shard(adapter / ADAPTER_WEIGHTS), scale)


def write_merged(merge: AdapterMerge, adapter: Path, folder: Path) -> None:
    """Write the merged model into `folder`, with the adapter's tokenizer, or the base's where it has none."""
    growths = merge.growths()
    with progress("writing shards", total=len(merge.base.shards)) as advance:
        for shard in merge.base.shards:
            rewrite(shard, folder / shard.path.name, growths)
            advance(1)
    check_headers(folder, merge.base.config["vocab_size"])
    base = merge.base.folder
    carried = [path for pattern in ("config.json", INDEX, *CARRIED_FILES) for path in sorted(base.glob(pattern))]
    for path in [*carried, *(tokenizer_files(adapter) or tokenizer_files(base))]:
        shutil.copyfile(path, folder / path.name)


def _base_of(config: MergeAdapterConfig) -> str:
    if config.model:
        return config.model
    settings = _settings(config.adapter)
    named, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not named:
        raise BllossomError(f"{config.adapter} does not name its base; add model=FOLDER or a hub id")
    return f"{named}@{revision}" if revision else str(named)


def _check_fingerprint(adapter: Path, base: Path) -> None:
    """Refuse another base than the adapter's manifest names; an adapter without one is checked by its shapes alone.

    So is one where the hub's base was downloaded by other means: a commit and a fingerprint cannot be compared.
    """
    manifest = read_manifest(adapter)
    recorded = manifest.inputs.get("model") if manifest else None
    commit = reference(base)
    if recorded is None or ("@" in recorded) != (commit is not None):
        return
    if recorded != (found := commit or fingerprint(base)):
        raise BllossomError(
            f"{adapter} was trained on {_shown(recorded)}, {base} is {_shown(found)}; name the base that it was "
            "trained on with model="
        )


def _shown(base: str) -> str:
    return base if "@" in base else f"a base with the fingerprint {base[:16]}"


def _settings(adapter: Path) -> Mapping[str, Any]:
    path = adapter / ADAPTER_CONFIG
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise BllossomError(
            f"{path} cannot be read ({type(error).__name__}); name a folder that pretrain or sft made with lora"
        ) from error
