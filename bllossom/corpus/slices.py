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

from bllossom.corpus.clean import CleaningConfig, make_cleaner
from bllossom.corpus.dedup import Hashes
from bllossom.corpus.marks import SAMPLES, Drop, Mark, Position, SliceCounts, mark_path
from bllossom.errors import BllossomError
from bllossom.files import locked, write_whole
from bllossom.text.sources import Split, read_records
from bllossom.tokenizer.encode import Encoded, Encoder, add_edges
from bllossom.tokens.shards import SHARDS, ShardRecord, ShardWriter, save_array

BATCH_BYTES = 4_000_000  # text encoded at a time: enough to keep the cores busy, little enough to hold three of
SAMPLE_CHARACTERS = 300


@dataclass(frozen=True)
class Reading:
    """Files of one source that are read in one go."""

    language: str
    source: str
    files: Sequence[Path]
    field: str
    split: Split
    clean: CleaningConfig
    heldout_share: float  # 1 for a source's own held-out file


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
    file: int
    record: int


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
            encoder=self._encoder.name,
        )
        _conserves(mark)
        write_whole(mark_path(work, this.number), mark.model_dump_json().encode())
        return mark

    def _batches(self, start: Position, broken_before: int) -> Iterator[list[Candidate]]:
        """Cleaned documents from `start` on, up to the end of the slice or of the reading."""
        counts, document = self._counts, start.document
        batch: list[Candidate] = []
        batch_bytes = advanced_bytes = 0
        for file in range(start.file, len(self._reading.files)):
            skip = start.record if file == start.file else 0
            path = self._reading.files[file]
            for record in read_records(path, self._reading.field, split=self._reading.split, skip=skip):
                if record.error:
                    self._broken(file, record.number, record.error, broken_before)
                for text in record.texts:
                    candidate = self._candidate(text, document, file, record.number)
                    document += 1
                    if candidate is not None:
                        batch.append(candidate)
                        batch_bytes += len(candidate.data)
                full = counts.read[1] >= self._settings.shard_bytes
                if batch_bytes >= BATCH_BYTES or full:
                    self._advance(counts.read[1] - advanced_bytes)
                    advanced_bytes = counts.read[1]
                    yield batch
                    batch, batch_bytes = [], 0
                if full:
                    self._end = Position(file=file, record=record.number, document=document)
                    return
        self._advance(counts.read[1] - advanced_bytes)
        yield batch
        self._end, self._last = Position(file=len(self._reading.files), document=document), True

    def _candidate(self, text: str, number: int, file: int, record: int) -> Candidate | None:
        data, came_as, reason = self._clean(text)
        self._counts.read[0] += 1
        self._counts.read[1] += came_as
        if reason:
            if self._counts.drop(reason, came_as):
                self._sample(reason, "", file, record, data)
            return None
        return Candidate(data, came_as, number, file, record)

    def _broken(self, file: int, record: int, error: str, broken_before: int) -> None:
        where = f"{self._reading.files[file]}:{record}: {error}"
        if self._settings.on_error == "stop":
            raise BllossomError(f"{where}, or set on_error: skip")
        self._counts.broken += 1
        if self._counts.broken <= SAMPLES:
            self._sample("broken", error, file, record, b"")
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
            batch = self._without(batch, np.isin(numbers, near[reading]), "near duplicate")
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
                self._sample(reason, "", dropped.file, dropped.record, dropped.data)
        return [candidate for candidate, flag in zip(batch, flags.tolist(), strict=True) if not flag]

    def _is_contaminated(self, candidate: Candidate) -> bool:
        assert self._settings.contaminated is not None
        row = self._settings.contaminated(candidate.data)
        if row:
            self._counts.drop("contaminated", candidate.came_as)
            # All of these are listed, not just a sample: they are few, and each is a finding.
            self._sample("contaminated", row, candidate.file, candidate.record, candidate.data)
        return bool(row)

    def _sample(self, reason: str, detail: str, file: int, record: int, text: bytes) -> None:
        shown = text[: 4 * SAMPLE_CHARACTERS].decode(errors="ignore")[:SAMPLE_CHARACTERS]
        name = self._reading.files[file].name
        self._counts.samples.append(Drop(reason=reason, detail=detail, file=name, record=record, text=shown))

    def _keep_back(self, batch: list[Candidate], kept_before: int) -> list[bytes]:
        """Put the held-out share of the batch aside; give the texts to train on."""
        first = kept_before + self._counts.kept[0] - len(batch)
        texts: list[bytes] = []
        for place, candidate in enumerate(batch, first):
            (self._heldout if is_heldout(place, self._reading.heldout_share) else texts).append(candidate.data)
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


def document_hashes(documents: Sequence[bytes]) -> Hashes:
    """What exact duplicates are told by."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, documents), np.uint64, len(documents))


def is_heldout(place: int, share: float) -> bool:
    """Whether the document that is number `place` among the kept ones of its source is held out.

    Evenly spread, and after n documents never more than half a document off n · share.
    """
    return int((place + 1) * share + 0.5) > int(place * share + 0.5)


def _conserves(mark: Mark) -> None:
    """Check that what came in is what was dropped and what was written, in documents and in bytes."""
    tally = mark.tally
    documents = tally.kept[0] + sum(dropped[0] for dropped in tally.dropped.values())
    text = tally.kept[1] + tally.changed + sum(dropped[1] for dropped in tally.dropped.values())
    written = (mark.shard.documents + mark.heldout.documents, mark.shard.bytes + mark.heldout.bytes)
    if tally.read != (documents, text) or written != tally.kept:
        raise AssertionError(f"text was lost or doubled: read {tally.read}, accounted {(documents, text)}, {written=}")
