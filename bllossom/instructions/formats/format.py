"""What a chat format is: a conversation to ids and mask, and the same as a Jinja template for everybody else."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bllossom.instructions.messages import Conversation


@dataclass(frozen=True)
class Example:
    """One conversation: `ids` int64 [tokens] and `supervised` bool [tokens], True where a token carries loss."""

    ids: NDArray[np.int64]
    supervised: NDArray[np.bool_]
    source: str = ""  # "file:line"
    straddling: int = 0  # pieces half prompt and half answer, which carry no loss
    trimmed: bool = False  # white space at a message's edge was left away
    language: str = ""


class ChatFormat(Protocol):
    """One way to write a conversation down for a model."""

    name: str
    template: str
    """Jinja for `tokenizer.apply_chat_template`: the very ids of `encode`."""
    end_ids: tuple[int, ...]
    """What ends an answer: supervised behind each, and what generation has to stop at."""

    def encode(self, conversation: Conversation) -> Example:
        """Ids and mask of a conversation that ends in an answer; every answer and what ends it is supervised.

        Raises:
            UnusableError: the format has no place for one of its messages.
        """
        ...

    def prompt(self, conversation: Conversation) -> list[int]:
        """The ids that a model is given to answer a conversation that ends in a question: the very prefix of `encode`.

        Raises:
            UnusableError: the format has no place for one of its messages.
        """
        ...
