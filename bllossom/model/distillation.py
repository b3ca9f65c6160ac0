"""Token Distillation (arXiv 2505.20133): new rows that do in the frozen model what the old spelling did.

    text        …  the  대통령  said …
    teacher     …  the  ë ĮĢ íĨµ ë ł¹  said …      hidden states of the frozen model
    student     …  the  대통령  said …               the same model, with the row to be learned

Where a spelling ends, and from there on, both have read the same text: there the student's last hidden states are to
be the teacher's. Only some of a snippet's new pieces are put in at a time, so that what stands around each is mostly
what the teacher read. Rows of an output matrix are learned from next-token loss, on hidden states that do not move;
where one matrix serves both sides, its rows follow the sum of both losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, mse_loss

from bllossom.model.outputs.logits import logit_rule

REPLACED = 0.5
"""Share of a snippet's new pieces that the student gets; the others keep their old spelling."""


@dataclass(frozen=True)
class Snippet:
    """One stretch of text in both spellings."""

    student: list[int]
    teacher: list[int]
    ends: list[int]
    """For each student token, where its spelling ends in `teacher`."""
    after: list[bool]
    """Whether the token is a new piece, or stands behind one."""


def make_snippet(ids: Sequence[int], first: int, spellings: Sequence[Sequence[int]], keep: Sequence[bool]) -> Snippet:
    """`ids` with the new pieces that are not to be kept spelled out; the teacher gets all of them spelled out."""
    student: list[int] = []
    teacher: list[int] = []
    ends, after = [], []
    seen = False
    for number, kept in zip(ids, keep, strict=True):
        spelled = [number] if number < first else spellings[number - first]
        units = [[number]] if kept and number >= first else [[old] for old in spelled]
        seen = seen or (kept and number >= first)
        for unit in units:
            teacher += spelled if unit[0] >= first else unit
            student += unit
            ends.append(len(teacher) - 1)
            after.append(seen)
    return Snippet(student, teacher, ends, after)


class RowLearner:
    """A frozen model, and the new rows of its matrices as the only thing that learns."""

    def __init__(self, model: Any, first: int, count: int, *, output_weight: float) -> None:
        self.model, self.first = model.eval().requires_grad_(False), first
        self.inputs = model.get_input_embeddings().weight.detach()
        self.tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        self.outputs = model.get_output_embeddings().weight.detach()
        self.last = first + count
        self.new_inputs = nn.Parameter(self.inputs[first : self.last].clone())
        self.new_outputs = self.new_inputs if self.tied else nn.Parameter(self.outputs[first : self.last].clone())
        self.output_weight = output_weight
        self.rule = logit_rule(model.config)

    def parameters(self) -> list[nn.Parameter]:
        return [self.new_inputs] if self.tied else [self.new_inputs, self.new_outputs]

    def losses(self, snippets: Sequence[Snippet]) -> tuple[Tensor, Tensor]:
        """The distance of the hidden states, and the next-token loss, over a batch."""
        teacher, _ = _pad([snippet.teacher for snippet in snippets])
        student, real = _pad([snippet.student for snippet in snippets])
        ends, _ = _pad([snippet.ends for snippet in snippets])
        after, _ = _pad([list(map(int, snippet.after)) for snippet in snippets])
        with torch.no_grad():
            wanted = self.model.model(input_ids=teacher).last_hidden_state
            wanted = wanted.gather(1, ends[..., None].expand(-1, -1, wanted.shape[-1]))
        found = self.model.model(inputs_embeds=self._embed(student)).last_hidden_state
        chosen = after.bool() & real
        distance = mse_loss(found[chosen], wanted[chosen]) if chosen.any() else found.sum() * 0
        states = (found if self.tied else found.detach())[:, :-1][real[:, 1:]]
        matrix = torch.cat([self.outputs[: self.first], self.new_outputs, self.outputs[self.last :]])
        scores = self.rule(linear(states, matrix))
        return distance, cross_entropy(scores, student[:, 1:][real[:, 1:]])

    def loss(self, snippets: Sequence[Snippet]) -> Tensor:
        """What the rows follow: where the matrices are two, each loss moves its own."""
        distance, following = self.losses(snippets)
        return distance + self.output_weight * following

    def _embed(self, ids: Tensor) -> Tensor:
        new = (ids >= self.first) & (ids < self.last)
        place = (ids - self.first).clamp(0, len(self.new_inputs) - 1)
        scale = getattr(self.model.get_input_embeddings(), "embed_scale", 1.0)  # Gemma's
        return torch.where(new[..., None], self.new_inputs[place], self.inputs[ids]) * scale


def _pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """The rows as one matrix, 0 behind the end of each, and where they are. Causal attention never looks ahead."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    real = torch.tensor([[i < len(row) for i in range(longest)] for row in rows])
    return ids, real
