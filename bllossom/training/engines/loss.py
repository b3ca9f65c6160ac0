"""The loss of a micro-batch as sums over its tokens, by group, without ever holding all its logits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from bllossom.model.outputs.logits import logit_rule
from bllossom.training.engines import document_attention
from bllossom.training.engines.head import Head
from bllossom.training.engines.rows import IGNORED, MicroBatch


class GroupLoss(nn.Module):
    """A causal language model whose output is its loss: what the engines wrap.

    Summing, and dividing by the tokens of the *global* batch in the caller, is what makes the gradient independent of
    micro-batches and ranks (transformers#34191 is the bug this avoids). The logits are made `loss_chunk` tokens at a
    time: for 39,478 pieces they would otherwise outweigh the body of a small model.
    """

    def __init__(self, model: PreTrainedModel, *, loss_chunk: int | None, autocast: bool, tf32: bool = False) -> None:
        super().__init__()
        self.tf32 = tf32
        self.model = model
        self.rule = logit_rule(model.config)
        self.loss_chunk = loss_chunk
        self.autocast = autocast

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        targets: torch.Tensor,
        picked: Sequence[torch.Tensor],
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Summed negative log-likelihood (nats) of each group, fp32 [len(picked)].

        `ids` and `positions` are int64 [rows, tokens]; `targets` int64 [rows × tokens] is the next token at each
        place; `picked` gives the places that each group is scored at. `noise`, fp32 [rows, tokens], is how much of it,
        at most, is added to each token's embedding while training, times √width.
        """
        kernel: str = self.model.config._attn_implementation
        extra: dict[str, Any] = {}
        if kernel in ("flash_attention_2", document_attention.NAME):
            # They keep documents apart in one long row only: in more, transformers takes restarting positions for plain
            # causal attention under flash_attention_2, without a word (_is_packed_sequence).
            ids, positions = ids.view(1, -1), positions.view(1, -1)
            noise = None if noise is None else noise.view(1, -1)
        if kernel == document_attention.NAME:
            extra["cu_seq_lens_q"] = [*(positions[0] == 0).nonzero().flatten().tolist(), ids.shape[1]]
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.autocast):
            read: dict[str, torch.Tensor] = {"input_ids": ids}
            if noise is not None and self.model.training:
                read = {"inputs_embeds": _noisy(self.model.get_input_embeddings()(ids), noise)}
            hidden = self.model.base_model(**read, position_ids=positions, use_cache=False, **extra)[0]
        hidden = hidden.flatten(0, 1)
        head = Head.of(self.model, self.rule)
        if not any(len(places) for places in picked):
            # Keeps the graph: every weight gets a gradient, which the engines' collectives count on.
            return (hidden.sum() + head.unused()).float() * torch.zeros(len(picked), device=ids.device)
        sums = [self._summed(hidden[places].float(), head, targets[places]) for places in picked]
        return torch.stack(sums)

    def _summed(self, hidden: torch.Tensor, head: Head, targets: torch.Tensor) -> torch.Tensor:
        if not self.tf32:
            return head.nats(hidden, targets, self.loss_chunk)
        # For the head alone: rotary positions are an fp32 product too, and TF32 knows none above 2,048 exactly.
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            nats = head.nats(_BackwardProducts.apply(hidden, before), targets, self.loss_chunk)
        finally:
            torch.set_float32_matmul_precision(before)
        return _BackwardProducts.apply(nats, "high")


class _BackwardProducts(torch.autograd.Function):
    """The value itself; once its gradient is there, fp32 products are computed in another precision."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, precision: str) -> torch.Tensor:
        ctx.precision = precision
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        torch.set_float32_matmul_precision(ctx.precision)
        return gradient, None


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


def _noisy(embedded: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Embeddings [rows, tokens, width] with uniform noise of at most `noise` / √width [rows, tokens] either way."""
    uniform = torch.rand_like(embedded, dtype=torch.float32) * 2 - 1
    scale = noise[..., None] / embedded.shape[-1] ** 0.5
    return embedded + (uniform * scale).to(embedded.dtype)
