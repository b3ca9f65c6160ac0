"""The loss of a micro-batch as a sum over its tokens, without ever holding all its logits."""

from dataclasses import dataclass

import torch
from torch.nn import LinearCrossEntropyOptions
from torch.nn.functional import cross_entropy, linear_cross_entropy
from transformers import PreTrainedModel

from bllossom.training.rows import IGNORED, MicroBatch


@dataclass(frozen=True)
class GroupLoss:
    """Summed negative log-likelihood (nats, a scalar tensor with gradient) of a group's supervised tokens."""

    nats: torch.Tensor
    tokens: int


def group_losses(
    model: PreTrainedModel, batch: MicroBatch, *, loss_chunk: int | None, precision: str
) -> dict[str, GroupLoss]:
    """Run the model and sum the loss by group (language).

    Summing, and dividing by the tokens of the *global* batch in the caller, is what makes the gradient independent of
    micro-batches and ranks (transformers#34191 is the bug this avoids). The logits are made `loss_chunk` tokens at a
    time: for 39,478 pieces they would otherwise outweigh the body of a small model.
    """
    device = next(model.parameters()).device
    ids, labels = batch.ids.to(device), batch.labels.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        hidden = model.base_model(input_ids=ids, position_ids=batch.positions.to(device), use_cache=False)[0]
    head = model.get_output_embeddings().weight
    losses = {}
    for group in dict.fromkeys(batch.groups):
        rows = torch.tensor([name == group for name in batch.groups], device=device)
        targets = labels[rows, 1:].flatten()
        kept = targets != IGNORED
        # fp32 here whatever the body's precision: torch 2.13's chunked loss returns a wrong value in bf16.
        inputs = hidden[rows, :-1].flatten(0, 1)[kept].float()
        losses[group] = GroupLoss(_summed(inputs, head.float(), targets[kept], loss_chunk), int(kept.sum()))
    return losses


def _summed(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, chunk: int | None) -> torch.Tensor:
    """Σ −log p over tokens; hidden [tokens, width], head [pieces, width], targets [tokens]."""
    if not len(targets):
        return hidden.sum() * 0.0  # keeps the graph: a backward pass still reaches every weight
    if chunk is None:
        return cross_entropy(hidden @ head.T, targets, reduction="sum")
    options = LinearCrossEntropyOptions(batch_chunk_size=chunk, chunking_method=None)
    return linear_cross_entropy(hidden, head, targets, reduction="sum", options=options)
