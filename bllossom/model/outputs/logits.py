"""What families do to their logits behind the head's matrix product, for whoever computes that product by himself.

    logits = cap · tanh(scale · (hidden · headᵀ + bias) / cap)        without a cap, scale · (…)

Losses and scores take the hidden states and the head's weight, so as never to hold all logits. What a config says of
logits and is not known here is refused: a loss without it would be another one, and nobody would see it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from bllossom.errors import BllossomError

# By model type: the field of the config, and what it is to the logits (transformers, models/*/modeling_*.py).
MULTIPLIED = {
    **dict.fromkeys(("cohere", "cohere2"), "logit_scale"),
    "falcon_h1": "lm_head_multiplier",
    "hyperclovax": "logits_scaling",
}
DIVIDED = dict.fromkeys(("granite", "granitemoe", "granitemoehybrid", "granitemoeshared"), "logits_scaling")
CAPPED = {
    **dict.fromkeys(("gemma2", "gemma3_text", "nanochat", "vaultgemma"), "final_logit_softcapping"),
    "recurrent_gemma": "logits_soft_cap",
}
OF_LOGITS = re.compile(r"logit|lm_head|soft_?cap")
# Not the head's: attention's own caps, routers, what a call gives back; and a bias, which the head itself holds.
ELSEWHERE = re.compile(r"att|router|logits_to_keep|lm_head_bias|return|output_logits")
NEUTRAL = (None, 0, 1)


@dataclass(frozen=True)
class LogitRule:
    """See the top of this file."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, products: torch.Tensor) -> torch.Tensor:
        """Logits from the head's products (bias included), of any shape."""
        scaled = products if self.scale == 1 else products * self.scale
        return scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)


def logit_rule(config: PretrainedConfig) -> LogitRule:
    """The rule of a model with this config.

    Raises:
        BllossomError: the config has a field of logits that is not known; names it.
    """
    fields: Mapping[str, Any] = config.to_dict()
    kind = config.model_type
    known = {table[kind] for table in (MULTIPLIED, DIVIDED, CAPPED) if kind in table}
    for name, value in fields.items():
        of_head = OF_LOGITS.search(name) and not ELSEWHERE.search(name) and name not in known
        if of_head and (value is True or value not in NEUTRAL):
            raise BllossomError(
                f"{kind}: what its {name}, {value!r:.40}, does to the logits is not known here, and a loss without it "
                "would be another one; use a model of another family"
            )
    scale = float(fields.get(MULTIPLIED.get(kind, "")) or 1.0) / float(fields.get(DIVIDED.get(kind, "")) or 1.0)
    cap = fields.get(CAPPED.get(kind, ""))
    return LogitRule(scale, float(cap) if cap else None)


def refuse_head(source: object, config: PretrainedConfig) -> None:
    """Refuse, without any weights, a model whose logits are not its head's products under a known rule.

    Raises:
        BllossomError: a field of logits is not known, or there are more modules than one behind the body.
    """
    try:
        logit_rule(config)
    except BllossomError as error:
        raise BllossomError(f"{source}: {error}") from None
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    more = [name for name, part in model.named_children() if part is not model.base_model and part is not head]
    if more:
        raise BllossomError(
            f"{source}: {type(model).__name__} computes its logits by {', '.join(more)}, more than a matrix product; "
            "use a model of another family"
        )
