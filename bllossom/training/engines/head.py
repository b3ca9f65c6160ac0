"""A model's head as the losses compute it: some tokens at a time, so that a micro-batch's logits are never held."""

from dataclasses import dataclass
from typing import Literal, Self, cast

import torch
from torch import nn
from torch.nn import LinearCrossEntropyOptions
from torch.nn.functional import cross_entropy, linear, linear_cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from bllossom.model.outputs.logits import LogitRule

Reduction = Literal["sum", "none"]


@dataclass(frozen=True)
class Head:
    """fp32 [pieces, width] and [pieces], whatever the body's precision: torch 2.13's chunked loss returns a wrong value
    in bf16. `rule` is what the family does to their products."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    rule: LogitRule

    @classmethod
    def of(cls, model: PreTrainedModel, rule: LogitRule) -> Self:
        """The head of a model that `refuse_head` lets pass, with its `logit_rule`."""
        found = cast(nn.Linear, model.get_output_embeddings())
        bias = getattr(found, "bias", None)
        return cls(found.weight.float(), None if bias is None else bias.float(), rule)

    def nats(
        self, hidden: torch.Tensor, targets: torch.Tensor, chunk: int | None, reduction: Reduction = "sum"
    ) -> torch.Tensor:
        """−log p of `targets` int64 [tokens] given `hidden` fp32 [tokens, width]: their sum, or each. `chunk` is how
        many tokens' logits are held at once; None holds all."""
        if not len(targets):
            return self.weight.new_zeros(() if reduction == "sum" else 0)
        if chunk is None:
            return self._of_chunk(hidden, targets, reduction)
        if self.rule.cap is None:
            scale = self.rule.scale
            options = LinearCrossEntropyOptions(batch_chunk_size=chunk, chunking_method=None)
            return linear_cross_entropy(
                hidden if scale == 1 else hidden * scale,
                self.weight,
                targets,
                linear_bias=self.bias if self.bias is None or scale == 1 else self.bias * scale,
                reduction=reduction,
                options=options,
            )
        # Torch's chunked loss knows no cap: logits are computed again in the backward pass.
        found = [
            cast(torch.Tensor, checkpoint(self._of_chunk, *part, reduction, use_reentrant=False))
            for part in zip(hidden.split(chunk), targets.split(chunk), strict=True)
        ]
        return torch.stack(found).sum() if reduction == "sum" else torch.cat(found)

    def unused(self) -> torch.Tensor:
        """A scalar that all of the head's weights are in."""
        return self.weight.sum() if self.bias is None else self.weight.sum() + self.bias.sum()

    def _of_chunk(self, hidden: torch.Tensor, targets: torch.Tensor, reduction: Reduction) -> torch.Tensor:
        return cross_entropy(self.rule(linear(hidden, self.weight, self.bias)), targets, reduction=reduction)
