"""Where a causal language model is read from, and loading it whole: transformers makes up the weights it lacks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import find_adapter_config_file

from bllossom.errors import BllossomError
from bllossom.hub import download, is_hub_id, name_and_revision, pretrained
from bllossom.model.checkpoint import ADAPTER_CONFIG

SHOWN_NAMES = 3


def load_causal(source: str, **placement: Any) -> PreTrainedModel:
    """Load a model folder, an adapter's folder or a hub id; `placement` is what from_pretrained takes besides: dtype,
    device_map.

    Raises:
        BllossomError: nothing loads, or weights are missing or of another shape than the config says.
    """
    with clear_failures(source):
        here = _adapter_here(source)
    base, adapter = base_of(here)
    if adapter is None:
        return _load_whole(source, placement)
    # Apart from its base: of both in one go, transformers tells what the adapter lacks alone.
    model = load_causal(base, **placement)
    import_peft(adapter)
    with clear_failures(source):
        told: Any = model.load_adapter(str(adapter), ignore_mismatched_sizes=True)
    _refuse_broken(source, told.missing_keys | {name for name, *_ in told.mismatched_keys}, ADAPTER_CONFIG)
    return model


def import_peft(adapter: Path) -> ModuleType:
    """The library that reads adapters.

    Raises:
        BllossomError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise BllossomError(f"{adapter} is an adapter, which needs peft: pip install 'bllossom[lora]'") from error
    return peft


def _adapter_here(source: str) -> str:
    """The folder in the hub's cache where `source` is an adapter on the hub; everything else as it is."""
    name, revision = name_and_revision(source)
    if not is_hub_id(source) or find_adapter_config_file(name, revision=revision) is None:
        return source
    return str(download(source, [ADAPTER_CONFIG, "adapter_model.*"]))


def _load_whole(source: str, placement: dict[str, Any]) -> PreTrainedModel:
    with clear_failures(source):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **pretrained(source), output_loading_info=True, ignore_mismatched_sizes=True, **placement
        )
    model: PreTrainedModel
    model, told = loaded
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    # A head that is tied is no weight of its own; a buffer that is not stored is computed.
    missing = (set(told["missing_keys"]) & parameters) - model.all_tied_weights_keys.keys()
    _refuse_broken(source, missing | {name for name, *_ in told["mismatched_keys"]}, "config.json")
    return model


def _refuse_broken(source: str, names: set[str], config: str) -> None:
    if wrong := sorted(names):
        more = ", …" if len(wrong) > SHOWN_NAMES else ""
        raise BllossomError(
            f"{source}: {len(wrong):,} weights are missing, or have another shape than its {config} says "
            f"({', '.join(wrong[:SHOWN_NAMES])}{more}); get the model anew, or put its own {config} there"
        )


def base_input(name: str, source: str) -> dict[str, str]:
    """What an adapter is put on, as the input `name.base` beside its own; nothing for another model.

    Raises:
        BllossomError: it is an adapter that names no base.
    """
    base, adapter = base_of(source)
    return {} if adapter is None else {f"{name}.base": base}


def base_of(source: str) -> tuple[str, Path | None]:
    """The model to load, and the adapter to put on it where `source` is one's folder.

    Raises:
        BllossomError: it is an adapter that names no base.
    """
    settings = Path(source) / ADAPTER_CONFIG
    if is_hub_id(source) or not settings.is_file():
        return source, None
    base = json.loads(settings.read_text(encoding="utf8")).get("base_model_name_or_path")
    if not base:
        raise BllossomError(f"{settings} does not name its base; put base_model_name_or_path there")
    return str(base), Path(source)


@contextmanager
def clear_failures(source: str) -> Iterator[None]:
    """Turn what transformers and its kin raise of a model that does not load into one message."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BllossomError(f"{source}: no model loads ({reason}); name a model folder or a hub id") from error
