"""When two results are the same: stage, config without paths, and the inputs' fingerprints decide.

Another spelling of a path, or a folder that was moved, is the same result. So is a key that the earlier one did not
know, as long as it has its default.
"""

import fnmatch
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bllossom.config import AddedIn, StageConfig
from bllossom.files import FileHashes
from bllossom.hub import DATASETS, is_hub_id, parse, reference
from bllossom.provenance.fingerprints import NONE, Inputs, fingerprint_contents, fingerprint_inputs
from bllossom.provenance.manifest import FORMAT, Origin


@dataclass(frozen=True)
class Request:
    """What a command asks for."""

    stage: str
    config: StageConfig
    sources: Inputs
    hashes: FileHashes
    added_inputs: frozenset[str] = frozenset()
    """Names of inputs that count since some later version. One of them at least is in every request of this stage, so
    that a manifest without any was written before."""

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The inputs' fingerprints."""
        return fingerprint_inputs(self.sources, self.hashes)

    @property
    def origin(self) -> Origin:
        """What the result's manifest will say that it is made from."""
        config = self.config.model_dump(mode="json")
        return Origin(format=FORMAT, stage=self.stage, config=config, inputs=self.inputs)

    @property
    def id(self) -> str:
        """Of the partial folder."""
        settings = _settings(self.config, _uncovered(self.config, self.sources))
        return _hash({"stage": self.stage, "config": settings, "inputs": self.inputs})

    @property
    def id_in_format_1(self) -> str:
        """Of the partial folder that this command would have left before manifests had a format number."""
        ignored = self.config.execution_keys | self.config.mending_keys
        settings = {key: value for key, value in _settings_in_format_1(self.config).items() if key not in ignored}
        inputs = {name: found for name, found in self.inputs.items() if name not in self.added_inputs}
        return _hash({"stage": self.stage, "config": settings | {"output": None}, "inputs": inputs})

    def differences(self, other: Origin, *, mending: bool) -> list[str]:
        """What keeps `other` from being the same result, each as `key: … there, … here`; nothing where it is the same.

        Keys that mend an unfinished run count with `mending`, for a finished one.
        """
        if other.stage != self.stage:
            return [f"it was made by {other.stage}"]
        changes = changed_keys(self.config, other, self.sources, mending=mending)
        for name in sorted((other.inputs.keys() | self.inputs.keys()) - self.unrecorded(other)):
            old, new = other.inputs.get(name, "not recorded"), self.inputs.get(name, NONE)
            if old != new and (name in other.inputs or new != NONE) and not self._is_fingerprint_of(old, name):
                changes.append(f"input {name}: {_short(old)} there, {_short(new)} here")
        return changes

    def unrecorded(self, other: Origin) -> frozenset[str]:
        """The inputs that cannot be compared: `other` was made before they counted, and does not say what they were."""
        return frozenset() if self.added_inputs & other.inputs.keys() else self.added_inputs

    def _is_fingerprint_of(self, other: str, name: str) -> bool:
        """Whether `other` is what format 1 says of an input that the hub has: the fingerprint of its contents."""
        source = self.sources.get(name)
        if "@" not in self.inputs.get(name, "") or "@" in other or not isinstance(source, Path):
            return False
        return other == fingerprint_contents({name: source}, self.hashes)[name]


def changed_keys(config: StageConfig, other: Origin, sources: Inputs, *, mending: bool = False) -> list[str]:
    """The keys that decide the result and are others in `other`'s config, each as `key: … there, … here`."""
    try:
        before = type(config).model_validate(other.config | {"output": str(config.output)})
    except ValidationError as error:
        first = error.errors()[0]
        return [f"its config is not one of this version: {'.'.join(map(str, first['loc']))}: {first['msg']}"]
    kept = _uncovered(config, sources)
    return list(_changes(_settings(before, kept, mending, HIDDEN), _settings(config, kept, mending, HIDDEN)))


