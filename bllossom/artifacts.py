"""What a stage leaves behind: one folder that is whole or not there, and its manifest.json.

    runs/demo/vocab/                 published: renamed into place at the very end
    runs/demo/vocab.partial-3f9c…/   being made, or left by a kill; the same command goes on in it
    runs/demo/.vocab.lock            while a run works on this output

The payload is every file but manifest.json, the card README.md and what lies below logs/. It is the same, byte for
byte, for the same config and inputs: times, dates and host names belong into logs/.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bllossom.config import StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.files import CUT, FileHashes, locked, sync_folder, write_whole
from bllossom.hub import is_hub_id
from bllossom.paths import shown
from bllossom.provenance.circumstances import Clock, begin_attempt, git_commit, versions
from bllossom.provenance.fingerprints import ADDED, NONE, Inputs, combine, damage, fingerprint, payload, verify
from bllossom.provenance.identity import Request
from bllossom.provenance.manifest import (
    CARD,
    LOGS,
    MANIFEST,
    PARTIAL,
    UNFINISHED,
    DamagedManifestError,
    Manifest,
    Origin,
    OutputTakenError,
    read_manifest,
    read_origin,
)

__all__ = [
    "ADDED",
    "CARD",
    "FAILED_REQUESTS",
    "LOGS",
    "MANIFEST",
    "NOT_RUN",
    "PARTIAL",
    "DamagedManifestError",
    "Inputs",
    "Manifest",
    "Origin",
    "fingerprint",
    "lock_of",
    "output_of",
    "partial_folders",
    "publish",
    "read_manifest",
    "read_origin",
    "verify",
]

REPLACED = ".replaced"
FAILED_REQUESTS = "failed_requests"
"""The figure of a stage that asks others, for what had no answer and is part of the result as that."""
NOT_RUN = "not_run"
"""The figure for what a stage left out, with why: what was not to be had then may be here now."""


def publish(
    config: StageConfig,
    *,
    stage: str,
    inputs: Inputs,
    build: Callable[[Path], dict[str, Any]],
    force: bool = False,
    added_inputs: Collection[str] = (),
    scratch: Collection[str] = (),
) -> Manifest:
    """Let `build` fill a partial folder, then publish it as `config.output`; do nothing if it is there already.

    `inputs` name whatever the stage reads below a path of its config: their contents, not their paths, are part of what
    makes two results the same. `force` replaces whatever else is at the output, and this result where it is damaged or
    was left open, once the new one is whole. `added_inputs` name those that results of before do not record: one
    without them all is the same result still, and that is said.

    `build(folder)` returns the stage's figures. After a kill it is called on the same folder again, and either goes on
    from what it finds or writes its files anew. `scratch` names files and folders in it to go on from, which are no
    part of the result: they stay until that is whole on the disk, as hashing a model takes minutes, too.

    Raises:
        BllossomError: an input is missing, the output holds something else, the disk is full or read-only.
    """
    output = _place(config.output)
    _check_apart(config.output, output, inputs)
    request = Request(stage, config, inputs, FileHashes(cached=True), frozenset(added_inputs))
    find = partial(_already_published, output, request)
    if not force and (published := _there_already(find, request, force)) is not None:
        return published
    new_folders = [folder for folder in (output.parent, *output.parent.parents) if not folder.exists()]
    with _clear_failures(output), _removed_on_failure(new_folders):
        _make(output.parent)
        with locked(lock_of(output), str(config.output)):
            if (published := _there_already(find, request, force)) is not None:  # by who had the lock before, say
                return published
            unfinished = _own_partial(output, request, force)
            if (manifest := _whole(unfinished, request)) is None:
                manifest = _made(unfinished, request, build, scratch)
            for name in scratch:
                _remove(unfinished / name)
            if not force:
                _still_free(find, unfinished)
            _move_into_place(unfinished, output)
    return manifest


def _made(
    unfinished: Path, request: Request, build: Callable[[Path], dict[str, Any]], scratch: Collection[str]
) -> Manifest:
    """Build, and write the manifest. All of it is on the disk once the partial folder no longer says `unfinished`."""
    for name in (UNFINISHED, MANIFEST):
        (unfinished / f"{name}{CUT}").unlink(missing_ok=True)  # left by a kill while it was written
    clock = Clock(begin_attempt(unfinished, request.origin))
    try:
        figures = build(unfinished)
    except BaseException:
        _remove_if_nothing_was_made(unfinished)
        raise
    names = [name for name in payload(unfinished) if Path(name).parts[0] not in scratch]
    records = request.hashes.record([unfinished / name for name in names])
    files = dict(zip(names, records, strict=True))
    manifest = Manifest(
        **request.origin.model_dump(),
        id=request.id,
        fingerprint=combine(files),
        figures=figures,
        files=files,
        versions=versions(),
        git_commit=git_commit(),
        run=clock.figures(),
    )
    _write(unfinished / MANIFEST, manifest)
    sync_folder(unfinished)
    (unfinished / UNFINISHED).unlink()
    return manifest


def _whole(unfinished: Path, request: Request) -> Manifest | None:
    """The manifest of a partial folder that was only to be moved into place when a kill came."""
    manifest = None if (unfinished / UNFINISHED).exists() else read_manifest(unfinished)
    if manifest is None or request.differences(manifest, mending=True) or damage(unfinished, manifest):
        return None
    return manifest


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise BllossomError(
            f"{path} cannot be removed ({error.strerror}); remove it, and run the same command, which publishes "
            "the result that is whole beside it"
        ) from error


def partial_folders(output: Path) -> list[Path]:
    """The partial folders of an output, whoever left them."""
    if not output.parent.is_dir():
        return []
    beside = output.parent.iterdir()  # not a glob: a name may hold its special characters
    return sorted(path for path in beside if path.name.startswith(f"{output.name}{PARTIAL}") and path.is_dir())


def output_of(partial: Path) -> Path:
    """The output that a partial folder was left for."""
    return partial.with_name(partial.name.partition(PARTIAL)[0])


def lock_of(output: Path) -> Path:
    """The file that is locked while a run works on an output."""
    return output.with_name(f".{output.name}.lock")


def _place(output: Path) -> Path:
    """Where a result is really put: a link stays, and leads to it.

    Raises:
        BllossomError: nothing can be renamed into that place.
    """
    place = output.resolve()
    if output.is_symlink() and not place.parent.is_dir():
        raise BllossomError(f"{output} is a link to {place}, where nothing is; mount that disk, or make {place.parent}")
    if place.is_mount():
        raise BllossomError(f"{output} is where a disk is mounted; name a folder on it, as {output}/result")
    if shown(place) != str(place):
        raise BllossomError(
            f"{shown(place)}: a folder on this path has a name that is not UTF-8, into which tokenizers and models "
            "cannot be written; rename it, or name another output"
        )
    if place.exists() and not place.is_dir():
        kind = "file" if place.is_file() else "pipe, a socket or a device"
        raise BllossomError(f"{output} is a {kind}; name another output")
    return place


def _check_apart(output: Path, place: Path, inputs: Inputs) -> None:
    """Refuse an output, which is at `place`, that would take the place of what the stage reads, or change it.

    Raises:
        BllossomError: an input is the output or lies in it, or it lies in an input.
    """
    for name, source in inputs.items():
        if source is None or (isinstance(source, str) and is_hub_id(source)):
            continue
        read = Path(source).resolve()
        if read.is_relative_to(place):
            what = f"is the {name} itself" if read == place else f"holds {shown(source)}"
            raise BllossomError(f"output: {output} {what}, which it would replace; name another")
        if place.is_relative_to(read):
            raise BllossomError(
                f"output: {output} lies in the {name}, {shown(source)}, which it would change; name another"
            )


def _there_already(find: Callable[[], Manifest | None], request: Request, force: bool) -> Manifest | None:
    """The manifest of the output, if nothing is to be done; with `force`, something is where a file of it is damaged,
    something was left open, or an input was not recorded."""
    try:
        published = find()
    except OutputTakenError as taken:
        if not force:
            raise
        say(f"{taken}: --force replaces it")
        return None
    if published is None:
        return None
    where = request.config.output
    unrecorded = ", ".join(sorted(name for name in request.unrecorded(published) if request.inputs[name] != NONE))
    if force and (problems := damage(where, published)):
        say(f"{where}: {problems[0]}: --force replaces it")
        return None
    left_open = _left_open(published)
    if force and left_open:
        say(f"{where}: {left_open}")
        return None
    if force and unrecorded:
        say(f"{where} does not record {unrecorded}: --force replaces it")
        return None
    say(f"{request.stage}: {where} is there already, made from the same config and inputs: nothing to do")
    if left_open:
        say(f"{where}: {left_open}")
    if unrecorded:
        say(
            f"{where} does not record {unrecorded}, as it was made before these counted: if one was added or changed "
            "since, make it again with --force"
        )
    return published


def _left_open(published: Manifest) -> str:
    """What a result has as missing, and `--force` may find."""
    if failed := published.figures.get(FAILED_REQUESTS):
        return f"{failed:,} requests have no reply: --force asks them again, and only them"
    if left_out := published.figures.get(NOT_RUN):
        return f"not run: {', '.join(left_out)}: --force makes the result anew, with what is here by now"
    return ""


def _already_published(output: Path, request: Request) -> Manifest | None:
    """The manifest at `output` if it is this very result; None if the place is free; an error otherwise."""
    if not output.is_dir() or not any(output.iterdir()):
        return None
    manifest = read_manifest(output)
    if manifest is None:
        raise OutputTakenError(f"{output} holds something else (it has no {MANIFEST}); name another output, or --force")
    if changes := request.differences(manifest, mending=True):
        raise OutputTakenError(
            f"{output} holds another result ({'; '.join(changes[:4])}); name another output, or replace it with --force"
        )
    for name, record in manifest.files.items():
        path = output / name
        if not path.is_file() or path.stat().st_size != record.bytes:
            raise OutputTakenError(f"{path} is missing or cut short; make the folder again with --force")
    return manifest


def _own_partial(output: Path, request: Request, force: bool) -> Path:
    """The partial folder of this request, found or made. Those of others are named, or removed with `force`."""
    own = None
    for folder in partial_folders(output):
        if folder.name.endswith(REPLACED):  # by a kill as it was removed, or as the new one came into its place
            if output.exists():
                shutil.rmtree(folder)
            continue
        origin = read_origin(folder)
        if origin is None:
            names = [f"{output.name}{PARTIAL}{name}" for name in (request.id, request.id_in_format_1)]
            same, changes = folder.name in names, ["of which it does not say"]
        else:
            changes = request.differences(origin, mending=False)
            same = not changes
        if same and own is None:
            own = folder
        elif force:
            say(f"removing {folder}, left by another config")
            shutil.rmtree(folder)
        else:
            why = "; ".join(changes[:4])
            say(f"{folder} was left unfinished by another config or other inputs ({why}); --force removes it")
    own = own or output.with_name(f"{output.name}{PARTIAL}{request.id}")
    _make(own)
    return own


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BllossomError(f"{folder} cannot be made ({error.strerror}); choose an output you may write to") from error


def _write(path: Path, manifest: Manifest) -> None:
    text = json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False, indent=1)
    write_whole(path, f"{text}\n".encode())


def _remove_if_nothing_was_made(unfinished: Path) -> None:
    """A refusal leaves no folder behind: empty files, of a log say, are nothing to go on from."""
    if all(path.is_dir() or path.name == UNFINISHED or not path.stat().st_size for path in unfinished.rglob("*")):
        shutil.rmtree(unfinished)


@contextlib.contextmanager
def _removed_on_failure(folders: list[Path]) -> Iterator[None]:
    """Take back the folders around an output that were made for it, innermost first, where they have stayed empty."""
    try:
        yield
    except BaseException:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


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
def _clear_failures(output: Path) -> Iterator[None]:
    """Turn a full disk, a read-only place and an unreadable file into one clear message, whichever library met them."""
    try:
        yield
    except BllossomError:
        raise
    except Exception as error:
        text, file = str(error), getattr(error, "filename", None)
        if "No space left" in text or "Disk quota" in text:
            message = f"the disk is full while writing {output}; free some room and run the same command, which goes on"
        elif "File too large" in text:
            message = (
                f"{output} may not hold a file so large; raise `ulimit -f`, or name an output on another file system"
            )
        elif "Permission denied" not in text and "Read-only file system" not in text:
            raise
        elif file is not None and not Path(str(file)).absolute().is_relative_to(output.parent):
            message = f"{file} cannot be opened ({text.partition(': ')[0]}); make it readable, or name another file"
        else:
            message = f"{output} cannot be written ({error}); choose an output in a folder you may write to"
        raise BllossomError(message) from error


def _move_into_place(unfinished: Path, output: Path) -> None:
    old = output.with_name(f"{unfinished.name}{REPLACED}")
    if output.exists():
        output.rename(old)
    unfinished.rename(output)
    if old.exists():
        shutil.rmtree(old)
