"""What a stage leaves behind: one folder that is whole or not there, and its manifest.json.

    runs/demo/vocab/                 published: renamed into place at the very end
    runs/demo/vocab.partial-3f9c…/   being made, or left by a kill; the same command goes on in it

The payload is every file but manifest.json, the card README.md and what lies below logs/. It is the same, byte for
byte, for the same config and inputs: times, dates and host names belong into logs/.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from bllossom.config import AddedIn, StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.memory import peak_rss_bytes, reset_peak_rss

MANIFEST = "manifest.json"
LOGS = "logs"
CARD = "README.md"  # of a model: written anew when there are scores of it
PACKAGES = ("bllossom", "torch", "transformers", "tokenizers", "sentencepiece", "datasets", "lm_eval")


Hashed = dict[tuple[int, int, int, int], str]
"""The sha256 of each file read so far, by device, inode, bytes and time of change (ns)."""


class FileRecord(BaseModel):
    """One payload file."""

    sha256: str
    bytes: int


class Manifest(BaseModel):
    """What manifest.json holds. Only `files` makes the fingerprint; `run` is about this one run on this machine."""

    stage: str
    id: str = Field(description="sha256 over stage, config and inputs, 16 hex digits")
    fingerprint: str = Field(description="sha256 over the payload's names and contents")
    config: dict[str, Any]
    inputs: dict[str, str] = Field(description="fingerprint of each input")
    figures: dict[str, Any] = Field(description="the stage's own numbers")
    files: dict[str, FileRecord]
    versions: dict[str, str]
    git_commit: str | None
    run: dict[str, Any] = Field(description="wall_seconds, peak_memory_bytes, host, started: not in the fingerprint")


class OutputTakenError(BllossomError):
    """The output folder holds something else, and may be replaced with --force."""


class DamagedManifestError(OutputTakenError):
    """The manifest of a published folder cannot be read."""


def publish(
    config: StageConfig,
    *,
    stage: str,
    inputs: Mapping[str, Path],
    build: Callable[[Path], dict[str, Any]],
    force: bool = False,
) -> Manifest:
    """Let `build` fill a partial folder, then publish it as `config.output`; do nothing if it is there already.

    `force` replaces whatever else is at the output, once the new result is whole.

    `build(folder)` returns the stage's figures. After a kill it is called on the same folder again, and either goes on
    from what it finds or writes its files anew.

    Raises:
        BllossomError: an input is missing, the output holds something else, the disk is full or read-only.
    """
    output = config.output
    hashed: Hashed = {}
    fingerprints = {name: fingerprint(path, hashed) for name, path in inputs.items()}
    settings = config.model_dump(mode="json")
    decides = _settings_in_format_1(config)
    identity = _identity(stage, decides, fingerprints, config.execution_keys | config.mending_keys)
    find = partial(_already_published, output, identity, settings, fingerprints, config.mending_keys)
    try:
        published = find()
    except OutputTakenError as taken:
        if not force:
            raise
        say(f"{taken}: --force replaces it")
        published = None
    if published is not None:
        say(f"{stage}: {output} is there already, made from the same config and inputs: nothing to do")
        return published
    unfinished = output.with_name(f"{output.name}.partial-{identity}")
    with _clear_failures(output), contextlib.ExitStack() as held:
        _make(output.parent)
        # Nobody else starts or publishes beside this one meanwhile: a folder not yet locked is not taken for stale.
        with locked(output.parent, wait=True):
            _remove_stale(output, unfinished, force)
            _make(unfinished)
            held.enter_context(locked(unfinished))
        reset_peak_rss()
        started, clock = datetime.now(UTC), time.monotonic()
        figures = build(unfinished)
        files = {name: _record(unfinished / name, hashed) for name in _payload(unfinished)}
        manifest = Manifest(
            stage=stage,
            id=identity,
            fingerprint=_combine(files),
            config=settings,
            inputs=fingerprints,
            figures=figures,
            files=files,
            versions=_versions(),
            git_commit=_git_commit(),
            run={"started": started.isoformat(timespec="seconds")} | _spent(clock),
        )
        text = json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False, indent=1)
        (unfinished / MANIFEST).write_text(text + "\n", encoding="utf8")
        _sync(unfinished)
        with locked(output.parent, wait=True):
            if not force:
                _still_free(find, unfinished)
            _move_into_place(unfinished, output)
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a published folder; None where there is none (somebody else's files).

    Raises:
        DamagedManifestError: it cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        what = " ".join([*map(str, first["loc"]), first["msg"]])
        raise DamagedManifestError(f"{path} is damaged ({what}); make the folder again with --force") from error


def fingerprint(path: Path, hashed: Hashed | None = None) -> str:
    """The sha256 of a file, or of a folder's payload. A published folder's comes from its manifest, unread.

    What was read is noted in `hashed`.

    Raises:
        BllossomError: there is nothing at `path`.
    """
    if path.is_file():
        return _record(path, hashed).sha256
    if not path.is_dir():
        raise BllossomError(f"no such file or folder: {path}")
    manifest = read_manifest(path)
    if manifest is not None:
        return manifest.fingerprint
    return _combine({name: _record(path / name, hashed) for name in _payload(path)})


def verify(folder: Path) -> list[str]:
    """Compare a published folder with its manifest, reading every byte; give the problems, none if it is whole.

    Raises:
        BllossomError: there is no folder, or no manifest to compare it with.
    """
    if not folder.is_dir():
        raise BllossomError(f"no such folder: {folder}; name a published one")
    manifest = read_manifest(folder)
    if manifest is None:
        raise BllossomError(
            f"{folder} has no {MANIFEST}: it was not published by bllossom, or not yet; name a published folder"
        )
    there = set(_payload(folder))
    problems = [f"{name}: is missing" for name in sorted(manifest.files.keys() - there)]
    problems += [f"{name}: is not in the manifest" for name in sorted(there - manifest.files.keys())]
    for name in sorted(there & manifest.files.keys()):
        found, expected = _record(folder / name), manifest.files[name]
        if found.bytes != expected.bytes:
            problems.append(f"{name}: has {found.bytes:,} bytes, the manifest says {expected.bytes:,}")
        elif found.sha256 != expected.sha256:
            problems.append(f"{name}: its contents changed (sha256 {found.sha256[:12]}…, not {expected.sha256[:12]}…)")
    if _combine(manifest.files) != manifest.fingerprint:
        problems.append(f"{MANIFEST}: its fingerprint is not that of the files it lists")
    return problems


def _identity(stage: str, settings: dict[str, Any], inputs: Mapping[str, str], ignored: frozenset[str]) -> str:
    kept = {key: value for key, value in settings.items() if key not in ignored}
    what = {"stage": stage, "config": kept | {"output": None}, "inputs": dict(inputs)}
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


def _already_published(
    output: Path, identity: str, settings: dict[str, Any], inputs: Mapping[str, str], mending_keys: frozenset[str]
) -> Manifest | None:
    """The manifest at `output` if it is this very result; None if the place is free; an error otherwise."""
    if output.is_file():
        raise BllossomError(f"{output} is a file; name another output")
    if not output.is_dir() or not any(output.iterdir()):
        return None
    manifest = read_manifest(output)
    if manifest is None:
        raise OutputTakenError(f"{output} holds something else (it has no {MANIFEST}); name another output, or --force")
    if manifest.id != identity or any(manifest.config.get(key) != settings[key] for key in mending_keys):
        changes = _differences(manifest.config, settings) + _differences(manifest.inputs, dict(inputs))
        why = "; ".join(changes[:4]) or f"it was made by {manifest.stage}"
        raise OutputTakenError(
            f"{output} holds another result ({why}); name another output, or replace it with --force"
        )
    for name, record in manifest.files.items():
        path = output / name
        if not path.is_file() or path.stat().st_size != record.bytes:
            raise OutputTakenError(f"{path} is missing or cut short; make the folder again with --force")
    return manifest


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    keys = sorted((old.keys() | new.keys()) - {"output"})
    pairs = [(key, old.get(key, "nothing"), new.get(key, "nothing")) for key in keys]
    return [f"{key}: {before} there, {now} here" for key, before, now in pairs if before != now]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BllossomError(f"{folder} cannot be made ({error.strerror}); choose an output you may write to") from error


def _remove_stale(output: Path, unfinished: Path, force: bool) -> None:
    """Remove what was left of other results of this output, or say that it is there.

    Raises:
        BllossomError: a run is at work on one of them. Only one of the two could be published.
    """
    for stale in sorted(output.parent.glob(f"{output.name}.partial-*")):
        if stale == unfinished:
            continue
        with locked(stale):
            if force:
                say(f"removing {stale}, left by another config")
                shutil.rmtree(stale)
            else:
                say(f"{stale} was left unfinished by another config or other inputs; --force removes it")


def _still_free(find: Callable[[], Manifest | None], unfinished: Path) -> None:
    """Look at the output again, at the end: hours may have gone by since the beginning.

    Raises:
        BllossomError: something else is there now.
    """
    try:
        find()
    except OutputTakenError as taken:
        raise BllossomError(
            f"{taken}. It came while this run worked, whose own result is left in {unfinished}: "
            "the same command goes on from there with --force"
        ) from taken


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder; the lock dies with its process.

    Raises:
        BllossomError: another process has it, and it is not to be waited for.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        os.close(descriptor)
        raise BllossomError(
            f"another process is working in {folder}; wait for it, end it, or name another output"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _clear_failures(output: Path) -> Iterator[None]:
    """Turn a full disk and a read-only place into one clear message, whichever library met them."""
    try:
        yield
    except BllossomError:
        raise
    except Exception as error:
        text = str(error)
        if "No space left" in text or "Disk quota" in text:
            told = f"the disk is full while writing {output}; free some room and run the same command, which goes on"
        elif "Permission denied" in text or "Read-only file system" in text:
            told = f"{output} cannot be written ({error}); choose an output in a folder you may write to"
        else:
            raise
        raise BllossomError(told) from error


def _payload(folder: Path) -> list[str]:
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        name.as_posix() for name in names if name.parts[0] != LOGS and name.as_posix() not in (MANIFEST, CARD)
    )


def _record(path: Path, hashed: Hashed | None = None) -> FileRecord:
    """Hash a file, unless it is a hard link to one in `hashed`: a 13B model's 26 GB are read once, not twice."""
    hashed = {} if hashed is None else hashed
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if key not in hashed:
            hashed[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(sha256=hashed[key], bytes=stat.st_size)


def _combine(files: Mapping[str, FileRecord]) -> str:
    lines = "".join(f"{name}\0{files[name].sha256}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def _sync(folder: Path) -> None:
    """Bring every file and folder to the disk, so that the rename never publishes what a power cut takes away."""
    for path in [folder, *folder.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _move_into_place(unfinished: Path, output: Path) -> None:
    old = output.with_name(f"{unfinished.name}.replaced")
    if output.exists():
        output.rename(old)
    unfinished.rename(output)
    if old.exists():
        shutil.rmtree(old)


def _spent(clock: float) -> dict[str, Any]:
    return {
        "wall_seconds": round(time.monotonic() - clock, 3),
        "peak_memory_bytes": peak_rss_bytes(),
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _git_commit() -> str | None:
    """The commit of the checkout this code runs from, `+dirty` where files changed; None for an installed package."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+dirty" if status.stdout.strip() else "")
