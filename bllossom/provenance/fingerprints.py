"""Fingerprints: what a file or folder holds, whatever it is called and wherever it lies; and whether it still does."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from bllossom import hub
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.files import FileHashes, FileRecord
from bllossom.provenance.manifest import CARD, LOGS, MANIFEST, UNFINISHED, Manifest, read_manifest

Inputs = Mapping[str, Path | str | None]
"""By name: a file or folder, or the hub id of a model; None for what would be read and is not there."""
NONE = "none"
ADDED = "is not in the manifest"


def fingerprint(path: Path) -> str:
    """The sha256 of a file, or of a folder's payload. Of a published folder, what is as old as its manifest is taken
    from there, unread; what was changed since is said, and counts as it is now.

    Raises:
        BllossomError: there is nothing at `path`, or it cannot be read.
    """
    return fingerprint_contents({"": path}, FileHashes(cached=True))[""]


def fingerprint_inputs(inputs: Inputs, hashes: FileHashes) -> dict[str, str]:
    """The fingerprint of each input, `owner/name@commit` for what lies in the hub's cache, `none` for what is not
    there. All are hashed together.

    Raises:
        BllossomError: an input is missing, or cannot be read.
    """
    here = {name: Path(source) for name, source in inputs.items() if source is not None}
    named = {
        name: hub.pin(source) for name, source in inputs.items() if isinstance(source, str) and hub.is_hub_id(source)
    }
    known = {name: found for name, path in here.items() if (found := named.get(name) or hub.reference(path))}
    contents = {name: path for name, path in here.items() if name not in known}
    fingerprints = known | fingerprint_contents(contents, hashes)
    return {name: fingerprints.get(name, NONE) for name in inputs}


def fingerprint_contents(paths: Mapping[str, Path], hashes: FileHashes) -> dict[str, str]:
    """As `fingerprint`, of many."""
    found: dict[str, str] = {}
    to_read: dict[str, dict[str, Path]] = {}
    kept: dict[str, dict[str, FileRecord]] = {}
    published: dict[str, str] = {}
    for name, path in paths.items():
        if path.is_dir():
            inside = _files(path)
            if manifest := read_manifest(path):
                inside, published[name] = payload(path), manifest.fingerprint
                kept[name] = _unchanged(path, manifest)
            to_read[name] = {inner: path / inner for inner in inside if inner not in kept.get(name, ())}
        elif path.exists():
            to_read[name] = {"": path}
        else:
            raise BllossomError(f"no such file or folder: {path}")
    files = [file for files_of in to_read.values() for file in files_of.values()]
    records = dict(zip(files, hashes.record(files), strict=True))
    for name, files_of in to_read.items():
        if "" in files_of:
            found[name] = records[files_of[""]].sha256
        else:
            found[name] = combine(kept.get(name, {}) | {inner: records[file] for inner, file in files_of.items()})
            if found[name] != published.get(name, found[name]):
                say(
                    f"{paths[name]} was changed since it was published, and counts as it is now; "
                    f"`bllossom verify {paths[name]}` says in what"
                )
    return found


def _unchanged(folder: Path, manifest: Manifest) -> dict[str, FileRecord]:
    """Of the files that a manifest lists, those that have their size, and have not been written since it was."""
    written = (folder / MANIFEST).stat().st_mtime_ns
    found = {}
    for name, record in manifest.files.items():
        path = folder / name
        if path.is_file() and (stat := path.stat()).st_size == record.bytes and stat.st_mtime_ns <= written:
            found[name] = record
    return found


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
    added = sorted(set(payload(folder)) - manifest.files.keys())
    return [*damage(folder, manifest), *(f"{name}: {ADDED}" for name in added)]


def damage(folder: Path, manifest: Manifest) -> list[str]:
    """What is missing of a published folder or was changed, reading every byte. What was put beside it is no damage."""
    there = set(payload(folder))
    problems = [f"{name}: is missing" for name in sorted(manifest.files.keys() - there)]
    names = sorted(there & manifest.files.keys())
    for name, found in zip(names, FileHashes(cached=False).record([folder / name for name in names]), strict=True):
        expected = manifest.files[name]
        if found.bytes != expected.bytes:
            problems.append(f"{name}: has {found.bytes:,} bytes, the manifest says {expected.bytes:,}")
        elif found.sha256 != expected.sha256:
            problems.append(f"{name}: its contents changed (sha256 {found.sha256[:12]}…, not {expected.sha256[:12]}…)")
    if combine(manifest.files) != manifest.fingerprint:
        problems.append(f"{MANIFEST}: its fingerprint is not that of the files it lists")
    return problems


def payload(folder: Path) -> list[str]:
    """The files of a folder of ours that count, by their names in it."""
    return [name for name in _files(folder) if name not in (UNFINISHED, CARD)]


def _files(folder: Path) -> list[str]:
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(name.as_posix() for name in names if name.parts[0] != LOGS and name.as_posix() != MANIFEST)


def combine(files: Mapping[str, FileRecord]) -> str:
    """The fingerprint of a folder with these files."""
    lines = "".join(f"{name}\0{files[name].sha256}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode("utf8", "surrogateescape")).hexdigest()  # names are bytes
