"""A recipe's matrix: its steps repeated over values, each only over what it depends on.

    matrix: {seed: [0, 1]}
    steps:
      - {name: vocab, …}                                             vocab: made once
      - {name: base, set: {seed: "${matrix.seed}"}, …}               base-seed-0, base-seed-1
      - {name: eval, set: {model: "${steps.base.output}"}, …}        eval-seed-0, eval-seed-1, each of its own base

A step depends on the names that it mentions as `${matrix.NAME}`, and on those of the steps that it reads.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bllossom.errors import ConfigError

Values = Mapping[str, Sequence[Any]]
Choice = dict[str, Any]  # one value for each name

MATRIX = re.compile(r"\$\{matrix\.([^}]*)\}")
STEP = re.compile(r"\$\{steps\.([^}.]*)\.output\}")


def expand(matrix: Values, steps: Sequence[Mapping[str, Any]]) -> list[tuple[Choice, dict[str, Any]]]:
    """Each step, or each copy of it, in order, with the choice of values that it stands for.

    A step is a mapping with `name` and `set`, as the recipe has it.

    Raises:
        ConfigError: a name of the matrix is used by no step, or a step uses one that is not there.
    """
    depends: dict[str, list[str]] = {}
    for step in steps:
        depends[step["name"]] = _dependencies(step, matrix, depends)
    unused = [name for name in matrix if not any(name in names for names in depends.values())]
    if unused:
        raise ConfigError(f"matrix.{unused[0]}: no step uses ${{matrix.{unused[0]}}}; use it, or leave it out")
    expanded = []
    for step in steps:
        for choice in _choices(matrix, depends[step["name"]]):
            copy = dict(step) | {"name": named(step["name"], choice), "set": _put_in(step["set"], choice, depends)}
            expanded.append((choice, copy))
    return expanded


def named(step: str, choice: Choice) -> str:
    """The name of a step's copy: `base-seed-0`. Letters and digits of the values stay, all else becomes a dash."""
    parts = [step, *(f"{name}-{value}" for name, value in choice.items())]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def chosen(choice: Choice, only: Mapping[str, Sequence[str]]) -> bool:
    """Whether a copy is among those asked for: `{"seed": ["0"]}`. What does not depend on a name always is."""
    return all(name not in choice or _typed(choice[name]) in values for name, values in only.items())


def steps_read(values: Any) -> frozenset[str]:
    """The steps whose output is named in these values."""
    return frozenset(name for text in strings(values) for name in STEP.findall(text))


def read_only(texts: Sequence[str], matrix: Values) -> dict[str, list[str]]:
    """`NAME=VALUE[,VALUE…]` as typed after --only.

    Raises:
        ConfigError: there is no such name, or no such value.
    """
    only: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or name not in matrix:
            raise ConfigError(f"--only {text}: should be NAME=VALUE; the matrix has {', '.join(matrix) or 'no names'}")
        known = [_typed(value) for value in matrix[name]]
        asked = [values] if values in known else values.split(",")  # a value may hold a comma
        if unknown := [value for value in asked if value not in known]:
            raise ConfigError(f"--only {text}: {name} has no {unknown[0]}; it has {', '.join(known)}")
        only.setdefault(name, []).extend(asked)
    return only


def _typed(value: Any) -> str:
    """A value as it is typed: YAML's true, not Python's."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _dependencies(step: Mapping[str, Any], matrix: Values, before: Mapping[str, list[str]]) -> list[str]:
    texts = list(strings(step["set"]))
    own = {name for text in texts for name in MATRIX.findall(text)}
    if unknown := sorted(own - matrix.keys()):
        raise ConfigError(
            f"step {step['name']}: there is no matrix.{unknown[0]}; the matrix has {', '.join(matrix) or 'no names'}"
        )
    read = {name for text in texts for other in STEP.findall(text) for name in before.get(other, ())}
    return [name for name in matrix if name in own | read]


def _choices(matrix: Values, names: Sequence[str]) -> Iterator[Choice]:
    for values in itertools.product(*(matrix[name] for name in names)):
        yield dict(zip(names, values, strict=True))


def _put_in(value: Any, choice: Choice, depends: Mapping[str, Sequence[str]]) -> Any:
    """The value with what `${matrix…}` stands for, and with the names of the copies that go with this choice."""
    if isinstance(value, Mapping):
        return {key: _put_in(item, choice, depends) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_in(item, choice, depends) for item in value]
    if not isinstance(value, str):
        return value
    if whole := MATRIX.fullmatch(value):
        return choice[whole[1]]  # keeps its type: a seed is a number

    def step_output(match: re.Match[str]) -> str:
        mine = {name: choice[name] for name in depends.get(match[1], ())}
        return f"${{steps.{named(match[1], mine)}.output}}" if mine else match[0]

    return STEP.sub(step_output, MATRIX.sub(lambda match: _typed(choice[match[1]]), value))


def strings(value: Any) -> Iterator[str]:
    """Every text in a value of YAML, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
