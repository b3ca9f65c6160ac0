"""The files of the room: examples with ids, `{"id", "messages"}` a line, and what belongs together of them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bllossom.errors import BllossomError
from bllossom.instructions.messages import Conversation, Message
from bllossom.instructions.reading import InstructionSource, read_instructions
from bllossom.localize.rules.reading import Passage
from bllossom.serving.log import read_log

SOURCE, TARGET, NOTES = "source.jsonl", "target.jsonl", "notes.jsonl"
Ends = Literal["assistant", "user"]


@dataclass(frozen=True)
class Note:
    """What the translation of one message met."""

    id: str
    turn: int  # messages from 0, system left out
    lost: tuple[str, ...] = ()  # pieces of markup that did not come back
    cut: bool = False  # the answer ended at its limit of tokens
    asked: int = 1  # requests for this message
    problem: str = ""  # what else was wrong with the answer that was kept


@dataclass(frozen=True)
class Pair:
    """An example and its translation; `cut` holds the turns that a translator broke off."""

    source: Conversation
    target: Conversation
    cut: frozenset[int] = frozenset()

    @property
    def id(self) -> str:
        """The id of both."""
        return self.source.id


def read_examples(sources: Sequence[InstructionSource], ends: Ends) -> list[Conversation]:
    """The examples of anybody's instruction files, each with an id: its own, or its number from 1.

    Raises:
        BllossomError: a record cannot be read, or two have the same id.
    """
    read = read_instructions(sources, ends=ends).conversations
    found = [replace(example, id=example.id or str(number)) for number, example in enumerate(read, 1)]
    places: dict[str, str] = {}
    for example in found:
        if example.id in places:
            raise BllossomError(
                f"the id {example.id!r} stands twice, at {places[example.id]} and {example.source}; give each its own"
            )
        places[example.id] = example.source
    return found


def spoken(example: Conversation) -> list[Message]:
    """The messages that count as turns: all but the system's."""
    return [message for message in example.messages if message.role != "system"]


def system_of(example: Conversation) -> list[str]:
    """What the system is told: one text or none."""
    return [message.content for message in example.messages if message.role == "system"]


def with_turns(example: Conversation, texts: Sequence[str]) -> Conversation:
    """The example with other texts for its turns."""
    rest = iter(texts)
    messages = [
        message if message.role == "system" else Message(message.role, next(rest)) for message in example.messages
    ]
    return replace(example, messages=tuple(messages))


def join(sources: Sequence[Conversation], targets: Sequence[Conversation]) -> list[Pair]:
    """Pairs of the same id, in the order of the sources.

    Raises:
        BllossomError: an id is on one side alone, or the two have other turns.
    """
    by_id = {target.id: target for target in targets}
    if missing := [source.id for source in sources if source.id not in by_id]:
        raise BllossomError(
            f"{len(missing):,} of {len(sources):,} examples have no translation, the first {missing[0]!r}; add them"
        )
    if extra := by_id.keys() - {source.id for source in sources}:
        raise BllossomError(
            f"{len(extra):,} translations belong to no example, the first {min(extra)!r}; correct their ids"
        )
    pairs = [Pair(source, by_id[source.id]) for source in sources]
    for pair in pairs:
        roles = [[message.role for message in spoken(side)] for side in (pair.source, pair.target)]
        if roles[0] != roles[1]:
            raise BllossomError(
                f"example {pair.id!r} has {len(roles[0])} turns at {pair.source.source} and {len(roles[1])} at "
                f"{pair.target.source}; they should be the same"
            )
    return pairs


def passages(pair: Pair, texts: Sequence[str] | None = None, prompt: str = "") -> list[Passage]:
    """What the rules read: each turn with its source and its question. `texts` are the turns as edited since."""
    sources = [message.content for message in spoken(pair.source)]
    machine = [message.content for message in spoken(pair.target)]
    now = list(texts) if texts is not None else machine
    found = []
    for turn, message in enumerate(spoken(pair.source)):
        answer = message.role == "assistant" and turn > 0
        before = machine[turn - 1] if answer and machine[turn - 1] != now[turn - 1] else None
        found.append(
            Passage(
                role=message.role,
                source=sources[turn],
                target=now[turn],
                question_source=sources[turn - 1] if answer else "",
                question=now[turn - 1] if answer else "",
                question_before=before,
                cut=turn in pair.cut and machine[turn] == now[turn],
                prompt=prompt,
            )
        )
    return found


def load_pairs(folder: Path) -> list[Pair]:
    """The pairs of a published translation.

    Raises:
        BllossomError: the folder is none.
    """
    sides = []
    for name in (SOURCE, TARGET):
        if not (folder / name).is_file():
            raise BllossomError(f"{folder} has no {name}; name the output of `bllossom localize translate`")
        sides.append([_conversation(record) for record in read_log(folder / name)])
    cuts: dict[str, set[int]] = {}
    for record in read_log(folder / NOTES):
        if record["cut"]:
            cuts.setdefault(record["id"], set()).add(record["turn"])
    return [replace(pair, cut=frozenset(cuts.get(pair.id, ()))) for pair in join(*sides)]


def _conversation(record: dict[str, Any]) -> Conversation:
    messages = tuple(Message(message["role"], message["content"]) for message in record["messages"])
    return Conversation(messages, id=record["id"])


def write_examples(path: Path, examples: Iterable[Conversation]) -> None:
    """`{"id", "messages"}`, a line each."""
    write_lines(path, ({"id": example.id, "messages": example.as_dicts()} for example in examples))


def write_notes(path: Path, notes: Iterable[Note]) -> None:
    """A line for each message that met something."""
    write_lines(path, map(asdict, notes))


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """JSON lines."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf8")


def note_figures(notes: Sequence[Note]) -> dict[str, Any]:
    """Counts for a manifest."""
    counts = Counter(asked=0, with_lost_markup=0, cut=0, with_other_problems=0)
    for note in notes:
        counts["asked"] += note.asked > 1
        counts["with_lost_markup"] += bool(note.lost)
        counts["cut"] += note.cut
        counts["with_other_problems"] += bool(note.problem)
    return {"messages_asked_twice": counts.pop("asked"), **{f"messages_{name}": n for name, n in counts.items()}}
