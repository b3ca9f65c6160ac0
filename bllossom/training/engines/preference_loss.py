"""Losses on pairs of answers: DPO (arXiv 2305.18290), cDPO's smoothing, IPO (arXiv 2310.12036) a token.

    Δ = (log π(chosen) − log ref(chosen)) − (log π(rejected) − log ref(rejected))
    sigmoid   −(1 − ε) log σ(βΔ) − ε log σ(−βΔ)
    ipo       (Δ − 1 / 2β)², with log-probabilities a token, as IPO's authors and TRL do

A pair is one row where attention takes a mask of its own, so that the prompt is computed once:

              prompt  chosen  rejected
    positions 0 1 2   3 4     3 4 5         chosen and rejected do not see each other
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel

from bllossom.instructions.preferences import EncodedPair
from bllossom.model.outputs.logits import logit_rule
from bllossom.training.engines.head import Head
from bllossom.training.settings import TrainingConfig

FIGURES = ("rewards/chosen", "rewards/rejected", "rewards/margin", "accuracy", "logps/chosen", "logps/rejected")


@dataclass(frozen=True)
class PairRow:
    """A pair, and the log-probabilities of its answers under the reference, in nats."""

    pair: EncodedPair
    chosen: float
    rejected: float

    def supervised(self) -> int:
        """Tokens that carry loss: those of both answers."""
        return len(self.pair.chosen) + len(self.pair.rejected)


@dataclass(frozen=True)
class PreferenceSettings:
    """What decides the loss of a pair."""

    beta: float
    loss: Literal["sigmoid", "ipo"]
    normalise_by_length: bool = False
    label_smoothing: float = 0.0
    sft_weight: float = 0.0


class AnswerLogProbabilities(nn.Module):
    """A causal language model whose output is what it gives the answers of pairs."""

    def __init__(self, model: PreTrainedModel, *, loss_chunk: int | None, autocast: bool) -> None:
        super().__init__()
        self.model = model
        self.rule = logit_rule(model.config)
        self.loss_chunk = loss_chunk
        self.autocast = autocast

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        places: torch.Tensor,
        targets: torch.Tensor,
        answers: torch.Tensor,
        count: int,
    ) -> torch.Tensor:
        """Log-probabilities of `count` answers, in nats, fp32 [count].

        `ids`, `positions` int64 [rows, tokens]; `mask` bool [rows, 1, tokens, tokens], True where attention looks, or
        None where positions keep answers apart; `targets`, int64, are the answers' tokens, `places` where in
        [rows × tokens] each is predicted, `answers` which answer each belongs to.
        """
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.autocast):
            hidden = self.model.base_model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False)[
                0
            ]
        hidden = hidden.flatten(0, 1)[places].float()
        nats = Head.of(self.model, self.rule).nats(hidden, targets, self.loss_chunk, "none")
        return torch.zeros(count, device=ids.device).index_add(0, answers, -nats)


class PreferenceLoss(nn.Module):
    """Sums over pairs: the loss, the chosen answers' own nats, and FIGURES."""

    def __init__(self, answers: AnswerLogProbabilities, settings: PreferenceSettings) -> None:
        super().__init__()
        self.answers = answers
        self.settings = settings

    def forward(self, inputs: tuple[Any, ...], reference: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Sums, fp32 [2 + FIGURES]. `reference` fp32, `lengths` int64 are [2 × pairs]: chosen, rejected, chosen, …"""
        logs = self.answers(*inputs)
        ratios, settings = logs - reference, self.settings
        scores = ratios / lengths if settings.normalise_by_length or settings.loss == "ipo" else ratios
        delta = scores[0::2] - scores[1::2]
        losses = preference_losses(delta, settings)
        rewards = settings.beta * ratios.detach()
        margin = rewards[0::2] - rewards[1::2]
        right = (margin > 0).float() + 0.5 * (margin == 0).float()
        seen = logs.detach()
        figures = [rewards[0::2], rewards[1::2], margin, right, seen[0::2], seen[1::2]]
        return torch.stack([losses.sum(), -logs[0::2].sum(), *(figure.sum() for figure in figures)])


def preference_losses(delta: torch.Tensor, settings: PreferenceSettings) -> torch.Tensor:
    """The loss of each pair from Δ: [pairs]."""
    if settings.loss == "ipo":
        return (delta - 1 / (2 * settings.beta)) ** 2
    smoothing = settings.label_smoothing
    return -(1 - smoothing) * logsigmoid(settings.beta * delta) - smoothing * logsigmoid(-settings.beta * delta)


class PreferenceObjective:
    """See objective.Objective: the mean over the pairs of the global batch, and `sft_weight` times the mean over the
    tokens of the chosen answers. Accuracy counts a tie as half."""

    def __init__(self, settings: PreferenceSettings, *, share_prompt: bool) -> None:
        self.settings = settings
        self.share_prompt = share_prompt

    def module(self, model: PreTrainedModel, config: TrainingConfig, *, autocast: bool) -> nn.Module:
        """See Objective."""
        answers = AnswerLogProbabilities(model, loss_chunk=config.loss_chunk, autocast=autocast)
        return PreferenceLoss(answers, self.settings)

    def inputs(self, rows: Sequence[PairRow], device: torch.device) -> tuple[Any, ...]:
        """See Objective."""
        reference = torch.tensor([value for row in rows for value in (row.chosen, row.rejected)])
        lengths = torch.tensor([len(side) for row in rows for side in (row.pair.chosen, row.pair.rejected)])
        inputs = answer_inputs([row.pair for row in rows], device, share_prompt=self.share_prompt)
        return inputs, reference.to(device), lengths.to(device)

    def counts(self, rows: Sequence[PairRow]) -> list[float]:
        """See Objective."""
        pairs = float(len(rows))
        return [pairs, float(sum(len(row.pair.chosen) for row in rows)), *[pairs] * len(FIGURES)]

    def loss(self, sums: torch.Tensor, counts: Sequence[float]) -> torch.Tensor:
        """See Objective."""
        loss = sums[0] / counts[0]
        return loss + self.settings.sft_weight * sums[1] / counts[1] if self.settings.sft_weight else loss

    def figures(self, sums: Sequence[float], counts: Sequence[float]) -> dict[str, float]:
        """See Objective."""
        return {name: value / counts[0] for name, value in zip(FIGURES, sums[2:], strict=True)}


def answer_inputs(pairs: Sequence[EncodedPair], device: torch.device, *, share_prompt: bool) -> tuple[Any, ...]:
    """What AnswerLogProbabilities.forward takes; with `share_prompt` a pair is a row, else each answer is."""
    rows = [_shared(pair) for pair in pairs] if share_prompt else [row for pair in pairs for row in _apart(pair)]
    longest = max(len(row.ids) for row in rows)
    ids, positions = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.int64)
    branches = np.zeros((len(rows), longest), np.int64)
    places, targets, answers = [], [], []
    for number, row in enumerate(rows):
        length = len(row.ids)
        ids[number, :length], positions[number, :length], branches[number, :length] = row.ids, row.positions, row.branch
        positions[number, length:] = row.positions[-1] + 1 + np.arange(longest - length)
        places.append(row.places + number * longest)
        targets.append(row.targets)
        answers.append(row.answers + 2 * number if share_prompt else row.answers + number)
    mask = _branch_mask(torch.from_numpy(branches)).to(device) if share_prompt else None
    flat = [torch.from_numpy(np.concatenate(parts)).to(device) for parts in (places, targets, answers)]
    return torch.from_numpy(ids).to(device), torch.from_numpy(positions).to(device), mask, *flat, 2 * len(pairs)


@dataclass(frozen=True)
class _Laid:
    """A row: int64 arrays of its tokens, and of the tokens that are scored."""

    ids: np.ndarray
    positions: np.ndarray
    branch: np.ndarray  # 0 prompt, 1 chosen, 2 rejected
    places: np.ndarray  # where each scored token is predicted
    targets: np.ndarray
    answers: np.ndarray  # 0 chosen, 1 rejected


def _shared(pair: EncodedPair) -> _Laid:
    prompt, first, second = len(pair.prompt), len(pair.chosen), len(pair.rejected)
    start = prompt + first
    return _Laid(
        np.concatenate([pair.prompt, pair.chosen, pair.rejected]),
        np.concatenate([np.arange(start), np.arange(prompt, prompt + second)]),
        np.repeat([0, 1, 2], [prompt, first, second]),
        # The first token of either is predicted by the prompt's last.
        np.concatenate([np.arange(prompt - 1, start - 1), [prompt - 1], np.arange(start, start + second - 1)]),
        np.concatenate([pair.chosen, pair.rejected]),
        np.repeat([0, 1], [first, second]),
    )


def _apart(pair: EncodedPair) -> list[_Laid]:
    prompt = len(pair.prompt)
    rows = []
    for answer in (pair.chosen, pair.rejected):
        total = prompt + len(answer)
        branch, places = np.zeros(total, np.int64), np.arange(prompt - 1, total - 1)
        ids = np.concatenate([pair.prompt, answer])
        rows.append(_Laid(ids, np.arange(total), branch, places, answer, np.zeros(len(answer), np.int64)))
    return rows


def _branch_mask(branches: torch.Tensor) -> torch.Tensor:
    """Causal, and rejected (2) does not look at chosen (1): bool [rows, 1, tokens, tokens]."""
    tokens = branches.shape[1]
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    other = (branches[:, :, None] == 2) & (branches[:, None, :] == 1)
    return (causal & ~other)[:, None]
