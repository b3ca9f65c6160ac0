"""The strict base of every config: one YAML file plus `key=value`, and all its errors at once.

    configs/demo/merge-vocab.yaml:3: donor_filtre: unknown key (did you mean donor_filter?)
    configs/demo/merge-vocab.yaml:5: expected_size: should be a valid integer (got 'many')
    command line: donor: no such file or folder: runs/donor

Paths are relative to the folder the command is typed in; `~` is the home folder. The only interpolations are
`${steps.NAME.output}` (in a recipe), `${env.NAME}` and `${env.NAME:-default}`.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError, PydanticSerializationUnexpectedValue

from bllossom.errors import ConfigError
from bllossom.hub import is_hub_id
from bllossom.keys import TypeName, elements_of, known_at, takes, takes_bool, typed_location
from bllossom.paths import as_composed_here, there
from bllossom.yaml_text import (
    INTERPOLATION,
    Interpolation,
    Lines,
    Location,
    dotted,
    parse,
    place_of,
    read_yaml,
    set_value,
)

SHELL_VARIABLE = re.compile(r"\$([A-Za-z_]\w*)")
QUANTITY = re.compile(r"([+-]?[\d_]*\.?\d+(?:[eE][+-]?\d{1,2})?)\s*([KMGBT]?|[kKMGT]B|[KMGT]iB)")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
UNITS |= {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
WITHOUT_PATHS = "without paths"
VALUE_CHARACTERS = 80  # of a value that is no YAML, as it is told


class Model(BaseModel):
    """A strict block of a config: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read_quantities(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, list) and (elements := elements_of(kind)):
            return [_with_integers(item, elements) for item in value]
        return _with_integers(value, [kind])


def _with_integers(value: Any, kinds: Sequence[Any]) -> Any:
    numbers = any(takes(kind, int) or takes(kind, float) for kind in kinds)
    if isinstance(value, bool) and numbers and not any(map(takes_bool, kinds)):
        raise ValueError(f"should be a number (got {value}, which YAML reads yes, no, on and off as, too)")
    wanted = any(takes(kind, int) for kind in kinds) and not any(takes(kind, str) for kind in kinds)
    return as_integer(value) if isinstance(value, str) and wanted else value


def as_integer(text: str) -> int | str:
    """The whole number that `1e4`, `10B` (10 billion) or `64MB` stands for; anything else as it is."""
    found = QUANTITY.fullmatch(text)
    if found is None:
        return text
    number = Fraction(found[1].replace("_", "")) * UNITS[found[2]]
    return int(number) if number == int(number) else text


class StageConfig(Model):
    """What every stage's config has."""

    execution_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys that say how the stage runs and not what it makes: with other values it finds the same partial folder."""
    mending_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys that change the result, yet with which an unfinished run may go on: a published one is another then."""

    output: Annotated[
        Path,
        AfterValidator(lambda path: _own_folder(expand_path(path))),
        TypeName("folder"),
        Field(description="the folder to publish; it appears whole or not at all"),
    ]

    def result_settings(self, *, mending: bool = False, paths: bool = False) -> dict[str, Any]:
        """What decides the result, with `mending` the mending_keys too. Without `paths`, each that is an input by its
        type is None: what counts of an input is its contents."""
        left_out = {"output", *self.execution_keys, *(() if mending else self.mending_keys)}
        return self.model_dump(mode="json", exclude=left_out, context=None if paths else WITHOUT_PATHS)


@dataclass(frozen=True)
class AddedIn:
    """In an Annotated type: manifests before this format do not know the key, whose default gives what they had."""

    manifest_format: int


def _note_if_missing(path: str, info: ValidationInfo, hub_allowed: bool) -> None:
    # Without a context (a config made in Python) the stage itself meets the missing file, and says so.
    # An interpolation that failed has been told already.
    if not isinstance(info.context, MissingInputs) or INTERPOLATION.search(path) or Path(path).exists():
        return
    if any(Path(path).is_relative_to(step) for step in info.context.expected):
        info.context.found.append(f"{path}: not here yet")
        info.context.awaited.append(path)
    elif hub_allowed and is_hub_id(path):
        info.context.found.append(f"{path}: not here; to be fetched from the hub")
    elif info.context.allowed:
        info.context.found.append(f"{path}: not here yet")
    else:
        raise PydanticCustomError("missing_input", "no such file or folder: {path}", {"path": path})


def expand_path(path: Path | str) -> Path:
    """A path with its `~`, which shells leave alone behind a `=`, and its names as the disk composes them."""
    if (variable := SHELL_VARIABLE.search(str(path))) and not Path(path).exists():
        raise ValueError(f"{path}: a variable of the environment is written ${{env.{variable[1]}}}")
    try:
        return as_composed_here(Path(path).expanduser())
    except RuntimeError as error:
        raise ValueError(f"{path}: whose home that is cannot be told; write the path out") from error


