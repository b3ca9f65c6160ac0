"""Shapes that hold a list of turns: OpenAI's chat, ShareGPT's, LIMA's own."""

from collections.abc import Mapping
from typing import Any

from bllossom.instructions.messages import UnusableError
from bllossom.instructions.shapes.shape import Shape, Turns

LISTS = ("messages", "conversations", "conversation")
SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def messages_of(turns: Any) -> Turns:
    """A list of `{"role", "content"}`, content as text or as OpenAI's list of text parts.

    Raises:
        UnusableError: it is no such list, a part is no text, or an answer has another `weight` than 1.
    """
    if not isinstance(turns, list):
        raise UnusableError(f"the messages are {turns!r:.40}, not a list; write [{{'role', 'content'}}, …]")
    found: Turns = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping) or not {"role", "content"} <= turn.keys():
            raise UnusableError(f"message {number} has no role and content; write {{'role', 'content'}}")
        if turn["role"] == "assistant":
            _check_weight(turn.get("weight"), number)
        found.append((str(turn["role"]), _joined(turn["content"], number)))
    return found


def is_messages(value: Any) -> bool:
    """Whether a value is a list of `{"role", "content"}`, by its first element."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and "role" in value[0]


def _joined(content: Any, number: int) -> Any:
    if not isinstance(content, list):
        return content
    parts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in content]
    if None in parts:
        raise UnusableError(f"message {number} holds a part that is no text; leave images and tools out")
    return "\n".join(map(str, parts))


def _check_weight(weight: Any, number: int) -> None:
    """OpenAI's mark of answers that are not to be learned; here every answer of an example is."""
    if weight is None or weight == 1:
        return
    if weight == 0:
        raise UnusableError(
            f"message {number} has weight 0, but no answer of an example is left out of the loss; remove the record, "
            "or end it before that answer"
        )
    raise UnusableError(f"message {number} has weight {weight!r:.40}, which is neither 0 nor 1; set it to 1")


def _turns(record: Mapping[str, Any]) -> Any:
    return next((record[key] for key in LISTS if record.get(key) is not None), None)


def _with_system(record: Mapping[str, Any], turns: Turns) -> Turns:
    return [("system", record["system"]), *turns] if record.get("system") is not None else turns


def _read_messages(record: Mapping[str, Any]) -> Turns:
    return _with_system(record, messages_of(_turns(record)))


def _read_sharegpt(record: Mapping[str, Any]) -> Turns:
    turns: Turns = []
    listed = _turns(record)
    for number, turn in enumerate(listed if isinstance(listed, list) else [listed], 1):
        if not isinstance(turn, Mapping) or not {"from", "value"} <= turn.keys():
            raise UnusableError(f"message {number} has no from and value; write {{'from', 'value'}}")
        said_by = str(turn["from"])
        if said_by not in SHAREGPT_ROLES:
            raise UnusableError(f"message {number}: unknown role {said_by!r}; from is {', '.join(SHAREGPT_ROLES)}")
        turns.append((SHAREGPT_ROLES[said_by], turn["value"]))
    return _with_system(record, turns)


def _read_lima(record: Mapping[str, Any]) -> Turns:
    listed = _turns(record)
    return [("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(_as_list(listed))]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_sharegpt(record: Mapping[str, Any]) -> bool:
    first = _as_list(_turns(record))[:1]
    return bool(first) and isinstance(first[0], Mapping) and "from" in first[0]


def _is_lima(record: Mapping[str, Any]) -> bool:
    first = _as_list(_turns(record))[:1]
    return bool(first) and isinstance(first[0], str)


MESSAGES = Shape(
    name="messages",
    looks='{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}',
    keys=frozenset({*LISTS, "system"}),
    fits=lambda record: is_messages(_turns(record)),
    read=_read_messages,
)
SHAREGPT = Shape(
    name="sharegpt",
    looks='{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}',
    keys=frozenset({*LISTS, "system"}),
    fits=_is_sharegpt,
    read=_read_sharegpt,
)
LIMA = Shape(
    name="lima",
    looks='{"conversations": ["question", "answer", …]}',
    keys=frozenset(LISTS),
    fits=_is_lima,
    read=_read_lima,
)
