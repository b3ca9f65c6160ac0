"""The strict base of every config: one YAML file plus `key=value`, and all its errors at once.

    configs/demo/merge-vocab.yaml:3: donor_filtre: unknown key (did you mean donor_filter?)
    configs/demo/merge-vocab.yaml:5: expected_size: should be a valid integer (got 'many')
    command line: donor: no such file or folder: runs/donor

Paths are relative to the folder the command is typed in. The only interpolations are `${steps.NAME.output}` (in a
recipe), `${env.NAME}` and `${env.NAME:-default}`.
"""

import difflib
import itertools
import os
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from bllossom.errors import ConfigError
from bllossom.paths import there

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
HUB_DATASETS = "hf://datasets/"
INTERPOLATION = re.compile(r"\$\{([^}]*)\}")


class Model(BaseModel):
    """A strict block of a config: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class StageConfig(Model):
    """What every stage's config has."""

    execution_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys that say how the stage runs and not what it makes: with other values it finds the same partial folder."""
    mending_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys that change the result, yet with which an unfinished run may go on: a published one is another then."""

    output: Annotated[Path, Field(description="the folder to publish; it appears whole or not at all")]


@dataclass(frozen=True)
class AddedIn:
    """In an Annotated type: manifests before this format do not know the key, whose default gives what they had."""

    manifest_format: int


def is_hub_id(source: str) -> bool:
    """True for `owner/name` where no such path exists here, and for `hf://datasets/owner/name/folder`, one folder of a
    data set: something to be fetched from the hub."""
    if source.startswith(HUB_DATASETS):
        return True
    return HUB_ID.fullmatch(source) is not None and not Path(source).exists()


def _note_if_missing(path: str, info: ValidationInfo, hub_allowed: bool) -> None:
    # Without a context (a config made in Python) the stage itself meets the missing file, and says so.
    # An interpolation that failed has been told already.
    if not isinstance(info.context, MissingInputs) or INTERPOLATION.search(path) or Path(path).exists():
        return
    if hub_allowed and is_hub_id(path):
        info.context.found.append(f"{path}: not here; to be fetched from the hub")
    elif info.context.allowed or any(Path(path).is_relative_to(step) for step in info.context.expected):
        info.context.found.append(f"{path}: not here yet")
    else:
        raise PydanticCustomError("missing_input", "no such file or folder: {path}", {"path": path})


def _check_path(path: Path, info: ValidationInfo) -> Path:
    _note_if_missing(str(path), info, hub_allowed=False)
    return path


def _check_glob(pattern: str, info: ValidationInfo) -> str:
    if not there(pattern):
        _note_if_missing(pattern, info, hub_allowed=False)
    return pattern


def _check_text_source(pattern: str, info: ValidationInfo) -> str:
    if not there(pattern):
        _note_if_missing(pattern, info, hub_allowed=True)
    return pattern


def _check_source(source: str, info: ValidationInfo) -> str:
    _note_if_missing(source, info, hub_allowed=True)
    return source


InputPath = Annotated[Path, AfterValidator(_check_path)]
"""A file or folder that must be there when the stage runs; a dry run lists it as not here yet."""

Source = Annotated[str, AfterValidator(_check_source)]
"""A file or folder that is there, or a hub id `owner/name`."""

InputGlob = Annotated[str, AfterValidator(_check_glob)]
"""A file, a folder or a glob that matches something when the stage runs."""

TextSource = Annotated[str, AfterValidator(_check_text_source)]
"""A file, a folder or a glob that matches something, or a hub data set: `owner/name`, `hf://datasets/owner/name/folder`."""

Config = TypeVar("Config", bound=Model)


@dataclass
class MissingInputs:
    """What validation does about inputs that are not there: refuse them, or list them (`allowed`, `expected`)."""

    allowed: bool = False
    expected: Sequence[Path] = ()  # outputs of earlier steps of a recipe
    found: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Loaded(Generic[Config]):
    """A config and the inputs it names that are not here (yet)."""

    config: Config
    missing: list[str]


