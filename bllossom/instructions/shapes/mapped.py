"""A shape that a config describes: `fields: {question: prompt, answer: response}`, our names to a file's own."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from bllossom.errors import ConfigError
from bllossom.instructions.messages import UnusableError
from bllossom.instructions.shapes.chat import LIMA, MESSAGES, SHAREGPT, messages_of
from bllossom.instructions.shapes.pairs import question_of
from bllossom.instructions.shapes.shape import Shape, Turns
from bllossom.text.fields import FieldError, extract, parse_field

Part = Literal["question", "input", "answer", "system", "messages"]
PARTS: tuple[Part, ...] = get_args(Part)


def mapped(fields: Mapping[Part, str]) -> Shape:
    """The shape whose parts lie at these field paths (`a.b`; see text/fields.py).

    Raises:
        ConfigError: neither `question` nor `messages` is among them, or both are.
    """
    if ("question" in fields) == ("messages" in fields):
        raise ConfigError(f"fields: name either question (and answer) or messages; the parts are {', '.join(PARTS)}")

    def read(record: Mapping[str, Any]) -> Turns:
        turns: Turns = [("system", _at(record, fields["system"]))] if "system" in fields else []
        if "messages" in fields:
            return turns + _turns_of(_value(record, fields["messages"]))
        more = [_at(record, fields["input"])] if "input" in fields else []
        turns.append(("user", question_of(_at(record, fields["question"]), *more)))
        return turns + ([("assistant", _at(record, fields["answer"]))] if "answer" in fields else [])

    described = ", ".join(f"{part}: {path}" for part, path in fields.items())
    keys = frozenset(path.split(".")[0].split("[")[0] for path in fields.values())
    return Shape(name="fields", looks=f"{{{described}}}", keys=keys, fits=lambda record: True, read=read)


def _at(record: Mapping[str, Any], path: str) -> str:
    try:
        return "\n".join(extract(record, parse_field(path)))
    except FieldError as error:
        why = str(error).replace("set field to", "set fields to")
        raise UnusableError(why if ";" in why else f"{why}; set fields to what is there") from None


def _turns_of(value: Any) -> Turns:
    """A list of turns in any of the ways that they are written."""
    record = {"messages": value}
    shape = next((shape for shape in (MESSAGES, SHAREGPT, LIMA) if shape.fits(record)), None)
    return messages_of(value) if shape is None else shape.read(record)


def _value(record: Mapping[str, Any], path: str) -> Any:
    value: Any = record
    for key in parse_field(path):
        if not isinstance(value, Mapping) or not isinstance(key, str) or key not in value:
            raise UnusableError(f"there is no field {path!r}; set fields to what is there")
        value = value[key]
    return value
