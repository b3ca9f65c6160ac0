"""Field paths: where the text is in a record of nested JSON.

    text   meta.body   SJML\\.text (a dot within a key)
    data[].context       each element of a list a document;   data[+].context    all joined into one, a line each
    entries{}.text       each value of an object, whatever its keys;   entries{+}.text

Where a source has several paths, their texts are joined into one document, a line each.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bllossom.errors import BllossomError

PART = re.compile(r"((?:[^\[\]{}\\]|\\.)*)((?:\[\+?\]|\{\+?\})*)")
DOT = re.compile(r"(?<!\\)((?:\\\\)*)\.")  # but one behind a backslash that is none itself
KEYS_TOLD = 12  # of a record that lacks a field: those of an object keyed by ids could be thousands
IDENTITIES = ("id", "_id", "doc_id", "document_id")  # keys that a document's own name is under


class FieldError(ValueError):
    """The record is well formed, but has no text at the field path."""


@dataclass(frozen=True)
class Each:
    """A `[]`, `[+]`, `{}` or `{+}` of a field path: every element, on its own or joined by newlines into one text."""

    joined: bool
    of_object: bool = False


Steps = list[str | Each]


def parse_field(field: str) -> Steps:
    """Split a field path into its steps.

    Raises:
        BllossomError: it is none.
    """
    steps: Steps = []
    for part in DOT.sub("\\1\0", field).split("\0"):
        match = PART.fullmatch(part)
        if match is None or not (match[1] or match[2]):
            raise BllossomError(
                f"field {field!r} is not a field path; write it like text, a.b, list[].text, a[+].b or ids{{}}.text"
            )
        steps += [re.sub(r"\\(.)", r"\1", match[1])] if match[1] else []
        steps += [Each("+" in each, each[0] == "{") for each in re.findall(r"\[\+?\]|\{\+?\}", match[2])]
    return steps


def written(steps: Sequence[str | Each]) -> str:
    """The field path of these steps."""
    path = ""
    for step in steps:
        if isinstance(step, Each):
            plus = "+" * step.joined
            path += f"{{{plus}}}" if step.of_object else f"[{plus}]"
        else:
            path += "." * bool(path) + re.sub(r"([.\\\[\]{}])", r"\\\1", step)
    return path


class Documents(NamedTuple):
    """What a record gives: a text and a name for each document, and what became of the others."""

    texts: tuple[str, ...]
    ids: tuple[str, ...]
    errors: tuple[str, ...]
    missing: int  # documents without the field, or with null there; 0 unless these are skipped


def documents_of(value: Any, fields: Sequence[Steps], *, skip_missing: bool = False) -> Documents:
    """The documents of a record; one that is broken leaves the others alone.

    Of several fields the n-th document of each are joined. One that lacks the field is an error, unless
    `skip_missing`; null is an empty text then, and among several fields adds nothing.
    """
    texts, ids, errors, missing = [], [], [], 0
    branches = [list(_branches(value, steps, (), identity_of(value))) for steps in fields]
    if len(counts := {len(mine) for mine in branches}) > 1:
        why = f"its fields give {' and '.join(map(str, sorted(counts)))} texts; name fields that stand side by side"
        return Documents((), (), (why,), 0)
    for found in zip(*branches, strict=True):
        try:
            parts = [
                part
                for inner, steps, above, _ in found
                for part in extract(inner, steps, above, skip_missing=skip_missing)
            ]
        except FieldError as error:
            errors.append(str(error))
            continue
        if not parts:
            missing += 1
            continue
        texts.append(parts[0] if len(parts) == 1 else "\n".join(filter(None, parts)))
        ids.append(found[0][3])
    return Documents(tuple(texts), tuple(ids), tuple(errors), missing)


def identity_of(value: Any) -> str:
    """What a record calls itself; empty where it has no name."""
    if isinstance(value, dict):
        for key in IDENTITIES:
            name = value.get(key)
            if isinstance(name, str | int):
                return str(name)
    return ""


Branch = tuple[Any, Steps, tuple[str | Each, ...], str]  # a value, the steps left, those taken, the document's name


def _branches(value: Any, steps: Steps, above: tuple[str | Each, ...], identity: str) -> Iterator[Branch]:
    """Follow a field path to its first `[]` or `{}`, and on into each element: a document each."""
    at = next((at for at, step in enumerate(steps) if isinstance(step, Each)), len(steps))
    if at == len(steps) or steps[at].joined:  # type: ignore[union-attr]
        yield value, steps, above, identity
        return
    inner = value
    for place, step in enumerate(steps[:at]):
        if not isinstance(inner, dict) or step not in inner:
            yield inner, steps[place:], (*above, *steps[:place]), identity  # extract says what is wrong
            return
        inner = inner[str(step)]
    taken = (*above, *steps[:at])
    each = steps[at]
    assert isinstance(each, Each)
    if not isinstance(inner, dict if each.of_object else list):
        yield inner, steps[at:], taken, identity
        return
    for name, element in _elements(inner, each):
        own = identity_of(element) or name or identity
        yield from _branches(element, steps[at + 1 :], (*taken, each), own)


def _elements(container: Any, each: Each) -> Iterator[tuple[str, Any]]:
    yield from container.items() if each.of_object else (("", element) for element in container)


def extract(
    value: Any, steps: Steps, above: tuple[str | Each, ...] = (), *, skip_missing: bool = False
) -> Iterator[str]:
    """Give the texts at a parsed field path; null is an empty text. `above` are steps already taken, for messages.

    With `skip_missing` what is not there, or null, gives nothing.

    Raises:
        FieldError: there is no such field (its message lists those there are), or it holds no text.
    """
    if value is None and skip_missing:
        return
    if not steps:
        if value is not None and not isinstance(value, str):
            raise FieldError(f"the field holds {kind_of(value)}, not text")
        yield value or ""
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, Each):
        _check_container(value, steps, above)
        parts = (
            text
            for _, element in _elements(value, step)
            for text in extract(element, rest, (*above, step), skip_missing=skip_missing)
        )
        if not step.joined:
            yield from parts
        elif (joined := list(parts)) or not skip_missing:
            yield "\n".join(joined)
    elif not isinstance(value, dict):
        raise _not_an_object(value, steps, above)
    elif step in value:
        yield from extract(value[step], rest, (*above, step), skip_missing=skip_missing)
    elif not skip_missing:
        raise _no_field(value, steps, above)


def _check_container(value: Any, steps: Steps, above: tuple[str | Each, ...]) -> None:
    each = steps[0]
    assert isinstance(each, Each)
    if isinstance(value, dict if each.of_object else list):
        return
    mark = written([each])
    if isinstance(value, dict | list):
        other = [*above, Each(each.joined, not each.of_object), *steps[1:]]
        raise FieldError(f"the field path has {mark} where there is {kind_of(value)}; set field to {written(other)}")
    wanted = "an object" if each.of_object else "a list"
    raise FieldError(f"the field path has {mark} where there is {kind_of(value)}, not {wanted}")


def _not_an_object(value: Any, steps: Steps, above: tuple[str | Each, ...]) -> FieldError:
    if isinstance(value, list):
        problem = f"{steps[0]!r} cannot be looked up in a list; "
        each = Each(joined=False)
        # The whole path for each element, or what follows where its first step stood for the list.
        for tried in ([each, *steps], [each, *steps[2 if len(steps) > 1 and isinstance(steps[1], Each) else 1 :]]):
            with contextlib.suppress(FieldError):
                list(extract(value[:1], tried))
                return FieldError(f"{problem}set field to {written([*above, *tried])}")
        keys = list(value[0])[:KEYS_TOLD] if value and isinstance(value[0], dict) else []
        told = f"its elements have: {', '.join(keys)}; " if keys else ""
        return FieldError(f"{problem}{told}set field to {written([*above, each])}, and behind it where the text is")
    return FieldError(f"{steps[0]!r} cannot be looked up in {kind_of(value)}; set field to where the text is")


def _no_field(value: dict[str, Any], steps: Steps, above: tuple[str | Each, ...]) -> FieldError:
    step = steps[0]
    keys = [str(key) for key in value]
    more = f", … ({len(keys):,} in all)" if len(keys) > KEYS_TOLD else ""
    problem = f"no field {step!r}; there are: {', '.join(keys[:KEYS_TOLD])}{more}; "
    if dotted := [key for key in keys if key.startswith(f"{step}.")]:
        return FieldError(f"{problem}a dot within a key is written as {written([*above, dotted[0]])}")
    if keys and all(isinstance(inner, dict) and step in inner for inner in value.values()):
        return FieldError(f"{problem}set field to {written([*above, Each(False, of_object=True), *steps])}")
    return FieldError(f"{problem}set field to one of them")


def kind_of(value: Any) -> str:
    """What a JSON value is, in words: `an object`, `a list`, …"""
    names = {
        bytes: "bytes that are not UTF-8",
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        type(None): "null",
    }
    return names.get(type(value), "a number")
