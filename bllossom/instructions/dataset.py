"""Instruction files to examples: read, put into a chat format, and no longer than a model's rows."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.instructions.formats.format import ChatFormat, Example
from bllossom.instructions.messages import Conversation, Message, UnusableError
from bllossom.instructions.reading import Instructions, Skipped

TooLongAction = Literal["drop", "cut", "split", "refuse"]


class NoExampleError(BllossomError):
    """Of some conversations no example is left."""


@dataclass(frozen=True)
class TooLong:
    """An example with more tokens than allowed, and what was done with it."""

    source: str  # "file:line"
    tokens: int
    action: Literal["dropped", "cut", "split"]


@dataclass(frozen=True)
class Examples:
    """The examples in the order of the files, those that were too long, and the records that were left out."""

    items: list[Example]
    too_long: list[TooLong]
    skipped: list[Skipped]
    duplicates: int

    def figures(self) -> dict[str, Any]:
        """Counts for a manifest; `tokens` counts what is kept."""
        actions = [entry.action for entry in self.too_long]
        return {
            "examples": len(self.items),
            "tokens": sum(len(example.ids) for example in self.items),
            "supervised_tokens_per_epoch": sum(int(example.supervised.sum()) for example in self.items),
            **{action: actions.count(action) for action in ("dropped", "cut", "split")},
            "skipped": len(self.skipped),
            "duplicates": self.duplicates,
            "trimmed": sum(example.trimmed for example in self.items),
            "straddling_pieces": sum(example.straddling for example in self.items),
        }


def hold_out(instructions: Instructions, share: float, seed: int) -> tuple[Instructions, list[Conversation]]:
    """Keep a share of the conversations back: those to train on, and those held out, at least one.

    Which ones follows from what they say and the seed, so that a duplicate is never on the other side.

    Raises:
        BllossomError: nothing would be left to train on.
    """

    def place(conversation: Conversation) -> bytes:
        return hashlib.sha256(f"{seed} {conversation.messages}".encode()).digest()

    places = sorted({place(conversation) for conversation in instructions.conversations})
    held = set(places[: max(1, round(share * len(places)))])
    kept = [conversation for conversation in instructions.conversations if place(conversation) not in held]
    if not kept:
        raise BllossomError(f"holdout: {share} of {len(places):,} conversations leaves none; lower it, or add data")
    heldout = [conversation for conversation in instructions.conversations if place(conversation) in held]
    return replace(instructions, conversations=kept), heldout


def make_examples(
    instructions: Instructions,
    chat: ChatFormat,
    max_tokens: int,
    *,
    too_long: TooLongAction = "drop",
    train_on: Literal["outputs", "all"] = "outputs",
    on_error: Literal["stop", "skip"] = "stop",
) -> Examples:
    """Put every conversation into the format and check it.

    An example of more than `max_tokens` tokens is dropped; or cut at its end (which loses what ends its last answer, so
    that the model is not taught to stop there); or split: turns fall off its front, whole, and make an example of their
    own, each with the system message. What leaves nothing supervised is dropped. All of them are listed.

    Raises:
        NoExampleError: no example is left.
        BllossomError: a conversation does not fit the format and on_error is stop, or one is too long and too_long is
            refuse.
    """
    items: list[Example] = []
    listed: list[TooLong] = []
    skipped = list(instructions.skipped)
    for conversation in instructions.conversations:
        try:
            example = _encode(chat, conversation)
            if len(example.ids) <= max_tokens:
                items.append(example)
                continue
            if too_long == "refuse":
                raise BllossomError(
                    f"{conversation.source}: {len(example.ids):,} tokens, more than max_tokens, {max_tokens:,}; raise "
                    "it, or set too_long to drop, cut or split"
                )
            kept = list(_shortened(chat, conversation, example, max_tokens, too_long))
        except UnusableError as error:
            if on_error == "stop":
                raise BllossomError(f"{conversation.source}: {error}; or set on_error: skip") from error
            skipped.append(Skipped(conversation.source, str(error)))
            continue
        done: dict[TooLongAction, Literal["cut", "split"]] = {"cut": "cut", "split": "split"}
        listed.append(TooLong(conversation.source, len(example.ids), done[too_long] if kept else "dropped"))
        items += kept
    if not items:
        remedies = ["raise max_tokens"] if listed else []
        remedies += ["set too_long to cut"] if listed and too_long == "drop" else []
        remedies += [f"correct them (the first: {skipped[0].source}: {skipped[0].why})"] if skipped else []
        raise NoExampleError(
            f"no example is left: {len(listed):,} have more than {max_tokens:,} tokens, {len(skipped):,} are broken; "
            + ", or ".join(remedies)
        )
    if train_on == "all":
        # But the first token, which nothing stands before to predict it from.
        items = [replace(example, supervised=np.arange(len(example.ids)) > 0) for example in items]
    return Examples(items, listed, skipped, instructions.duplicates)


def tell(examples: Examples, chat: ChatFormat) -> None:
    """Say what an eye should fall on: white space that was trimmed, pieces that straddle header and answer."""
    figures = examples.figures()
    if figures["trimmed"]:
        say(f"{figures['trimmed']:,} examples had white space at a message's edges, which format {chat.name} trims")
    if figures["straddling_pieces"]:
        say(
            f"{figures['straddling_pieces']:,} pieces hold an answer's first characters and some of what is before it; "
            "they carry no loss"
        )


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of `count` examples in one epoch: int64 [count], a pure function of its arguments."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _encode(chat: ChatFormat, conversation: Conversation) -> Example:
    example = chat.encode(conversation)
    if not example.supervised[1:].any():
        raise UnusableError(f"format {chat.name} leaves nothing of it to learn from; look at it with --preview")
    return example


def _shortened(
    chat: ChatFormat, conversation: Conversation, example: Example, max_tokens: int, too_long: TooLongAction
) -> Iterator[Example]:
    """What is kept of an example that is too long."""
    if too_long == "cut" and example.supervised[1:max_tokens].any():
        yield replace(example, ids=example.ids[:max_tokens], supervised=example.supervised[:max_tokens])
    elif too_long == "split":
        yield from _split(chat, conversation, max_tokens)


def _split(chat: ChatFormat, conversation: Conversation, max_tokens: int) -> Iterator[Example]:
    """As many turns as fit, then as many of the rest, and so on; a turn that does not fit alone is left out."""
    messages = conversation.messages
    system = messages[:1] if messages[0].role == "system" else ()
    turns = [messages[start : start + 2] for start in range(len(system), len(messages), 2)]
    pending: Example | None = None
    taken: tuple[Message, ...] = ()
    for turn in turns:
        longer = _encode(chat, replace(conversation, messages=(*system, *taken, *turn)))
        if len(longer.ids) <= max_tokens:
            pending, taken = longer, (*taken, *turn)
            continue
        if pending is not None:
            yield pending
        alone = _encode(chat, replace(conversation, messages=(*system, *turn)))
        pending, taken = (alone, turn) if len(alone.ids) <= max_tokens else (None, ())
    if pending is not None:
        yield pending
