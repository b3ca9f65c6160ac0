"""The keys of a config, from its annotations: for help, for the reference in docs/keys.md, and for mistyped ones."""

import json
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

PLAIN = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "path", Any: "anything"}


@dataclass(frozen=True)
class TypeName:
    """In an Annotated type: what it is called in help."""

    text: str


@dataclass(frozen=True)
class Key:
    """One key as it is typed, `learning_rate.peak`, `phases[].tokens` or `sources.*[].path`."""

    name: str
    type: str
    default: str  # as YAML; empty where the key has to be given
    meaning: str


def keys_of(kind: type[BaseModel], before: str = "") -> Iterator[Key]:
    """Every key of a config, each block's own behind it."""
    for name, field in kind.model_fields.items():
        blocks = list(_blocks(field.annotation))
        meaning = field.description or " ".join((_docstring(block) for _, block in blocks))
        yield Key(before + name, _type(field), _default(field), meaning)
        for suffix, block in blocks:
            yield from keys_of(block, f"{before}{name}{suffix}.")


def help_lines(kind: type[BaseModel], width: int) -> list[str]:
    """The keys as help shows them: a line for the key, its type and default, and its meaning below."""
    lines = ["Keys, in the YAML or typed as key=value:"]
    for key in keys_of(kind):
        lines.append(f"  {key.name}: {key.type}" + (f" = {key.default}" if key.default else ", required"))
        lines += textwrap.wrap(key.meaning, width, initial_indent="      ", subsequent_indent="      ")
    return lines


def markdown(kind: type[BaseModel]) -> str:
    """The keys as a Markdown table."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in keys_of(kind):
        default = f"`{key.default}`" if key.default else "required"
        cells = (f"`{key.name}`", key.type, default, key.meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def known_at(kind: Any, location: Sequence[str | int]) -> list[str]:
    """The keys that the block at `location` knows."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if not location:
            return list(kind.model_fields)
        if location[0] in kind.model_fields:
            return known_at(kind.model_fields[str(location[0])].annotation, location[1:])
        return []
    arguments = typing.get_args(kind)
    inside_container = typing.get_origin(kind) in (list, tuple, dict)
    rest = location[1:] if inside_container and location else location
    return [key for argument in arguments for key in known_at(argument, rest)]


def typed_location(location: Sequence[str | int], raw: Any, *, missing: bool) -> tuple[tuple[str | int, ...], int]:
    """A location as it is typed, and how many of its parts come before the first that names a union's member.

    pydantic puts such names between the keys: `model.InitModel.init`. A key that is `missing` is the last part.
    """
    typed: list[str | int] = []
    alternatives = len(location)
    for depth, part in enumerate(location):
        inside = isinstance(raw, list) and isinstance(part, int) and part < len(raw)
        if inside or (isinstance(raw, dict) and part in raw) or (missing and depth == len(location) - 1):
            typed.append(part)
            raw = raw[part] if inside or (isinstance(raw, dict) and part in raw) else None
        else:
            alternatives = min(alternatives, depth)
    return tuple(typed), alternatives


def takes(kind: Any, wanted: type) -> bool:
    """Whether a value of type `wanted` may stand there, not counting what stands in lists and mappings."""
    if typing.get_origin(kind) in (typing.Annotated, typing.Union, types.UnionType):
        return any(takes(argument, wanted) for argument in typing.get_args(kind))
    return kind is wanted


def takes_bool(kind: Any) -> bool:
    """Whether true or false may stand there."""
    if typing.get_origin(kind) is Literal:
        return any(isinstance(argument, bool) for argument in typing.get_args(kind))
    return kind is bool or any(map(takes_bool, typing.get_args(kind)))


def elements_of(kind: Any) -> list[Any]:
    """The types of the elements of the lists that may stand there."""
    if typing.get_origin(kind) is list:
        return list(typing.get_args(kind))
    if typing.get_origin(kind) in (typing.Annotated, typing.Union, types.UnionType):
        return [element for argument in typing.get_args(kind) for element in elements_of(argument)]
    return []


def _blocks(kind: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The blocks that a key may hold, with how they are reached from it."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield "", kind
    suffix = {list: "[]", dict: ".*"}.get(typing.get_origin(kind) or kind, "")
    for argument in typing.get_args(kind):
        for inner, block in _blocks(argument):
            yield suffix + inner, block


def _type(field: FieldInfo) -> str:
    named = [mark.text for mark in field.metadata if isinstance(mark, TypeName)]
    return named[0] if named else _describe(field.annotation)


def _describe(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        named = [mark.text for mark in kind.__metadata__ if isinstance(mark, TypeName)]
        return named[0] if named else _describe(arguments[0])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        parts = [_describe(argument) for argument in arguments]
        return " | ".join([part for part in parts if part != "null"] + [part for part in parts if part == "null"])
    if origin is list:
        return f"list of {_describe(arguments[0])}"
    if origin is dict:
        return f"mapping to {_describe(arguments[1])}"
    if kind is type(None):
        return "null"
    return PLAIN.get(kind, "block")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        return "that of its keys"
    return json.dumps(value, ensure_ascii=False, default=str)


def _docstring(block: type[BaseModel]) -> str:
    first = (block.__doc__ or "").strip().partition("\n\n")[0]
    return " ".join(first.split()).rstrip(".")
