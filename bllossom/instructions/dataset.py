"""Instruction files to examples: LIMA's shape in, ids and labels out.

A file is a JSON array, or JSONL, of `{"instruction", "input", "output", "history"}`; `input` (more of the question) and
`history` (earlier [question, answer] pairs) may be left out.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.instructions.template import check_tokenizer, encode_conversation


class Record(BaseModel):
    """One instruction as files hold it."""

    model_config = ConfigDict(extra="forbid")

    instruction: str
    input: str = ""
    output: str
    history: list[tuple[str, str]] = []

    def turns(self) -> list[tuple[str, str]]:
        """(question, answer) pairs in order."""
        question = f"{self.instruction}\n{self.input}" if self.input else self.instruction
        return [*self.history, (question, self.output)]


@dataclass(frozen=True)
class Example:
    """One conversation: `ids` int64 [tokens] and `supervised` bool [tokens], True where a token carries loss."""

    ids: NDArray[np.int64]
    supervised: NDArray[np.bool_]


@dataclass(frozen=True)
class TooLong:
    """An example with more tokens than allowed, and what was done with it."""

    file: str
    index: int  # from 0, in the file
    tokens: int
    action: Literal["dropped", "cut"]


@dataclass(frozen=True)
class Examples:
    """The examples in the order of the files, and those that were too long."""

    items: list[Example]
    too_long: list[TooLong]

    def figures(self) -> dict[str, Any]:
        """Counts for a manifest; `tokens` counts what is kept."""
        actions = [entry.action for entry in self.too_long]
        return {
            "examples": len(self.items),
            "tokens": sum(len(example.ids) for example in self.items),
            "supervised_tokens": sum(int(example.supervised.sum()) for example in self.items),
            "dropped": actions.count("dropped"),
            "cut": actions.count("cut"),
        }


def load_examples(
    paths: Sequence[Path], tokenizer: PreTrainedTokenizerFast, max_tokens: int, too_long: Literal["drop", "cut"]
) -> Examples:
    """Read, encode and check every example of `paths`.

    An example of more than `max_tokens` tokens is dropped whole, or cut at its end (which loses the last EOS, so that
    the model is not taught to stop there); a cut that leaves nothing supervised is a drop. All of them are listed.

    Raises:
        BllossomError: a file or a record is not of the documented shape, an answer is empty, or no example is left.
    """
    check_tokenizer(tokenizer)
    items: list[Example] = []
    listed: list[TooLong] = []
    for path in paths:
        for index, record in enumerate(_read(path)):
            tokens = encode_conversation(tokenizer, record.turns())
            ids, supervised = np.array(tokens.ids, np.int64), np.array(tokens.supervised, np.bool_)
            if len(ids) > max_tokens:
                kept = too_long == "cut" and bool(supervised[:max_tokens].any())
                listed.append(TooLong(path.name, index, len(ids), "cut" if kept else "dropped"))
                if not kept:
                    continue
                ids, supervised = ids[:max_tokens], supervised[:max_tokens]
            items.append(Example(ids, supervised))
    if not items:
        names = ", ".join(map(str, paths))
        raise BllossomError(
            f"{names}: no example is left ({len(listed)} too long); allow more than {max_tokens} tokens"
        )
    return Examples(items, listed)


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of `count` examples in one epoch: int64 [count], a pure function of its arguments."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _read(path: Path) -> Iterator[Record]:
    for index, raw in enumerate(_read_raw(path)):
        try:
            record = Record.model_validate(raw)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise BllossomError(
                f"{path}: record {index}: {where}: {problem['msg']}; a record is "
                '{"instruction", "input", "output", "history": [[question, answer], …]}'
            ) from error
        if not all(answer.strip() for _, answer in record.turns()):
            raise BllossomError(f"{path}: record {index}: an answer is empty: nothing to learn; fill it or remove it")
        yield record


def _read_raw(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise BllossomError(f"{path} cannot be read ({error}); name a UTF-8 JSON or JSONL file") from error
    try:
        if text.lstrip().startswith("["):
            return json.loads(text)
        # Not splitlines(): it also cuts at U+2028 and the like, which JSON strings may hold.
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise BllossomError(f"{path} is neither a JSON array nor JSONL ({error}); correct the file") from error
