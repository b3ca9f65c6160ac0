"""A config's YAML with the line of every key, what is set on top of it, and its interpolations."""

import itertools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bllossom.errors import ConfigError

INTERPOLATION = re.compile(r"\$\{([^}]*)\}")

Location = tuple[str | int, ...]
Lines = dict[Location, str]


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines, list[str]]:
    """Read a YAML mapping; also give `file:line` of every key, and the keys that stand twice."""
    try:
        text = path.read_text(encoding="utf8")
        raw = parse(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; name a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        why = " ".join(str(getattr(error, "problem", error)).split())
        raise ConfigError(f"{where}: is not YAML: {why}") from error
    if root is None:
        return {}, {}, []
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}:1: should be a mapping of keys to values")
    lines: Lines = {}
    problems: list[str] = []
    _walk(root, (), path, lines, problems)
    return raw, lines, problems


def parse(text: str) -> Any:
    """The value that a text of YAML stands for.

    Raises:
        yaml.YAMLError: it is none, or a value of it is none: the 45th of a month, a list that holds itself.
    """
    try:
        value = yaml.safe_load(text)
    except (ValueError, RecursionError) as error:
        raise yaml.YAMLError(str(error).partition(";")[0]) from error
    return _unshared(value, ())


def _unshared(value: Any, around: tuple[int, ...]) -> Any:
    """The value with what an anchor names copied to each place, so that a key set in one of them stays there."""
    if not isinstance(value, dict | list):
        return value
    if id(value) in around:
        raise yaml.YAMLError("what an anchor (&) names holds itself")
    inside = (*around, id(value))
    if isinstance(value, dict):
        return {key: _unshared(item, inside) for key, item in value.items()}
    return [_unshared(item, inside) for item in value]


def _walk(node: yaml.Node, location: Location, path: Path, lines: Lines, problems: list[str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place, child = f"{path}:{key.start_mark.line + 1}", (*location, key.value)
            if child in lines:
                problems.append(f"{place}: {dotted(child)}: stands twice (first at {lines[child]})")
            lines[child] = place
            _walk(value, child, path, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*location, index)] = f"{path}:{value.start_mark.line + 1}"
            _walk(value, (*location, index), path, lines, problems)


def set_value(raw: Any, key: str, value: Any, lines: Lines, origin: str, problems: list[str]) -> None:
    """Set a dotted key, making the blocks on the way; what cannot be reached is a problem of `origin`."""
    location: Location = tuple(int(part) if part.isdecimal() else part for part in key.split("."))
    parent = raw
    for part, following in itertools.pairwise(location):
        if isinstance(parent, dict) and not isinstance(parent.get(part), dict | list) and isinstance(following, str):
            parent[part] = {}
        try:
            parent = parent[part]
        except (KeyError, IndexError, TypeError):
            problems.append(f"{origin}: {key}: there is no {part!r} to reach into")
            return
    try:
        parent[location[-1]] = value
    except (IndexError, TypeError):
        problems.append(f"{origin}: {key}: there is no {location[-1]!r} to set")
        return
    for stale in [known for known in lines if known[: len(location)] == location]:
        del lines[stale]
    lines[location] = origin


@dataclass(frozen=True)
class Interpolation:
    """Replaces `${steps.NAME.output}` and `${env.NAME}`; the others are problems. `steps` is None outside a recipe."""

    path: Path
    lines: Lines
    steps: Mapping[str, Path] | None
    keep_steps: bool
    problems: list[str]

    def apply(self, value: Any, location: Location) -> Any:
        """The value with every `${…}` in its strings replaced."""
        if isinstance(value, dict):
            return {self._key(key, location): self.apply(item, (*location, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.apply(item, (*location, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        return INTERPOLATION.sub(lambda match: self._replace(match, location), value)

    def _key(self, key: Any, location: Location) -> str:
        if not isinstance(key, str):
            place = place_of(location, self.lines, self.path)
            where = f"{dotted(location)}: " if location else ""
            value = json.dumps(key, default=str)
            self.problems.append(f"{place}: {where}YAML reads a key as {value}; put it in quotes")
        return str(key)

    def _replace(self, match: re.Match[str], location: Location) -> str:
        name, otherwise, default = match[1].partition(":-")
        step = name.removeprefix("steps.").removesuffix(".output")
        if name.startswith("env."):
            if (found := os.environ.get(name[4:])) or otherwise:  # as in a shell: for what is empty, too
                value = found or default
                if not any("\ud800" <= character <= "\udfff" for character in value):
                    return value
                why = f"the environment variable {name[4:]} is not UTF-8; go to the folder, and type what is in it"
            else:
                why = f"the environment variable {name[4:]} is not set"
        elif self.keep_steps:
            return match[0]
        elif self.steps is None:
            why = "only ${env.NAME} can be used outside a recipe"
        elif name == f"steps.{step}.output" and step in self.steps:
            return str(self.steps[step])
        else:
            why = "should be ${env.NAME} or ${steps.NAME.output} of an earlier step: " + ", ".join(self.steps)
        place = place_of(location, self.lines, self.path)
        self.problems.append(f"{place}: {dotted(location)}: {match[0]}: {why}")
        return match[0]


def dotted(location: Location) -> str:
    """A location as it is typed."""
    return ".".join(map(str, location))


def place_of(location: Location, lines: Lines, path: Path) -> str:
    """The `file:line` of a key, or of the nearest block around it."""
    for length in range(len(location), 0, -1):
        if location[:length] in lines:
            return lines[location[:length]]
    return str(path)
