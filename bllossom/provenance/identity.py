"""When two results are the same: stage, config without paths, and the inputs' fingerprints decide.

Another spelling of a path, or a folder that was moved, is the same result. So is a key that the earlier one did not
know, as long as it has its default.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bllossom.config import AddedIn, StageConfig
from bllossom.files import FileHashes
from bllossom.provenance.fingerprints import Inputs, fingerprint_contents, fingerprint_inputs
from bllossom.provenance.manifest import FORMAT, Origin


@dataclass(frozen=True)
class Request:
    """What a command asks for."""

    stage: str
    config: StageConfig
    sources: Inputs
    hashes: FileHashes

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
        return _hash({"stage": self.stage, "config": self.config.result_settings(), "inputs": self.inputs})

    @property
    def id_in_format_1(self) -> str:
        """Of the partial folder that this command would have left before manifests had a format number."""
        ignored = self.config.execution_keys | self.config.mending_keys
        settings = {key: value for key, value in _settings_in_format_1(self.config).items() if key not in ignored}
        return _hash({"stage": self.stage, "config": settings | {"output": None}, "inputs": self.inputs})

    def differences(self, other: Origin, *, mending: bool) -> list[str]:
        """What keeps `other` from being the same result, each as `key: … there, … here`; nothing where it is the same.

        Keys that mend an unfinished run count with `mending`, for a finished one.
        """
        if other.stage != self.stage:
            return [f"it was made by {other.stage}"]
        changes = changed_keys(self.config, other, mending=mending)
        for name in sorted(other.inputs.keys() | self.inputs.keys()):
            old, new = other.inputs.get(name, "not recorded"), self.inputs.get(name, "none")
            if old != new and not self._is_fingerprint_of(old, name):
                changes.append(f"input {name}: {_short(old)} there, {_short(new)} here")
        return changes

    def _is_fingerprint_of(self, other: str, name: str) -> bool:
        """Whether `other` is what format 1 says of an input that the hub has: the fingerprint of its contents."""
        source = self.sources.get(name)
        if "@" not in self.inputs.get(name, "") or "@" in other or not isinstance(source, Path):
            return False
        return other == fingerprint_contents({name: source}, self.hashes)[name]


def changed_keys(config: StageConfig, other: Origin, *, mending: bool = False) -> list[str]:
    """The keys that decide the result and are others in `other`'s config, each as `key: … there, … here`."""
    here = config.result_settings()
    try:
        before = type(config).model_validate(other.config | {"output": str(config.output)})
    except ValidationError as error:
        first = error.errors()[0]
        return [f"its config is not one of this version: {'.'.join(map(str, first['loc']))}: {first['msg']}"]
    there = before.result_settings()
    if mending:
        there |= {key: getattr(before, key) for key in config.mending_keys}
        here |= {key: getattr(config, key) for key in config.mending_keys}
    return list(_changes(there, here))


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
            yield from _changes(before.get(name), now.get(name), f"{key}.{name}".removeprefix("."))
    elif before != now:
        yield f"{key}: {json.dumps(before, ensure_ascii=False)} there, {json.dumps(now, ensure_ascii=False)} here"


def _short(value: str) -> str:
    """A fingerprint is told by its beginning."""
    return f"{value[:12]}…" if len(value) == 64 else value
