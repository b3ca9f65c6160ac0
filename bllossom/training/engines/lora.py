"""LoRA through peft: adapters in the blocks, and beside them the embeddings, trained in place.

What is published is a plain peft folder:

    adapter_config.json           rank, alpha, target_modules, base_model_name_or_path
    adapter_model.safetensors     base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight …
                                  base_model.model.model.embed_tokens.weight, base_model.model.lm_head.weight

The embeddings are there whole where they were trained, under the names that peft's `save_embedding_layers` gives them:
PeftModel.from_pretrained puts them in place of the base's. (peft's `modules_to_save` would hold them twice while they
train, and not know which rows stay.)
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from bllossom.errors import ConfigError
from bllossom.hub import name_and_revision, pretrained
from bllossom.model.checkpoint import ADAPTER_CONFIG, refuse_adapter
from bllossom.model.folder import check_headers
from bllossom.model.merged_weights import ADAPTER_WEIGHTS, PREFIX
from bllossom.training.engines.deepspeed_engine import gathered
from bllossom.training.engines.optimization import is_adapter
from bllossom.training.settings import Lora


def check_base(source: str, lora: Lora | None) -> None:
    """Refuse, before anything is loaded, a model that is itself an adapter, and adapters that cannot be made.

    Raises:
        BllossomError: `source` is an adapter's folder.
        ConfigError: peft is not installed, or a target module does not exist.
    """
    refuse_adapter(source)
    if lora is None:
        return
    _import_peft()
    if lora.target_modules is None:
        return
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(**pretrained(source)))
    except (OSError, ValueError):
        return  # it does not load: the one who loads it says so
    _target_modules(model, lora)


def add_adapters(model: PreTrainedModel, lora: Lora, seed: int) -> None:
    """Put an adapter into each target module and freeze everything else. B is zero: the model's outputs do not change.

    The first values of A follow from `seed` alone: the same on every rank.

    Raises:
        ConfigError: peft is not installed, or a target module does not exist.
    """
    peft = _import_peft()
    torch.manual_seed(seed)
    peft.inject_adapter_in_model(peft.LoraConfig(**_settings(model, lora)), model)


def adapter_parameters(model: PreTrainedModel) -> int:
    """Parameters of all adapters."""
    return sum(weight.numel() for name, weight in model.named_parameters() if is_adapter(name))


def load_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Bring back, into a model with its adapters added, what `save_adapter` wrote; every rank has to call it."""
    with safe_open(folder / ADAPTER_WEIGHTS, "pt") as saved:
        names = set(saved.keys())
        for name, weight in model.named_parameters():
            if published_name(name) in names:
                with gathered(weight), torch.no_grad():
                    weight.copy_(saved.get_tensor(published_name(name)))


def save_adapter(
    model: PreTrainedModel,
    lora: Lora,
    weights: Iterable[tuple[str, torch.Tensor]],
    folder: Path,
    dtype: str,
    *,
    writes: bool,
) -> None:
    """Write a peft folder with the trained `weights` and read its header back; only the rank that `writes` does.

    The same weights make the same bytes: peft's own writing puts sets in whatever order they have.
    """
    stored = torch.bfloat16 if dtype == "bf16" else torch.float32
    tensors = {published_name(name): tensor.to(stored) for name, tensor in weights if writes}
    if not writes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = _import_peft().LoraConfig(**_settings(model, lora), inference_mode=True).to_dict()
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf8")
    check_headers(folder, model.config.vocab_size)


def published_name(name: str) -> str:
    """A parameter's name in adapter_model.safetensors: peft's prefix, without the adapter's own name."""
    return PREFIX + re.sub(r"\.(lora_[AB])\.default\.", r".\1.", name)


def _settings(model: PreTrainedModel, lora: Lora) -> dict[str, Any]:
    name, revision = name_and_revision(model.name_or_path or "")
    return {
        "task_type": "CAUSAL_LM",
        # A path that is found from other places, too: peft looks for it from wherever it is loaded.
        "base_model_name_or_path": str(Path(name).resolve()) if name and Path(name).is_dir() else name,
        "revision": revision,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": _target_modules(model, lora),
    }


def _target_modules(model: PreTrainedModel, lora: Lora) -> list[str]:
    """Names of the linear layers that get an adapter."""
    head = model.get_output_embeddings()
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
    # Where adapters were added already, the layer itself stands one level deeper, and A and B beside it.
    names = {name.removesuffix(".base_layer").rpartition(".")[2] for name in linear if not is_adapter(f".{name}.")}
    wanted = names if lora.target_modules is None else set(lora.target_modules)
    if unknown := sorted(wanted - names):
        raise ConfigError(
            f"lora.target_modules: {model.name_or_path or 'the model'} has no {', '.join(unknown)} in its blocks; its "
            f"linear layers are {', '.join(sorted(names))}"
        )
    return sorted(wanted)


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError("lora: peft is not installed; pip install 'bllossom[lora]', or set lora to null") from error
    return peft
