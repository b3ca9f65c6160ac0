"""Rows: what one training step reads. A row's index says what is in it, so that a resume reads no row twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

IGNORED = -100
"""The label of a token that carries no loss; what torch's cross-entropy takes as such."""

PACKABLE = frozenset(
    {
        *("exaone4", "gemma", "gemma3_text", "gpt2", "gpt_neox", "granite", "llama", "ministral", "mistral", "mixtral"),
        *("olmo", "olmo2", "olmo3", "phi", "phi3", "qwen2", "qwen3", "smollm3", "starcoder2"),
    }
)
"""Model types whose attention keeps documents of one row apart by their positions, sliding windows included: tested for
each. Others do not (Bloom and OPT build their positions from an attention mask; state-space models have no mask)."""


@dataclass(frozen=True)
class Row:
    """One sequence. All arrays are int64 of the same length (tokens)."""

    ids: np.ndarray
    labels: np.ndarray  # the token itself, or IGNORED; the shift by one happens in the loss
    positions: np.ndarray  # restart at each document, which keeps attention inside it
    group: str  # what its loss is reported under: the language

    def supervised(self) -> int:
        """Tokens that carry loss: the first of a row has nothing before it to be predicted from."""
        return int((self.labels[1:] != IGNORED).sum())


class RowSource(Protocol):
    """Rows by index: the same index gives the same row, in any process, at any time."""

    groups: tuple[str, ...]
    """Every group there is, in an order that all ranks share."""

    def row(self, index: int) -> Row:
        """The row at `index`, which counts on past the end of an epoch."""
        ...

    def describe(self, index: int) -> str:
        """Where that row comes from, for a person who has to look at it."""
        ...

    def leave_out(self, indices: Sequence[int]) -> str:
        """What a person does to go on without such of these rows as are bad."""
        ...


@dataclass(frozen=True)
class MicroBatch:
    """Rows padded on the right to the longest; int64 tensors of shape [rows, tokens]."""

    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    groups: tuple[str, ...]


def joined(rows: Sequence[Row]) -> Row:
    """Rows of one group end to end. Their first tokens get no label: what stands before them belongs to another row."""
    labels = [np.where(np.arange(len(row.ids)) == 0, IGNORED, row.labels) for row in rows]
    ids, positions = np.concatenate([row.ids for row in rows]), np.concatenate([row.positions for row in rows])
    return Row(ids, np.concatenate(labels), positions, rows[0].group)


def collate(rows: Sequence[Row]) -> MicroBatch:
    """Pad rows on the right. Causal attention never looks there, so no attention mask is needed: one would even undo
    the isolation of documents by positions (transformers builds the block mask only where none is passed)."""
    longest = max(len(row.ids) for row in rows)
    shape = (len(rows), longest)
    ids, labels = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
    positions = np.zeros(shape, np.int64)
    for index, row in enumerate(rows):
        length = len(row.ids)
        ids[index, :length], labels[index, :length] = row.ids, row.labels
        positions[index, :length] = row.positions
        # Going on, not restarting: a restart would be taken for one more document.
        positions[index, length:] = row.positions[-1] + 1 + np.arange(longest - length)
    groups = tuple(row.group for row in rows)
    return MicroBatch(torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(positions), groups)
