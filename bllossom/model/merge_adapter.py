"""merge-adapter: a LoRA adapter merged into its base, as a plain Hugging Face folder.

Shard by shard and by blocks of rows: W + scale · B A in fp32, then the base's own type. A trained embedding matrix
takes the place of its like in the base. That needs one block and one adapter of memory, and neither peft nor a GPU.
"""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bllossom.artifacts import Manifest, fingerprint, publish, read_manifest
from bllossom.config import InputPath, Source, StageConfig
from bllossom.console import progress
from bllossom.errors import BllossomError
from bllossom.hub import is_hub_id, reference
from bllossom.model.carried import GENERATION_CONFIG, carry
from bllossom.model.checkpoint import ADAPTER_CONFIG, INDEX, check_written, fetch, open_checkpoint
from bllossom.model.folder import recorded_rows
from bllossom.model.merged_weights import ADAPTER_WEIGHTS, MergedWeights
from bllossom.model.safetensors import read_shard, rewrite

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
        return recorded_rows(folder) | merge.figures()

    inputs = {"adapter": config.adapter, "model": folder}
    return publish(config, stage="merge-adapter", inputs=inputs, build=build, force=force)


def dry_run(config: MergeAdapterConfig) -> list[str]:
    """What would be merged, once adapter and base are here."""
    if not config.adapter.is_dir() or not Path(source := _base_of(config)).is_dir():
        return ["what is merged is known once the adapter and its base are here"]
    merge = plan_merge(config.adapter, Path(source))
    figures = merge.figures()
    replaced = ", ".join(figures["replaced_matrices"]) or "no matrix"
    lines = [f"{source} + {figures['scale']} · B A in {figures['merged_matrices']} matrices; {replaced} replaced"]
    if merge.base.tied and not merge.tied:
        lines.append("one matrix serves both sides of the base; the adapter made two of it, and both are written")
    return lines


def plan_merge(adapter: Path, base: Path) -> MergedWeights:
    """Read the headers of both folders, and check that they fit each other (see MergedWeights)."""
    settings = _settings(adapter)
    other = sorted(key for key, value in settings.items() if value and key not in UNDERSTOOD)
    if settings.get("peft_type") != "LORA" or settings.get("init_lora_weights", True) not in INITS or other:
        kind = ", ".join(f"{key}: {settings.get(key)}" for key in ("peft_type", "init_lora_weights", *other))
        raise BllossomError(f"{adapter} is not plain LoRA ({kind}); merge it with peft's merge_and_unload")
    if not (adapter / ADAPTER_WEIGHTS).is_file() and (adapter / "adapter_model.bin").is_file():
        raise BllossomError(
            f"{adapter} holds adapter_model.bin, not {ADAPTER_WEIGHTS}; load it with peft's "
            "PeftModel.from_pretrained, and save it again with save_pretrained"
        )
    rank, alpha, kept_apart = settings.get("r"), settings.get("lora_alpha"), settings.get("modules_to_save") or []
    if not (isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float) and isinstance(kept_apart, list)):
        written = f"r: {rank!r}, lora_alpha: {alpha!r}, modules_to_save: {kept_apart!r}"
        raise BllossomError(
            f"{adapter / ADAPTER_CONFIG} is not as peft writes it ({written}): a rank above 0, a number, and a list or "
            "null; save the adapter again with save_pretrained"
        )
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    separate = frozenset(() if settings.get("ensure_weight_tying") else (n.rpartition(".")[2] for n in kept_apart))
    return MergedWeights(open_checkpoint(base), read_shard(adapter / ADAPTER_WEIGHTS), scale, separate)


def write_merged(merge: MergedWeights, adapter: Path, folder: Path) -> None:
    """Write the merged model into `folder`, with the adapter's tokenizer, or the base's where it has none."""
    base = merge.base
    with progress("writing shards", total=len(base.shards)) as advance:
        for shard in base.shards:
            added = merge.added if any(tensor.name == base.input_name for tensor in shard.tensors) else {}
            rewrite(shard, folder / shard.path.name, merge.growths, added=added)
            advance(1)
    _write_json(base.folder / "config.json", folder, _new_settings(merge))
    if base.index is not None:
        _write_json(base.folder / INDEX, folder, _new_index(merge, folder))
    carry(base.folder, [adapter, base.folder], folder)
    if (settings := adapter / GENERATION_CONFIG).is_file():  # what ends an answer, which tuning may have changed
        shutil.copyfile(settings, folder / GENERATION_CONFIG)
    check_written(folder)


def _new_settings(merge: MergedWeights) -> dict[str, Any]:
    """The keys of config.json that are others once merged."""
    rows, stated = merge.heights[merge.base.input_name], merge.base.states_tied
    grown = {} if rows == merge.base.config["vocab_size"] else {"vocab_size": rows}
    return grown | ({"tie_word_embeddings": merge.tied} if merge.tied != stated else {})


def _new_index(merge: MergedWeights, folder: Path) -> dict[str, Any]:
    """The keys of the index that are others once merged."""
    index = merge.base.index or {}
    shards = [read_shard(folder / shard.path.name) for shard in merge.base.shards]
    size = sum(tensor.bytes for shard in shards for tensor in shard.tensors)
    metadata = dict(index.get("metadata") or {})
    if not merge.added and metadata.get("total_size") == size:
        return {}
    names = {tensor.name: shard.path.name for shard in shards for tensor in shard.tensors}
    metadata.pop("total_parameters", None)
    return {"metadata": metadata | {"total_size": size}, "weight_map": names}


def _write_json(source: Path, folder: Path, changes: Mapping[str, Any]) -> None:
    """Copy a JSON file; write it anew where keys change."""
    if not changes:
        shutil.copyfile(source, folder / source.name)
        return
    content = json.loads(source.read_text(encoding="utf8")) | changes
    (folder / source.name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf8")


def _base_of(config: MergeAdapterConfig) -> str:
    if config.model:
        return config.model
    settings = _settings(config.adapter)
    named, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not named:
        raise BllossomError(f"{config.adapter} does not name its base; add model=FOLDER or a hub id")
    if not Path(named).exists() and not is_hub_id(str(named)):
        raise BllossomError(f"{config.adapter} was trained on {named}, which is not here; add model=FOLDER")
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
        settings = json.loads(path.read_text(encoding="utf8"))
        if not isinstance(settings, dict):
            raise ValueError
        return settings
    except (OSError, ValueError) as error:
        raise BllossomError(
            f"{path} cannot be read ({type(error).__name__}); name a folder that pretrain or sft made with lora"
        ) from error
