"""The same slices on a Ray cluster: the very bytes of run_local.py, made by many machines on a disk that they share.

    scan   a task per file: sizes and hashes of its records                     in any order, kept in the work folder
    cut    where slices begin, which documents are new, how many came before    here, in the order of the corpus
    make   a task per slice: SliceMaker, told what is new                       in any order

What a slice needs to know of those before it is small (a hash for each document, and some counts), so only `cut` has
to be in order. Ray repeats a task that was lost with its machine; a run that was killed goes on from scans and marks.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bllossom.corpus.clean import make_cleaner
from bllossom.corpus.dedup import Hashes, SeenHashes, are_among, document_hashes
from bllossom.corpus.marks import Mark, Position, Progress, mark_path
from bllossom.corpus.readings import Reading
from bllossom.corpus.slices import Settings, Slice, SliceMaker
from bllossom.errors import BllossomError, ConfigError
from bllossom.files import locked
from bllossom.text.sources import read_records
from bllossom.tokenizer.encode import Encoder, Encoders
from bllossom.tokenizer.load import load_tokenizer

CONNECT_SECONDS = 10


class Scan(NamedTuple):
    """A file as `cut` sees it: arrays with a row for each record that has text or is broken, or for each candidate, a
    document that cleaning keeps."""

    records: NDArray[np.int64]  # numbers, from 1
    sizes: NDArray[np.int64]  # UTF-8 bytes of text as it came
    documents: NDArray[np.int64]  # in the record
    candidates: NDArray[np.int64]  # of them
    broken: NDArray[np.int64]  # documents that cannot be read
    places: NDArray[np.int64]  # of the candidates among the documents of the file, from 0
    hashes: Hashes
    contaminated: NDArray[np.bool_]


class Piece(NamedTuple):
    """What goes into a slice: its candidates, and where it ends."""

    end: Position
    broken: int  # records
    places: NDArray[np.int64]  # among the documents of the reading
    hashes: Hashes
    contaminated: NDArray[np.bool_]


def run_ray(
    readings: Sequence[Reading],
    settings: Settings,
    choose: Callable[[Reading], Encoder],
    folder: Path,
    work: Path,
    advance: Callable[[int], None],
) -> Progress:
    """Make all slices that `work` has no mark of; `advance` is told the bytes of text tokenised.

    Uses the cluster that RAY_ADDRESS names (auto: the one this machine is part of), or else the cores of this machine.
    `folder` has to be the same disk everywhere, with the tokenizer in `folder`/tokenizer.

    Raises:
        BllossomError: no cluster is there, a record is broken (or too many are), a source has no text, or the disk is
            not shared.
        ConfigError: Ray is not installed.
    """
    ray = _connect()
    scan, make = ray.remote(num_cpus=1)(scan_file), ray.remote(num_cpus=1)(make_slice)
    try:
        shared, stored = ray.put(settings), [ray.put(reading) for reading in readings]
        scans = [
            [scan.remote(stored[number], shared, file, work / f"scan-{number:05d}-{file:05d}.npz") for file in files]
            for number, files in enumerate(range(len(reading.files)) for reading in readings)
        ]
        encoders = {number: choose(reading).name for number, reading in enumerate(readings)}
        tasks = [
            make.remote(this, new, stored[this.reading], shared, encoders[this.reading], folder, work)
            for this, new in cut(settings, ((ray.get(file) for file in files) for files in scans))
        ]
        marks = []
        for number, task in enumerate(tasks):
            marks.append(ray.get(task))
            if not mark_path(work, number).is_file():
                raise BllossomError(f"another machine wrote to {work}, and it is not here; put output on a shared disk")
            advance(marks[-1].tally.read[1])
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        reason = str(error).splitlines()[0]
        raise BllossomError(
            f"the Ray cluster failed ({reason}); the same command goes on from the slices done"
        ) from error
    finally:
        ray.shutdown()
    return Progress(marks=marks)


def _connect() -> Any:
    address = os.environ.get("RAY_ADDRESS", "local")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    if address == "local":
        # Ray's way of saying that no other machine is to reach this one. It is read when Ray is imported.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("executor: ray needs Ray; pip install 'bllossom[ray]', or set executor: local") from error
    # A task has one core: what Rust libraries would start threads for is told so here, our own in _encoders.
    environment = {"env_vars": {"RAYON_NUM_THREADS": "1"}}
    _check_answers(address)
    try:
        ray.init(address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise BllossomError(f"no Ray cluster at {address} ({error}); set RAY_ADDRESS right, or unset it") from error
    return ray


def _check_answers(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise BllossomError(f"no Ray cluster at {address} ({error}); set RAY_ADDRESS right, or unset it") from error


def scan_file(reading: Reading, settings: Settings, file: int, kept: Path) -> Scan:
    """Read and clean one file for what `cut` needs; kept for a run that goes on."""
    # A killed run's worker may still be at it.
    with locked(kept.with_suffix(".making"), f"the scan of {reading.files[file]}", wait=True):
        return _scan(reading, settings, file, kept)


def _scan(reading: Reading, settings: Settings, file: int, kept: Path) -> Scan:
    if kept.is_file():
        with np.load(kept) as arrays:
            return Scan(**arrays)
    clean = make_cleaner(reading.clean)
    rows: list[tuple[int, int, int, int, int]] = []
    places: list[int] = []
    hashes: list[Hashes] = []
    contaminated: list[bool] = []
    documents = 0
    for record in read_records(reading.files[file], reading.options):
        found = [clean(text) for text in record.texts]
        candidates = [(documents + place, data) for place, (data, _, reason) in enumerate(found) if not reason]
        size = sum(came_as for _, came_as, _ in found)
        rows.append((record.number, size, len(found), len(candidates), len(record.errors)))
        documents += len(found)
        places += [place for place, _ in candidates]
        hashes.append(document_hashes([data for _, data in candidates]))
        if settings.contaminated is not None:
            contaminated += [bool(settings.contaminated(data)) for _, data in candidates]
    columns = np.asarray(rows, np.int64).reshape(-1, 5).T
    scan = Scan(
        records=columns[0],
        sizes=columns[1],
        documents=columns[2],
        candidates=columns[3],
        broken=columns[4],
        places=np.asarray(places, np.int64),
        hashes=np.concatenate([np.empty(0, np.uint64), *hashes]),
        contaminated=np.asarray(contaminated or [False] * len(places), bool),
    )
    reading.check_unchanged([reading.files[file]])
    unfinished = kept.with_suffix(".unfinished.npz")
    np.savez(unfinished, **scan._asdict())
    unfinished.rename(kept)
    return scan


def cut(settings: Settings, scans: Iterable[Iterable[Scan]]) -> Iterator[tuple[Slice, NDArray[np.bool_]]]:
    """Every slice of the corpus, and which of its candidates were not there before; `scans` by reading and file."""
    seen = SeenHashes()
    number = broken = 0
    for reading, files in enumerate(scans):
        start, kept = Position(), 0
        for within, piece in enumerate(_pieces(files, settings.shard_bytes)):
            new = seen.add(piece.hashes) if settings.deduplicate else np.ones(len(piece.hashes), bool)
            yield Slice(number, reading, within, start, kept, broken), new
            wanted = new & ~piece.contaminated
            if settings.near_duplicates is not None:
                wanted &= ~are_among(piece.places, settings.near_duplicates[reading])
            start, kept, broken, number = piece.end, kept + int(wanted.sum()), broken + piece.broken, number + 1


def _pieces(files: Iterable[Scan], slice_bytes: int) -> Iterator[Piece]:
    """Cut the files of a reading where SliceMaker ends a slice: after the record that fills it."""
    parts: list[Piece] = []
    size = documents = number = 0
    for file, scan in enumerate(files):
        number = file + 1
        first, base, ends = 0, documents, np.cumsum(scan.sizes)
        while True:
            before = int(ends[first - 1]) if first else 0
            last = int(np.searchsorted(ends, before + slice_bytes - size))  # the record that fills it, if there is one
            records = slice(first, last + 1)
            documents += int(scan.documents[records].sum())
            filled = last < len(ends)
            end = Position(file=file, record=int(scan.records[last]) if filled else 0, document=documents)
            parts.append(_part(scan, records, base, end))
            if not filled:
                size += int(scan.sizes[first:].sum())
                break
            yield _joined(parts, end)
            parts, size, first = [], 0, last + 1
    yield _joined(parts, Position(file=number, document=documents))


def _part(scan: Scan, records: slice, base: int, end: Position) -> Piece:
    ends = np.concatenate([[0], np.cumsum(scan.candidates)])
    mine = slice(int(ends[records.start]), int(ends[min(records.stop, len(scan.records))]))
    broken = int(scan.broken[records].sum())
    return Piece(end, broken, scan.places[mine] + base, scan.hashes[mine], scan.contaminated[mine])


def _joined(parts: Sequence[Piece], end: Position) -> Piece:
    if not parts:
        return Piece(end, 0, np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, bool))
    _, broken, *columns = zip(*parts, strict=True)
    return Piece(end, sum(broken), *(np.concatenate(column) for column in columns))


def make_slice(
    this: Slice,
    new: NDArray[np.bool_],
    reading: Reading,
    settings: Settings,
    encoder: str,
    folder: Path,
    work: Path,
) -> Mark:
    """One slice, unless it is there."""
    path = mark_path(work, this.number)
    if path.is_file():
        return Mark.model_validate_json(path.read_bytes())
    encoders = _encoders(folder / "tokenizer")
    by_name: dict[str, Encoder | None] = {"gigatoken": encoders.fast, "tokenizers": encoders.reference}
    chosen = by_name[encoder]
    if chosen is None:
        raise BllossomError(f"this machine has no {encoder} ({encoders.why_not}); install the same on all of them")
    used = 0

    def is_new(hashes: Hashes) -> NDArray[np.bool_]:
        nonlocal used
        used += len(hashes)
        return new[used - len(hashes) : used]

    return SliceMaker(reading, settings, chosen, is_new, lambda _: None).make(this, folder, work)


@lru_cache(maxsize=1)
def _encoders(tokenizer: Path) -> Encoders:
    """Made once in each of Ray's processes, of which each has one core."""
    return Encoders(load_tokenizer(tokenizer), threads=1)
