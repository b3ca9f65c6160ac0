"""A slice: the next `shard_bytes` of text of one source, made into a shard.

Read, clean, drop duplicates, keep some back, encode, write. When its shard is on the disk, a mark says where reading
goes on; a run that was killed reads the marks and goes on after the last one. Everything a slice decides depends on its
text and on what came before it, so the bytes are the same however often it was killed, and whoever makes it
(run_local.py, run_ray.py).

    reading and cleaning (this thread) ──batches──▶ encoding (one thread, all cores inside) ──▶ writing (this thread)
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from bllossom.console import say
from bllossom.corpus.clean import make_cleaner
from bllossom.corpus.dedup import Hashes, are_among, document_hashes
from bllossom.corpus.marks import (
    MISSING,
    SAMPLES,
    Mark,
    Position,
    SliceCounts,
    check_conserved,
    dropped_sample,
    mark_path,
)
from bllossom.corpus.readings import Reading, is_heldout
from bllossom.errors import BllossomError
from bllossom.files import locked, write_whole
from bllossom.paths import shown
from bllossom.text.sources import RawRecord, line_of, place, read_records
from bllossom.tokenizer.encode import Encoded, Encoder, add_edges
from bllossom.tokens.origins import Origin, write_origins
from bllossom.tokens.shards import SHARDS, ShardRecord, ShardWriter, save_array

BATCH_BYTES = 4_000_000  # text encoded at a time: enough to keep the cores busy, little enough to hold three of


@dataclass(frozen=True)
class Settings:
    """What is the same for all slices."""

    shard_bytes: int
    on_error: str
    max_errors: int
    deduplicate: bool
    bos: int | None
    eos: int | None
    pieces: int
    dtype: str
    near_duplicates: Sequence[np.ndarray] | None  # for each reading, the sorted numbers of documents to drop
    contaminated: Callable[[bytes], str] | None  # names the test row that a text holds, if any


@dataclass(frozen=True)
class Slice:
    """Where a slice begins, and what came before it."""

    number: int  # over all readings
    reading: int
    within: int  # its number within the reading
    start: Position
    kept_before: int  # documents of the reading
    broken_before: int  # records of all readings


class Candidate(NamedTuple):
    """A cleaned document, not yet known to be kept."""

    data: bytes
    came_as: int  # bytes before cleaning
    number: int  # within the reading
    origin: Origin


class SliceMaker:
    """Makes one slice. `is_new` says which hashes were not there before, as `SeenHashes.add` does."""

    def __init__(
        self,
        reading: Reading,
        settings: Settings,
        encoder: Encoder,
        is_new: Callable[[Hashes], NDArray[np.bool_]],
        advance: Callable[[int], None],
    ) -> None:
        self._reading, self._settings, self._encoder = reading, settings, encoder
        self._is_new, self._advance = is_new, advance
        self._clean = make_cleaner(reading.clean)
        self._counts = SliceCounts()
        self._hashes: list[np.ndarray] = []
        self._heldout: list[bytes] = []
        self._origins: list[Origin] = []
        self._heldout_origins: list[Origin] = []
        self._digest = xxhash.xxh3_64()
        self._pieces = np.zeros(settings.pieces, np.int64)
        self._end, self._last = Position(), False

    def make(self, this: Slice, folder: Path, work: Path) -> Mark:
        """Read, encode and write the slice, and mark it.

        Waits for a worker that a killed run on a cluster has left behind, where one is still making this slice.
        """
        with locked(work / f"{this.number:05d}.making", f"slice {this.number}", wait=True):
            return self._make(this, folder, work)

    def _make(self, this: Slice, folder: Path, work: Path) -> Mark:
        # A source's own held-out file gives no training shard: its empty one stays in the work folder.
        root = folder if self._reading.heldout_share < 1 else work
        file = f"{SHARDS}/{self._reading.language}/{self._reading.source}/{this.within:05d}"
        writer = ShardWriter(root, file, self._settings.dtype)
        waiting: deque[tuple[Future[Encoded], list[int]]] = deque()
        with ThreadPoolExecutor(1) as pool:
            for batch in self._batches(this.start, this.broken_before):
                texts = self._keep_back(self._unique(batch, this.reading), this.kept_before)
                waiting.append((pool.submit(self._encode, texts), [len(text) for text in texts]))
                # One batch is being encoded while the next is read: more would only take memory.
                while len(waiting) > 1:
                    self._write(writer, *waiting.popleft())
            while waiting:
                self._write(writer, *waiting.popleft())
        shard = writer.finish()
        name = f"{this.number:05d}"
        heldout = self._write_heldout(work, name)
        self._reading.check_unchanged(self._reading.files[this.start.file : self._end.file + 1])
        write_origins(root, file, self._origins)
        write_origins(work, f"{name}.heldout", self._heldout_origins)
        save_array(work / f"{name}.hashes.npy", np.concatenate([np.empty(0, np.uint64), *self._hashes]))
        save_array(work / f"{name}.pieces.npy", self._pieces)
        mark = Mark(
            reading=this.reading,
            end=self._end,
            last=self._last,
            shard=shard,
            heldout=heldout,
            tally=self._counts.tally(),
            samples=self._counts.samples,
            digest=self._digest.hexdigest(),
            encoder=self._encoder.name,
        )
        check_conserved(mark)
        write_whole(mark_path(work, this.number), mark.model_dump_json().encode())
        return mark

    def digest(self, start: Position) -> tuple[str, Position]:
        """What the slice would be made of: read and cleaned, but not made.

        Raises:
            BllossomError: a record is broken (or too many are).
        """
        for _ in self._batches(start, 0):
            pass
        return self._digest.hexdigest(), self._end

    def _batches(self, start: Position, broken_before: int) -> Iterator[list[Candidate]]:
        """Cleaned documents from `start` on, up to the end of the slice or of the reading."""
        counts, document = self._counts, start.document
        batch: list[Candidate] = []
        batch_bytes = advanced_bytes = 0
        for file in range(start.file, len(self._reading.files)):
            skip = start.record if file == start.file else 0
            path = self._reading.files[file]
            whole = shown(path)
            for record in read_records(path, self._reading.options, skip=skip):
                self._meet(path, record, broken_before)
                name = f"{whole}/{record.member}" if record.member else whole
                for at, text in enumerate(record.texts):
                    origin = (name, line_of(record.number), at, record.ids[at] if record.ids else "")
                    candidate = self._candidate(text, document, origin)
                    document += 1
                    if candidate is not None:
                        batch.append(candidate)
                        batch_bytes += len(candidate.data)
                full = counts.read[1] >= self._settings.shard_bytes
                if batch_bytes >= BATCH_BYTES or full:
                    self._advance(counts.read[1] - advanced_bytes)
                    advanced_bytes = counts.read[1]
                    self._note(batch)
                    yield batch
                    batch, batch_bytes = [], 0
                if full:
                    self._end = Position(file=file, record=record.number, document=document)
                    return
        self._advance(counts.read[1] - advanced_bytes)
        self._note(batch)
        yield batch
        self._end, self._last = Position(file=len(self._reading.files), document=document), True

    def _note(self, batch: list[Candidate]) -> None:
        """Put what the batch holds, and where it begins and ends in the source, into the digest."""
        self._digest.update(document_hashes([candidate.data for candidate in batch]).tobytes())
        ends = [(candidate.number, candidate.origin) for candidate in (*batch[:1], *batch[-1:])]
        self._digest.update(json.dumps([ends, self._counts.read, self._counts.broken]).encode())

    def _candidate(self, text: str, number: int, origin: Origin) -> Candidate | None:
        data, came_as, reason = self._clean(text)
        self._counts.read[0] += 1
        self._counts.read[1] += came_as
        if reason:
            if self._counts.drop(reason, came_as):
                self._sample(reason, "", origin, data)
            return None
        return Candidate(data, came_as, number, origin)

    def _meet(self, path: Path, record: RawRecord, broken_before: int) -> None:
        """Count what of a record cannot be read, or is not there."""
        if record.note:
            say(f"{shown(path)}: {record.note}")
        if record.missing:
            self._counts.read[0] += record.missing
            self._counts.drop(MISSING, 0, record.missing)
        for error in record.errors:
            self._broken(path, record, error, broken_before)

    def _broken(self, path: Path, record: RawRecord, error: str, broken_before: int) -> None:
        where = f"{place(path, record)}: {error}"
        if self._settings.on_error == "stop":
            raise BllossomError(f"{where}, or set on_error: skip")
        self._counts.broken += 1
        if self._counts.broken <= SAMPLES:
            member = f"/{record.member}" if record.member else ""
            self._sample("broken", error, (shown(f"{path}{member}"), line_of(record.number), 0, ""), b"")
        limit = self._settings.max_errors
        if broken_before + self._counts.broken > limit:
            raise BllossomError(f"more than {limit:,} broken records, now {where}, or raise max_errors")

    def _unique(self, batch: list[Candidate], reading: int) -> list[Candidate]:
        """Drop exact duplicates, near duplicates and contaminated documents, in this order; count what is kept."""
        if self._settings.deduplicate:
            hashes = document_hashes([candidate.data for candidate in batch])
            new = self._is_new(hashes)
            self._hashes.append(hashes[new])
            batch = self._without(batch, ~new, "duplicate")
        near = self._settings.near_duplicates
        if near is not None:
            numbers = np.asarray([candidate.number for candidate in batch], np.int64)
            batch = self._without(batch, are_among(numbers, near[reading]), "near duplicate")
        if self._settings.contaminated is not None:
            batch = [candidate for candidate in batch if not self._is_contaminated(candidate)]
        for candidate in batch:
            self._counts.kept[0] += 1
            self._counts.kept[1] += len(candidate.data)
            self._counts.changed += candidate.came_as - len(candidate.data)
        return batch

    def _without(self, batch: list[Candidate], flags: np.ndarray, reason: str) -> list[Candidate]:
        for at in np.flatnonzero(flags).tolist():
            dropped = batch[at]
            if self._counts.drop(reason, dropped.came_as):
                self._sample(reason, "", dropped.origin, dropped.data)
        return [candidate for candidate, flag in zip(batch, flags.tolist(), strict=True) if not flag]

    def _is_contaminated(self, candidate: Candidate) -> bool:
        assert self._settings.contaminated is not None
        row = self._settings.contaminated(candidate.data)
        if row:
            self._counts.drop("contaminated", candidate.came_as)
            # All of these are listed, not just a sample: they are few, and each is a finding.
            self._sample("contaminated", row, candidate.origin, candidate.data)
        return bool(row)

    def _sample(self, reason: str, detail: str, origin: Origin, text: bytes) -> None:
        self._counts.samples.append(dropped_sample(reason, detail, origin, text))

    def _keep_back(self, batch: list[Candidate], kept_before: int) -> list[bytes]:
        """Put the held-out share of the batch aside; give the texts to train on."""
        first = kept_before + self._counts.kept[0] - len(batch)
        texts: list[bytes] = []
        for kept, candidate in enumerate(batch, first):
            back = is_heldout(kept, self._reading.heldout_share)
            (self._heldout if back else texts).append(candidate.data)
            (self._heldout_origins if back else self._origins).append(candidate.origin)
        return texts

    def _encode(self, texts: Sequence[bytes]) -> Encoded:
        encoded = self._encoder.encode(texts) if texts else Encoded(np.empty(0, np.uint32), np.empty(0, np.int64))
        return add_edges(encoded, self._settings.bos, self._settings.eos, self._settings.dtype)

    def _write(self, writer: ShardWriter, encoding: Future[Encoded], text_bytes: list[int]) -> None:
        encoded = encoding.result()
        writer.add(encoded.ids, encoded.lengths, text_bytes)
        self._pieces += np.bincount(encoded.ids, minlength=len(self._pieces))

    def _write_heldout(self, work: Path, name: str) -> ShardRecord:
        writer = ShardWriter(work, f"{name}.heldout", self._settings.dtype)
        encoded = self._encode(self._heldout)
        writer.add(encoded.ids, encoded.lengths, [len(text) for text in self._heldout])
        with (work / f"{name}.heldout.jsonl").open("w", encoding="utf8") as file:
            for text in self._heldout:
                file.write(json.dumps({"text": text.decode()}, ensure_ascii=False) + "\n")
        return writer.finish()
