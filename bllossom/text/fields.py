"""Field paths: where the text is in a record of nested JSON."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bllossom.errors import BllossomError


class FieldError(ValueError):
    """The record is well formed, but has no text at the field path."""


@dataclass(frozen=True)
class Each:
    """A `[]` or `[+]` of a field path: every element of a list, on its own or joined by newlines into one text."""

    joined: bool


def parse_field(field: str) -> list[str | Each]:
    """Split a field path: `text`, `meta.body`, `data[].paragraphs[].context`, `documents[].text[+][+].sentence`.

    `[]` makes each element of a list a document of its own; `[+]` joins the elements into one text, a line each.
    """
    steps: list[str | Each] = []
    for part in field.split("."):
        match = re.fullmatch(r"([^\[\]]*)((?:\[\+?\])*)", part)
        if match is None or not (match[1] or match[2]):
            raise BllossomError(f"field {field!r} is not a field path; write it like text, a.b, list[].text or a[+].b")
        steps += [match[1]] if match[1] else []
        steps += [Each(joined=bracket == "[+]") for bracket in re.findall(r"\[\+?\]", match[2])]
    return steps


def extract(value: Any, steps: list[str | Each]) -> Iterator[str]:
    """Give the texts at a parsed field path; null is an empty text.

    Raises:
        FieldError: there is no such field (its message lists those there are), or it holds no text.
    """
    if not steps:
        if value is not None and not isinstance(value, str):
            raise FieldError(f"the field holds {kind_of(value)}, not text")
        yield value or ""
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, Each):
        if not isinstance(value, list):
            raise FieldError(f"the field path has [] where there is {kind_of(value)}, not a list")
        texts = (text for element in value for text in extract(element, rest))
        if step.joined:
            yield "\n".join(texts)
        else:
            yield from texts
    elif not isinstance(value, dict):
        raise FieldError(f"{step!r} cannot be looked up in {kind_of(value)}; set field to a path like list[].{step}")
    elif step not in value:
        raise FieldError(f"no field {step!r}; there are: {', '.join(map(str, value))}; set field to one of them")
    else:
        yield from extract(value[step], rest)


def kind_of(value: Any) -> str:
    """What a JSON value is, in words: `an object`, `a list`, …"""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