def named_path(path: Path | str) -> Path:
    """The same, of what is named outside of a config's paths.

    Raises:
        ConfigError: whose home its `~` is cannot be told, or it has a variable as shells write it.
    """
    try:
        return expand_path(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _own_folder(output: Path) -> Path:
    """Refuse the folder that the command is typed in and those around it: publishing renames the whole folder."""
    try:
        resolved = output.resolve()
    except RuntimeError as error:
        raise ValueError(f"{output} is a link to itself; remove it, or name another folder") from error
    if Path.cwd().is_relative_to(resolved):
        raise ValueError(f"{output} is the folder you are in, or holds it; name a folder of its own, as runs/{{stage}}")
    return output


def _check_path(path: Path, info: ValidationInfo) -> Path:
    path = expand_path(path)
    _note_if_missing(str(path), info, hub_allowed=False)
    return path


def _check_glob(pattern: str, info: ValidationInfo, hub_allowed: bool = False) -> str:
    pattern = str(expand_path(pattern)) if pattern.startswith("~") or "$" in pattern else pattern
    if not there(pattern):
        _note_if_missing(pattern, info, hub_allowed)
    return pattern


def _check_text_source(source: str, info: ValidationInfo) -> str:
    return _check_glob(source, info, hub_allowed=True)


def _check_source(source: str, info: ValidationInfo) -> str:
    source = _check_glob(source, info, hub_allowed=True)
    return source if is_hub_id(source) else str(expand_path(source))


def _as_text(path: Path | str, info: SerializationInfo) -> str | None:
    if not isinstance(path, Path | str):  # another member of a union
        raise PydanticSerializationUnexpectedValue
    return None if info.context == WITHOUT_PATHS else str(path)


_serialised = PlainSerializer(_as_text, when_used="json")

InputPath = Annotated[Path, AfterValidator(_check_path), _serialised, TypeName("path")]
"""A file or folder that must be there when the stage runs; a dry run lists it as not here yet."""

OutputPath = Annotated[Path, AfterValidator(expand_path)]
"""A file or folder that a command writes, and that need not be there: beside a stage's output, or around all steps'."""

Source = Annotated[str, AfterValidator(_check_source), _serialised, TypeName("path or hub id")]
"""A file or folder that is there, or a hub id `owner/name` or `owner/name@revision`."""

InputGlob = Annotated[str, AfterValidator(_check_glob), _serialised, TypeName("path or glob")]
"""A file, a folder or a glob that matches something when the stage runs."""

TextSource = Annotated[str, AfterValidator(_check_text_source), _serialised, TypeName("path, glob or hub id")]
"""A file, a folder or a glob that matches something, or a hub data set: `owner/name`, `hf://datasets/owner/name/folder`."""

Config = TypeVar("Config", bound=Model)


@dataclass
class MissingInputs:
    """What validation does about inputs that are not there: refuse them, or list them (`allowed`, `expected`)."""

    allowed: bool = False
    expected: Sequence[Path] = ()  # outputs of earlier steps of a recipe
    found: list[str] = field(default_factory=list)
    awaited: list[str] = field(default_factory=list)  # paths of what is expected


@dataclass(frozen=True)
class Loaded(Generic[Config]):
    """A config, the inputs it names that are not here (yet), as people are told, and those that earlier steps make."""

    config: Config
    missing: list[str]
    awaited: list[str] = field(default_factory=list)


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
    raw, lines, problems = ({}, {}, []) if path is None else read_yaml(path)
    path = path or Path("command line")
    for key, value in (values or {}).items():
        set_value(raw, key, value, lines, "the recipe", problems)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            problems.append(f"command line: {override}: should be key=value")
            continue
        try:
            value = parse(text)
        except yaml.YAMLError as error:
            why = getattr(error, "problem", None) or error
            problems.append(f"command line: {key}: {_beginning(text)!r} is not YAML ({why})")
            continue
        set_value(raw, key, value, lines, "command line", problems)
    raw = Interpolation(path, lines, steps, keep_steps, problems).apply(raw, ())
    missing = MissingInputs(allowed=allow_missing, expected=list((steps or {}).values()))
    try:
        config = kind.model_validate(raw, context=missing)
    except ValidationError as error:
        problems += _describe_all(kind, error.errors(), raw, lines, path)
    if problems:
        raise ConfigError(problems)
    return Loaded(config, missing.found, missing.awaited)


def _beginning(text: str) -> str:
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}…"


def _describe_all(kind: type[Model], found: Sequence[Any], raw: Any, lines: Lines, path: Path) -> list[str]:
    """Each problem in a line. Where a key takes values of several kinds, what is said of a kind that this value is not
    of goes unsaid as soon as another says more."""
    groups: dict[Any, list[tuple[Location, Any]]] = {}
    for number, problem in enumerate(found):
        place, alternatives = typed_location(problem["loc"], raw, missing=problem["type"] == "missing")
        alone = alternatives == len(problem["loc"])
        groups.setdefault(number if alone else problem["loc"][:alternatives], []).append((place, problem))
    told = []
    for group in groups.values():
        others = [place for place, problem in group if not problem["type"].endswith("_type")]
        kept: dict[Location, list[Any]] = {}
        for place, problem in group:
            of_no_kind = problem["type"].endswith("_type")
            more = any(other[: len(place)] == place for other in others) or any(
                len(other) > len(place) and other[: len(place)] == place for other, _ in group
            )
            if not (of_no_kind and more):
                kept.setdefault(place, []).append(problem)
        for place, problems in kept.items():
            message = ", or ".join(dict.fromkeys(problem["msg"].removeprefix("Input ") for problem in problems))
            told.append(_describe(kind, place, problems[0] | {"msg": message}, lines, path))
    return told


def _describe(kind: type[Model], location: Location, problem: Any, lines: Lines, path: Path) -> str:
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(str(location[-1]), known_at(kind, location[:-1]), n=1)
        text = f"unknown key (did you mean {nearest[0]}?)" if nearest else "unknown key"
    elif problem["type"] == "missing":
        text = "is missing"
    elif problem["type"] == "path_type":
        text = f"should be a path (got {problem['input']!r})"
    elif problem["type"] in ("missing_input", "value_error"):
        text = problem["msg"].removeprefix("Value error, ")
    else:
        text = f"{problem['msg'].removeprefix('Input ')} (got {problem['input']!r})"
    return f"{place_of(location, lines, path)}: {dotted(location) or 'the config'}: {text}"
