"""A causal language model with all its weights: transformers gives those that it does not find random values."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from bllossom.errors import BllossomError
from bllossom.hub import pretrained

SHOWN_NAMES = 3


def load_causal(source: str, **placement: Any) -> PreTrainedModel:
    """Load a model folder or hub id; `placement` is what from_pretrained takes besides: dtype, device_map.

    Raises:
        BllossomError: nothing loads, or weights are missing or of another shape than the config says.
    """
    with clear_failures(source):
        model, told = AutoModelForCausalLM.from_pretrained(
            **pretrained(source), output_loading_info=True, ignore_mismatched_sizes=True, **placement
        )
    loaded: PreTrainedModel = model
    parameters = {name for name, _ in loaded.named_parameters(remove_duplicate=False)}
    # A head that is tied is no weight of its own; a buffer that is not stored is computed.
    missing = (set(told["missing_keys"]) & parameters) - loaded.all_tied_weights_keys.keys()
    if wrong := sorted(missing | {name for name, *_ in told["mismatched_keys"]}):
        more = ", …" if len(wrong) > SHOWN_NAMES else ""
        raise BllossomError(
            f"{source}: {len(wrong):,} weights are missing, or have another shape than its config.json says "
            f"({', '.join(wrong[:SHOWN_NAMES])}{more}); get the model anew, or put its own config.json there"
        )
    return loaded


@contextmanager
def clear_failures(source: str) -> Iterator[None]:
    """Turn what transformers and its kin raise of a model that does not load into one message."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BllossomError(f"{source}: no model loads ({reason}); name a model folder or a hub id") from error