def load_config(
    kind: type[Config],
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    values: Mapping[str, Any] | None = None,
    steps: Mapping[str, Path] | None = None,
    keep_steps: bool = False,
    allow_missing: bool = False,
) -> Loaded[Config]:
    """Read `path` as a `kind`, with `values` (dotted keys) and then `overrides` (`dotted.key=yaml`) on top.

    Without a `path` these are all there is.

    `steps` are the outputs of a recipe's earlier steps: they may be interpolated, and need not be there yet.
    `keep_steps` leaves `${steps…}` as it stands: for the recipe itself, whose steps are read one after the other.

    Raises:
        ConfigError: holds every problem: YAML syntax, unknown or double keys, wrong types, inputs that are not there.
    """
    raw, lines, problems = ({}, {}, []) if path is None else _read_yaml(path)
    path = path or Path("command line")
    for key, value in (values or {}).items():
        _set(raw, key, value, lines, "the recipe", problems)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            problems.append(f"command line: {override}: should be key=value")
            continue
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            problems.append(f"command line: {key}: {text!r} is not YAML")
            continue
        _set(raw, key, value, lines, "command line", problems)
    raw = _Interpolation(path, lines, steps, keep_steps, problems).apply(raw, ())
    missing = MissingInputs(allowed=allow_missing, expected=list((steps or {}).values()))
    try:
        config = kind.model_validate(raw, context=missing)
    except ValidationError as error:
        problems += [_describe(kind, problem, lines, path) for problem in error.errors()]
    if problems:
        raise ConfigError(problems)
    return Loaded(config, missing.found)


Location = tuple[str | int, ...]
Lines = dict[Location, str]


def _read_yaml(path: Path) -> tuple[dict[str, Any], Lines, list[str]]:
    """Read a YAML mapping; also give `file:line` of every key, and the keys that stand twice."""
    try:
        text = path.read_text(encoding="utf8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a YAML file with --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; name a YAML file with --config") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: is not YAML: {getattr(error, 'problem', error)}") from error
    if root is None:
        return {}, {}, []
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}:1: should be a mapping of keys to values")
    lines: Lines = {}
    problems: list[str] = []
    _walk(root, (), path, lines, problems)
    return raw, lines, problems


def _walk(node: yaml.Node, location: Location, path: Path, lines: Lines, problems: list[str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            where, child = f"{path}:{key.start_mark.line + 1}", (*location, key.value)
            if child in lines:
                problems.append(f"{where}: {_dotted(child)}: stands twice (first at {lines[child]})")
            lines[child] = where
            _walk(value, child, path, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*location, index)] = f"{path}:{value.start_mark.line + 1}"
            _walk(value, (*location, index), path, lines, problems)


def _set(raw: Any, key: str, value: Any, lines: Lines, origin: str, problems: list[str]) -> None:
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
class _Interpolation:
    path: Path
    lines: Lines
    steps: Mapping[str, Path] | None
    keep_steps: bool
    problems: list[str]

    def apply(self, value: Any, location: Location) -> Any:
        """The value with every `${…}` in its strings replaced."""
        if isinstance(value, dict):
            return {key: self.apply(item, (*location, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.apply(item, (*location, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        return INTERPOLATION.sub(lambda match: self._replace(match, location), value)

    def _replace(self, match: re.Match[str], location: Location) -> str:
        name, _, default = match[1].partition(":-")
        step = name.removeprefix("steps.").removesuffix(".output")
        if name.startswith("env."):
            if found := os.environ.get(name[4:], default):
                return found
            why = f"the environment variable {name[4:]} is not set"
        elif self.keep_steps:
            return match[0]
        elif self.steps is None:
            why = "only ${env.NAME} can be used outside a recipe"
        elif name == f"steps.{step}.output" and step in self.steps:
            return str(self.steps[step])
        else:
            why = "should be ${env.NAME} or ${steps.NAME.output} of an earlier step: " + ", ".join(self.steps)
        where = _where(location, self.lines, self.path)
        self.problems.append(f"{where}: {_dotted(location)}: {match[0]}: {why}")
        return match[0]


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))


def _where(location: Location, lines: Lines, path: Path) -> str:
    for length in range(len(location), 0, -1):
        if location[:length] in lines:
            return lines[location[:length]]
    return str(path)


def _describe(kind: type[Model], problem: Any, lines: Lines, path: Path) -> str:
    location: Location = problem["loc"]
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(str(location[-1]), _keys_at(kind, location[:-1]), n=1)
        text = f"unknown key (did you mean {nearest[0]}?)" if nearest else "unknown key"
    elif problem["type"] == "missing":
        text = "is missing"
    elif problem["type"] in ("missing_input", "value_error"):
        text = problem["msg"].removeprefix("Value error, ")
    else:
        text = f"{problem['msg'].removeprefix('Input ')} (got {problem['input']!r})"
    return f"{_where(location, lines, path)}: {_dotted(location) or 'the config'}: {text}"


def _keys_at(kind: Any, location: Location) -> list[str]:
    """The keys that the block at `location` knows, found by walking the annotations of `kind`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if not location:
            return list(kind.model_fields)
        if location[0] in kind.model_fields:
            return _keys_at(kind.model_fields[str(location[0])].annotation, location[1:])
        return []
    arguments = typing.get_args(kind)
    inside_container = typing.get_origin(kind) in (list, tuple, dict)
    rest = location[1:] if inside_container and location else location
    return [key for argument in arguments for key in _keys_at(argument, rest)]
