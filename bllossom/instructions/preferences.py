"""Pairs of answers to one question, the better and the worse, out of anybody's files.

    {"prompt": "…" or messages, "chosen": "…" or messages, "rejected": "…" or messages}

Where `chosen` and `rejected` are messages they may hold the prompt's as well, all of them and first, as in
UltraFeedback's binarized form; then `prompt` may be left out. A system message may stand in any of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.instructions.formats.format import ChatFormat
from bllossom.instructions.messages import Conversation, UnusableError, conversation, is_blank
from bllossom.instructions.reading import FileSource, Skipped
from bllossom.instructions.shapes.chat import is_messages, messages_of
from bllossom.instructions.shapes.shape import Turns
from bllossom.text.rows import locate_rows, place, read_entries

KEYS = ("prompt", "chosen", "rejected", "system")
LOOKS = '{"prompt": "…", "chosen": "…", "rejected": "…"}, each a text or messages'


class PreferenceSource(FileSource):
    """Files of pairs."""

    fields: Annotated[
        dict[Literal["prompt", "chosen", "rejected", "system"], str] | None,
        Field(min_length=1, description="our name to the column there, as {prompt: question}"),
    ] = None


@dataclass(frozen=True)
class Pair:
    """Two conversations that differ in their last answer."""

    chosen: Conversation
    rejected: Conversation


@dataclass(frozen=True)
class EncodedPair:
    """A prompt's ids, and those of either answer with what ends it: int64 [tokens] each."""

    prompt: NDArray[np.int64]
    chosen: NDArray[np.int64]
    rejected: NDArray[np.int64]
    source: str = ""

    def longest(self) -> int:
        """Tokens of the prompt with the longer answer."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def read_pairs(
    sources: Sequence[PreferenceSource], on_error: Literal["stop", "skip"] = "stop"
) -> tuple[list[Pair], list[Skipped]]:
    """Read every record of `sources`; the columns that are not read are said.

    Raises:
        BllossomError: a file or a record is broken, or a pair is equal, and on_error is stop; or nothing is left.
    """
    found: list[Pair] = []
    skipped: list[Skipped] = []
    for source in sources:
        for path in locate_rows(source.path):
            before = len(found) + len(skipped)
            for made in _read_file(path, source):
                if isinstance(made, Pair):
                    found.append(made)
                elif on_error == "stop":
                    raise BllossomError(f"{made.source}: {made.why}; or set on_error: skip")
                else:
                    skipped.append(made)
            if len(found) + len(skipped) == before:
                raise BllossomError(f"{path} holds no record; take it out of data, or fill it")
    if not found:
        raise BllossomError(f"every record is broken, the first at {skipped[0].source}: {skipped[0].why}")
    if skipped:
        say(f"{len(skipped):,} records skipped, the first at {skipped[0].source}: {skipped[0].why}")
    return found, skipped


def encode_pair(chat: ChatFormat, pair: Pair) -> EncodedPair:
    """Put a pair into the format.

    Raises:
        UnusableError: the format has no place for a message, or a piece straddles the prompt and an answer.
    """
    prompt = chat.prompt(pair.chosen.prompt())
    chosen, rejected = _answer(chat, pair.chosen, prompt), _answer(chat, pair.rejected, prompt)
    if np.array_equal(chosen, rejected):
        raise UnusableError("chosen and rejected are the same tokens; remove the pair")
    return EncodedPair(np.array(prompt, np.int64), chosen, rejected, pair.chosen.source)


def _answer(chat: ChatFormat, made: Conversation, prompt: Sequence[int]) -> NDArray[np.int64]:
    example = chat.encode(made)
    if example.ids[: len(prompt)].tolist() != list(prompt):
        raise UnusableError(f"a piece straddles the prompt and the answer in format {chat.name}; trim the answer")
    end = int(np.flatnonzero(example.supervised)[-1]) + 1  # nobody has to generate what is behind it
    return example.ids[len(prompt) : end]


def _read_file(path: Path, source: PreferenceSource) -> Iterator[Pair | Skipped]:
    told, fields = False, dict(source.fields or {})
    for entry in read_entries(path, source.encoding):
        where = place(path, entry)
        try:
            if entry.error:
                raise UnusableError(entry.error)
            if not isinstance(entry.value, Mapping):
                raise UnusableError(f"is no object; a record is {LOOKS}")
            record = {ours: entry.value[theirs] for ours, theirs in _columns(entry.value, fields).items()}
            if not told:
                told = True
                _tell(path, entry.value, fields)
            yield _pair(record, where)
        except UnusableError as error:
            yield Skipped(where, str(error))


def _columns(record: Mapping[str, Any], fields: Mapping[Any, str]) -> dict[str, str]:
    columns = {key: fields.get(key, key) for key in KEYS}
    there = {ours: theirs for ours, theirs in columns.items() if theirs in record}
    missing = [columns[key] for key in ("chosen", "rejected") if key not in there]
    if missing:
        keys = ", ".join(map(str, record)) or "none"
        raise UnusableError(f"has no {' and no '.join(missing)} (its keys are {keys}); a record is {LOOKS}; set fields")
    return there


def _tell(path: Path, record: Mapping[str, Any], fields: Mapping[Any, str]) -> None:
    more = [str(key) for key in record if key not in {fields.get(name, name) for name in KEYS}]
    unread = f"; columns that are not read: {', '.join(more)}" if more else ""
    say(f"{path}: read as pairs, {LOOKS}{unread}")


def _pair(record: Mapping[str, Any], source: str) -> Pair:
    before: Turns = [("system", record["system"])] if record.get("system") is not None else []
    prompt = record.get("prompt")
    if prompt is not None:
        before += messages_of(prompt) if is_messages(prompt) else [("user", prompt)]
    sides = {name: conversation(_side(before, record[name]), source=source) for name in ("chosen", "rejected")}
    chosen, rejected = sides["chosen"], sides["rejected"]
    if chosen.messages[:-1] != rejected.messages[:-1]:
        raise UnusableError("chosen and rejected answer different conversations; give both the same messages before")
    if chosen.messages == rejected.messages:
        raise UnusableError("chosen and rejected are equal; remove the pair, or correct one of them")
    return Pair(chosen, rejected)


def _side(before: Turns, answer: Any) -> Turns:
    """The whole conversation of one side: messages that hold the prompt's come instead of them.

    Raises:
        UnusableError: they begin otherwise than the prompt, or under another system message.
    """
    if not is_messages(answer):
        return [*before, ("assistant", answer)]
    turns = messages_of(answer)
    if all(role != "user" for role, _ in turns):
        return before + turns
    (given, asked), (own, said) = _parted(before), _parted(turns)
    if [_comparable(turn) for turn in said[: len(asked)]] != [_comparable(turn) for turn in asked]:
        raise UnusableError(
            "chosen and rejected hold a question, but do not begin with the prompt; put all of it there"
        )
    if own and given and [_comparable(turn) for turn in own] != [_comparable(turn) for turn in given]:
        raise UnusableError("there are two system messages that differ; leave one of them out")
    return [*(own or given), *said]


def _parted(turns: Turns) -> tuple[Turns, Turns]:
    """The system messages that say something, and all other turns."""
    system = [turn for turn in turns if turn[0] == "system"]
    there = [turn for turn in system if turn[1] is not None and not (isinstance(turn[1], str) and is_blank(turn[1]))]
    return there, [turn for turn in turns if turn[0] != "system"]


def _comparable(turn: tuple[str, Any]) -> tuple[str, Any]:
    """A turn without the white space at its edges, which many files have in one column and not in the other."""
    role, content = turn
    return role, content.strip() if isinstance(content, str) else content
