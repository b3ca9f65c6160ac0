"""The loss of a micro-batch as sums over its tokens, by group, without ever holding all its logits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import LinearCrossEntropyOptions
from torch.nn.functional import cross_entropy, linear_cross_entropy
from transformers import PreTrainedModel

from bllossom.training.engines.rows import IGNORED, MicroBatch


class GroupLoss(nn.Module):
    """A causal language model whose output is its loss: what the engines wrap.

    Summing, and dividing by the tokens of the *global* batch in the caller, is what makes the gradient independent of
    micro-batches and ranks (transformers#34191 is the bug this avoids). The logits are made `loss_chunk` tokens at a
    time: for 39,478 pieces they would otherwise outweigh the body of a small model.
    """

    def __init__(self, model: PreTrainedModel, *, loss_chunk: int | None, autocast: bool) -> None:
        super().__init__()
        self.model = model
        self.loss_chunk = loss_chunk
        self.autocast = autocast

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor, picked: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Summed negative log-likelihood (nats) of each group, fp32 [len(picked)].

        `ids` and `positions` are int64 [rows, tokens]; `targets` int64 [rows × tokens] is the next token at each
        place; `picked` gives the places that each group is scored at.
        """
        if self.model.config._attn_implementation == "flash_attention_2":
            # It keeps documents apart in one long row only: in more, transformers takes restarting positions for plain
            # causal attention, without a word (modeling_flash_attention_utils._is_packed_sequence).
            ids, positions = ids.view(1, -1), positions.view(1, -1)
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.autocast):
            hidden = self.model.base_model(input_ids=ids, position_ids=positions, use_cache=False)[0]
        hidden = hidden.flatten(0, 1)
        # fp32 from here whatever the body's precision: torch 2.13's chunked loss returns a wrong value in bf16.
        head = self.model.get_output_embeddings().weight.float()
        if not any(len(places) for places in picked):
            # Keeps the graph: every weight gets a gradient, which the engines' collectives count on.
            return (hidden.sum() + head.sum()).float() * torch.zeros(len(picked), device=ids.device)
        sums = [_summed(hidden[places].float(), head, targets[places], self.loss_chunk) for places in picked]
        return torch.stack(sums)


def loss_inputs(batch: MicroBatch, groups: Sequence[str], device: torch.device) -> tuple[Any, ...]:
    """What GroupLoss.forward takes, on `device`; the places are found on the CPU, so that no GPU waits for them."""
    targets = torch.full_like(batch.labels, IGNORED)
    targets[:, :-1] = batch.labels[:, 1:]
    scored = targets != IGNORED
    picked = []
    for group in groups:
        mine = torch.tensor([name == group for name in batch.groups])
        picked.append((scored & mine[:, None]).flatten().nonzero().squeeze(1).to(device))
    return batch.ids.to(device), batch.positions.to(device), targets.flatten().to(device), picked


def _summed(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, chunk: int | None) -> torch.Tensor:
    """Σ −log p over tokens; hidden [tokens, width], head [pieces, width], targets [tokens]."""
    if not len(targets):
        return head.new_zeros(())
    if chunk is None:
        return cross_entropy(hidden @ head.T, targets, reduction="sum")
    options = LinearCrossEntropyOptions(batch_chunk_size=chunk, chunking_method=None)
    return linear_cross_entropy(hidden, head, targets, reduction="sum", options=options)
