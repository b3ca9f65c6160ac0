"""What an evaluation asks of whatever computes: scores of given tokens, and answers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from bllossom.errors import BllossomError
from bllossom.model.outputs.generate import Decoding, Prompt


@dataclass(frozen=True)
class Scored:
    """Of one sequence's scored tokens: the summed log-probability, and whether each was the likeliest."""

    nats: float
    greedy: bool


NOT_NUMBERS = (
    "the model's log-probabilities are not numbers: its weights are broken, or too large for their type; mend them"
)


def numbers(scores: list[Scored]) -> list[Scored]:
    """The scores, if they are numbers.

    Raises:
        BllossomError: one is NaN. The first choice would be taken of such, without a word.
    """
    if any(math.isnan(scored.nats) for scored in scores):
        raise BllossomError(NOT_NUMBERS)
    return scores


Advance = Callable[[float], None]
"""Told, as work is done, which share of it that was."""


class Backend(Protocol):
    """What computes: transformers (`Scorer`) or vLLM. Both are asked the same."""

    @property
    def window(self) -> int:
        """The longest input, in tokens."""
        ...

    @property
    def dtype(self) -> str:
        """What is computed in, as `bfloat16`."""
        ...

    def score(self, sequences: Sequence[tuple[Sequence[int], int]], advance: Advance | None = None) -> list[Scored]:
        """Score each (ids, first): the log-probabilities of ids[first:], each given all ids before."""
        ...

    def answer(
        self, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], decoding: Decoding, advance: Advance
    ) -> list[str]:
        """The text that goes on from each prompt, up to a stop of `decoding` or one of the model's own."""
        ...
