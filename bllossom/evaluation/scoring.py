"""How likely a causal language model finds given tokens: what task scores and bits per byte are both made of."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from bllossom.console import progress
from bllossom.errors import BllossomError

# Logits held at once. 256 × 39,478 pieces in fp32 are 40 MB; chunks that outgrow the cache take half as long again.
HEAD_CHUNK_TOKENS = 256


@dataclass(frozen=True)
class Scored:
    """Of one sequence's scored tokens: the summed log-probability, and whether each was the likeliest."""

    nats: float
    greedy: bool


def score(
    model: PreTrainedModel, sequences: Sequence[tuple[Sequence[int], int]], batch_size: int, what: str
) -> list[Scored]:
    """Score each (ids, first): the log-probabilities (natural, summed) of ids[first:], each given all ids before it.

    Sequences are batched by length, `batch_size` at a time, and padded on the right without a mask: a causal model's
    tokens do not see what follows them. Sequences that differ only in their last token share one pass. Logits are made
    for the scored tokens alone, `HEAD_CHUNK_TOKENS` at a time.

    Args:
        sequences: `first` is at least 1; ids but the last fit the model's window.
        what: names the progress bar.
    """
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, (ids, first) in enumerate(sequences):
        if first < 1 or len(ids) - 1 > window(model):
            raise ValueError(f"cannot score ids[{first}:] of {len(ids)} with a window of {window(model)}")
        groups[tuple(ids[:-1])].append(index)
    inputs = sorted(groups, key=lambda ids: (-len(ids), ids))
    results: list[Scored | None] = [None] * len(sequences)
    with torch.inference_mode(), progress(what, total=len(sequences)) as advance:
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size]
            members = [(row, index) for row, ids in enumerate(batch) for index in groups[ids]]
            spans = [(row, sequences[index][1] - 1, sequences[index][0]) for row, index in members]
            for (_, index), scored in zip(members, _score_batch(model, batch, spans), strict=True):
                results[index] = scored
            advance(len(members))
    return [scored for scored in results if scored is not None]


def window(model: PreTrainedModel) -> int:
    """The longest input of the model, in tokens."""
    return int(model.config.max_position_embeddings)


def check_head(model: PreTrainedModel) -> None:
    """Make sure that the model's logits are its output embeddings times its last hidden states, nothing more.

    Raises:
        BllossomError: they are not (Gemma caps them, Cohere scales them), so `score` would be wrong.
    """
    ids = torch.tensor([[0, 1, 2]], device=model.device)
    with torch.inference_mode():
        expected = model(input_ids=ids).logits.float()
        found = model.get_output_embeddings()(_hidden(model, ids)).float()
    if not torch.allclose(expected, found, rtol=1e-3, atol=1e-3):
        kind = type(model).__name__
        raise BllossomError(f"{kind} does more to its logits than a matrix product; use a Llama-like model")


def _hidden(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    hidden: torch.Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return hidden


def _score_batch(
    model: PreTrainedModel, batch: Sequence[tuple[int, ...]], spans: Sequence[tuple[int, int, Sequence[int]]]
) -> list[Scored]:
    """Score spans (row of the batch, first input position, ids): position p of a row predicts ids[p + 1]."""
    padded = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
    for row, ids in enumerate(batch):
        padded[row, : len(ids)] = torch.tensor(ids)
    hidden = _hidden(model, padded.to(model.device))
    lengths = [len(ids) - 1 - position for _, position, ids in spans]
    rows = torch.tensor([row for row, _, _ in spans]).repeat_interleave(torch.tensor(lengths))
    positions = torch.cat([torch.arange(position, len(ids) - 1) for _, position, ids in spans])
    targets = torch.cat([torch.tensor(ids[position + 1 :]) for _, position, ids in spans])
    nats, greedy = _score_tokens(model, hidden[rows, positions], targets.to(model.device))
    return [
        Scored(float(n.sum()), bool(g.all())) for n, g in zip(nats.split(lengths), greedy.split(lengths), strict=True)
    ]


def _score_tokens(
    model: PreTrainedModel, hidden: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """hidden [tokens, width], targets int64 [tokens] → log-probabilities float64 [tokens], likeliest? bool [tokens]."""
    head = model.get_output_embeddings()
    nats, greedy = [], []
    chunks = zip(hidden.split(HEAD_CHUNK_TOKENS), targets.split(HEAD_CHUNK_TOKENS), strict=True)
    for states, wanted in chunks:
        logits = head(states).float()
        nats.append(-torch.nn.functional.cross_entropy(logits, wanted, reduction="none").double().cpu())
        greedy.append((logits.gather(1, wanted[:, None])[:, 0] == logits.amax(1)).cpu())
    return torch.cat(nats), torch.cat(greedy)