Place = tuple[str | int, ...]
HIDDEN = "…"  # a path, in what is told of two configs: its contents count, which are told as the input's


def _settings(
    config: StageConfig, kept: set[Place], mending: bool = False, hidden: str | None = None
) -> dict[str, Any]:
    """What decides a result: the config, with `hidden` for those paths whose contents are known."""
    bare, full = (config.result_settings(mending=mending, paths=paths) for paths in (False, True))
    return _fill(bare, full, kept, hidden)


def _fill(bare: Any, full: Any, kept: set[Place], hidden: str | None, place: Place = ()) -> Any:
    if isinstance(bare, dict):
        return {key: _fill(value, full[key], kept, hidden, (*place, key)) for key, value in bare.items()}
    if isinstance(bare, list):
        return [_fill(value, full[index], kept, hidden, (*place, index)) for index, value in enumerate(bare)]
    if place in kept:
        return full
    return hidden if bare is None and full else bare


def _uncovered(config: StageConfig, sources: Inputs) -> set[Place]:
    """Where the config names a path or hub id that is not an input, does not hold one, and matches none as a glob."""
    here = [way for source in sources.values() for way in _ways(source)]
    commits = [reference for source in sources.values() if (reference := _reference(source))]
    bare, full = (config.result_settings(mending=True, paths=paths) for paths in (False, True))
    return {place for place, path in _paths(bare, full) if not _covers(path, here, commits)}


def _paths(bare: Any, full: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    if isinstance(full, dict | list):
        for key, value in full.items() if isinstance(full, dict) else enumerate(full):
            yield from _paths(bare[key], value, (*place, key))
    elif bare is None and full is not None:
        yield place, full


def _covers(path: str, here: Sequence[str], commits: Sequence[str]) -> bool:
    if is_hub_id(path):
        name = parse(path).repository
        return any(commit.removeprefix(DATASETS).startswith(f"{name}@") for commit in commits)
    # A * of fnmatch goes over folders, and so covers what the ** of a glob does.
    patterns = {pattern.replace("**/", "*") for pattern in _ways(path)}
    return any(
        source == pattern or source.startswith(f"{pattern}/") or fnmatch.fnmatch(source, pattern)
        for source in here
        for pattern in patterns
    )


def _ways(path: Path | str | None) -> set[str]:
    """A path as it is meant here, and with its links followed."""
    return set() if path is None else {os.path.abspath(path), os.path.realpath(path)}  # noqa: PTH100


def _reference(source: Path | str | None) -> str | None:
    if source is None:
        return None
    return source if isinstance(source, str) and is_hub_id(source) else reference(Path(source))


def _hash(what: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _settings_in_format_1(block: BaseModel) -> dict[str, Any]:
    """A config as it was written before: without the keys that have been added, where they have their defaults."""
    dumped = block.model_dump(mode="json")
    for name, field in type(block).model_fields.items():
        value = getattr(block, name)
        added = any(isinstance(mark, AddedIn) and mark.manifest_format > 1 for mark in field.metadata)
        if added and value == field.get_default(call_default_factory=True):
            del dumped[name]
        else:
            dumped[name] = _value_in_format_1(value, dumped[name])
    return dumped


def _value_in_format_1(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel):
        return _settings_in_format_1(value)
    if isinstance(value, list):
        return [_value_in_format_1(item, as_json) for item, as_json in zip(value, dumped, strict=True)]
    if isinstance(value, dict):
        return {key: _value_in_format_1(item, dumped[key]) for key, item in value.items()}
    return dumped


def _changes(before: Any, now: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            yield from _changes(before.get(name, ...), now.get(name, ...), f"{key}.{name}".removeprefix("."))
    elif before != now:
        yield f"{key}: {_shown(before)} there, {_shown(now)} here"


def _shown(value: Any) -> str:
    return "not set" if value is ... else json.dumps(value, ensure_ascii=False)


def _short(value: str) -> str:
    """A fingerprint is told by its beginning."""
    return f"{value[:12]}…" if len(value) == 64 else value
