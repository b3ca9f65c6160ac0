"""Files of prompts: JSON lines, each with `messages`, `conversations` or `prompt`.

    {"messages": [{"role": "user", "content": "…"}], "id": "7", "category": "writing", "language": "ko"}
    {"conversations": "…"}                                             LIMA's test prompts
    {"conversations": ["question", "answer", "question"]}              LIMA's dialogues
    {"conversations": [{"from": "human", "value": "…"}]}               ShareGPT
    {"prompt": "…"}

`id`, `category` and `language` may be left out. A conversation that ends in an answer is asked up to its last question.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bllossom.errors import BllossomError
from bllossom.instructions.messages import UnusableError, conversation

KEYS = ("messages", "conversations", "prompt")
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class PromptRecord:
    """One prompt of a file."""

    id: str
    messages: list[dict[str, str]]
    category: str | None = None
    language: str | None = None
    cut: bool = False  # it went on behind the last question


def read_prompts(path: Path) -> list[PromptRecord]:
    """The prompts of a file in order. Without an id they are called by their line and a hash of their text.

    Raises:
        BllossomError: a line is no prompt, or an id stands twice; names the line.
    """
    records: list[PromptRecord] = []
    lines: dict[str, int] = {}
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BllossomError(f"{path} cannot be read ({error}); name a JSONL file in UTF-8") from error
    # Not splitlines(): it also cuts at U+2028 and the like, which JSON strings may hold.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _record(json.loads(line), number)
        except ValueError as error:  # of JSON, or an UnusableError
            raise BllossomError(f"{path}:{number}: {error}") from error
        if record.id in lines:
            raise BllossomError(f"{path}:{number}: the id {record.id} stood in line {lines[record.id]} already")
        lines[record.id] = number
        records.append(record)
    if not records:
        raise BllossomError(f"{path} holds no prompt; a line is an object with {' or '.join(KEYS)}")
    return records


def _record(raw: Any, number: int) -> PromptRecord:
    if not isinstance(raw, dict) or not any(raw.get(key) for key in KEYS):
        found = f"has the keys {', '.join(raw)}" if isinstance(raw, dict) else "is no object"
        raise UnusableError(f"{found}; a prompt is an object with {' or '.join(KEYS)}")
    turns = _turns(raw)
    questions = [index for index, (role, _) in enumerate(turns) if role == "user"]
    if not questions:
        raise UnusableError("no question in it; it should end in a message of the user")
    asked = turns[: questions[-1] + 1]
    messages = conversation(asked, ends="user").as_dicts()
    return PromptRecord(
        _id(raw.get("id"), number, messages),
        messages,
        _text(raw, "category"),
        _text(raw, "language"),
        cut=len(asked) < len(turns),
    )


def _turns(raw: dict[str, Any]) -> list[tuple[str, Any]]:
    said = next(raw[key] for key in KEYS if raw.get(key))
    if isinstance(said, str):
        return [("user", said)]
    if not isinstance(said, list):
        raise UnusableError(f"{said!r:.40} is neither text nor a list of messages")
    if all(isinstance(turn, str) for turn in said):
        return [(("user", "assistant")[index % 2], turn) for index, turn in enumerate(said)]
    return [read_turn(turn) for turn in said]


def read_turn(turn: Any) -> tuple[str, Any]:
    """Who says what in a message, in the spelling of messages or of ShareGPT.

    Raises:
        UnusableError: it is no object, or nobody says it.
    """
    if not isinstance(turn, dict):
        raise UnusableError(f"the message {turn!r:.40} is no object")
    speaker = turn.get("role", turn.get("from"))
    if speaker is None:
        raise UnusableError(f"the message {turn!r:.40} has no role")
    return SPEAKERS.get(str(speaker), str(speaker)), turn.get("content", turn.get("value"))


def _id(given: Any, number: int, messages: Sequence[dict[str, str]]) -> str:
    if given is None:
        text = json.dumps(messages, ensure_ascii=False)
        return f"{number}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not isinstance(given, str | int) or given == "":
        raise UnusableError(f"the id {given!r:.40} is neither a text nor a number")
    return str(given)


def _text(raw: dict[str, Any], key: str) -> str | None:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise UnusableError(f"{key}: {value!r:.40} is no text")
    return value
