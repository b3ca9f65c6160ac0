"""One pass over all text, slice by slice: read, clean, drop duplicates, keep some back, encode, write a shard.

A slice is the next `shard_bytes` of text of one source. When its shard is on the disk, a mark says where reading goes
on; a run that was killed reads the marks and goes on after the last one. Everything a slice decides depends on its text
and on the marks before it, so the bytes are the same however often it was killed.

    reading and cleaning (this thread) ──batches──▶ encoding (one thread, all cores inside) ──▶ writing (this thread)
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash
from pydantic import Field

from bllossom.config import Model
from bllossom.corpus.clean import CleaningConfig, make_cleaner
from bllossom.corpus.dedup import SeenHashes
from bllossom.corpus.encode import Encoded, Encoder, add_edges
from bllossom.corpus.shards import SHARDS, ShardRecord, ShardWriter, save_array, write_whole
from bllossom.corpus.sources import Split, read_records
from bllossom.errors import BllossomError

BATCH_BYTES = 4_000_000  # text encoded at a time: enough to keep the cores busy, little enough to hold three of
SAMPLES = 20  # dropped documents kept to be read, for each source and reason
SAMPLE_CHARACTERS = 300


class Position(Model):
    """Where reading goes on."""

    file: int = 0
    record: int = 0  # records of that file already read
    document: int = 0  # documents of the reading already seen, dropped ones among them


class Drop(Model):
    """A document that was left out, as a reader of dropped.jsonl sees it."""

    reason: str
    detail: str = ""
    file: str
    record: int
    text: str


class Tally(Model):
    """What became of the documents of a slice. Bytes are UTF-8 bytes of text."""

    read: tuple[int, int]  # documents, bytes: as they came
    kept: tuple[int, int]  # as they are encoded
    changed: int  # bytes that cleaning took away (or, where negative, put in) inside kept documents
    dropped: dict[str, tuple[int, int]]  # by reason; bytes as they came
    broken: int  # records that could not be read


class Mark(Model):
    """A finished slice."""

    reading: int
    end: Position
    last: bool  # nothing is left of this reading
    shard: ShardRecord
    heldout: ShardRecord
    tally: Tally
    samples: list[Drop]
    encoder: str


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


class Candidate(NamedTuple):
    """A cleaned document, not yet known to be kept."""

    data: bytes
    came_as: int  # bytes before cleaning
    number: int  # within the reading
    file: int
    record: int


@dataclass
class _Counts:
    """The tally while it grows."""

    read: list[int] = field(default_factory=lambda: [0, 0])
    kept: list[int] = field(default_factory=lambda: [0, 0])
    changed: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    broken: int = 0
    samples: list[Drop] = field(default_factory=list)

    def drop(self, reason: str, came_as: int) -> bool:
        """Count a document that is left out; True while samples of this reason are wanted."""
        tally = self.dropped.setdefault(reason, [0, 0])
        tally[0] += 1
        tally[1] += came_as
        return tally[0] <= SAMPLES

    def tally(self) -> Tally:
        return Tally(
            read=(self.read[0], self.read[1]),
            kept=(self.kept[0], self.kept[1]),
            changed=self.changed,
            dropped={reason: (documents, text) for reason, (documents, text) in sorted(self.dropped.items())},
            broken=self.broken,
        )


class Progress(Model):
    """All marks of a work folder, in order."""

    marks: list[Mark] = Field(default_factory=list)

    def of(self, reading: int) -> list[Mark]:
        return [mark for mark in self.marks if mark.reading == reading]


def read_marks(work: Path) -> Progress:
    """The finished slices of a work folder."""
    return Progress(marks=[Mark.model_validate_json(path.read_bytes()) for path in sorted(work.glob("*.mark.json"))])


def run_slices(
    readings: Sequence[Reading],
    settings: Settings,
    choose: Callable[[Reading], Encoder],
    folder: Path,
    work: Path,
    advance: Callable[[int], None],
) -> Progress:
    """Go through all readings from where the marks in `work` end; `advance` is told the bytes of text read.

    Raises:
        BllossomError: a record is broken (or too many are), or a source has no text.
    """
    done = read_marks(work)
    seen = SeenHashes()
    for number, mark in enumerate(done.marks):
        seen.add(np.load(work / f"{number:05d}.hashes.npy"))
        advance(mark.tally.read[1])
    marks = list(done.marks)
    with ThreadPoolExecutor(1) as pool:
        for number, reading in enumerate(readings):
            mine = done.of(number)
            if mine and mine[-1].last:
                continue
            encoder = choose(reading)
            while not (mine and mine[-1].last):
                maker = _SliceMaker(reading, number, settings, encoder, seen, pool, advance)
                broken = sum(mark.tally.broken for mark in marks)
                mark = maker.make(folder, work, len(marks), mine, broken)
                marks.append(mark)
                mine.append(mark)
    return Progress(marks=marks)


class _SliceMaker:
    """Makes one slice."""

    def __init__(
        self,
        reading: Reading,
        number: int,
        settings: Settings,
        encoder: Encoder,
        seen: SeenHashes,
        pool: ThreadPoolExecutor,
        advance: Callable[[int], None],
    ) -> None:
        self._reading, self._number, self._settings, self._encoder = reading, number, settings, encoder
        self._seen, self._pool, self._advance = seen, pool, advance
        self._clean = make_cleaner(reading.clean)
        self._counts = _Counts()
        self._hashes: list[np.ndarray] = []
        self._heldout: list[bytes] = []
        self._pieces = np.zeros(settings.pieces, np.int64)
        self._end, self._last = Position(), False

    def make(self, folder: Path, work: Path, slice_number: int, before: Sequence[Mark], broken: int) -> Mark:
        """Read, encode and write the slice after `before`, and mark it."""
        start = before[-1].end if before else Position()
        kept_before = sum(mark.tally.kept[0] for mark in before)
        # A source's own held-out file gives no training shard: its empty one stays in the work folder.
        root = folder if self._reading.heldout_share < 1 else work
        file = f"{SHARDS}/{self._reading.language}/{self._reading.source}/{len(before):05d}"
        writer = ShardWriter(root, file, self._settings.dtype)
        waiting: deque[tuple[Future[Encoded], list[int]]] = deque()
        for batch in self._batches(start, broken):
            texts = self._keep_back(self._unique(batch), kept_before)
            waiting.append((self._pool.submit(self._encode, texts), [len(text) for text in texts]))
            # One batch is being encoded while the next is read: more would only take memory.
            while len(waiting) > 1:
                self._write(writer, *waiting.popleft())
        while waiting:
            self._write(writer, *waiting.popleft())
        shard = writer.finish()
        heldout = self._write_heldout(work, slice_number)
        save_array(work / f"{slice_number:05d}.hashes.npy", np.concatenate([np.empty(0, np.uint64), *self._hashes]))
        save_array(work / f"{slice_number:05d}.pieces.npy", self._pieces)
        mark = Mark(
            reading=self._number,
            end=self._end,
            last=self._last,
            shard=shard,
            heldout=heldout,
            tally=self._counts.tally(),
            samples=self._counts.samples,
            encoder=self._encoder.name,
        )
        _conserves(mark)
        write_whole(work / f"{slice_number:05d}.mark.json", mark.model_dump_json().encode())
        return mark

    def _batches(self, start: Position, broken_before: int) -> Iterator[list[Candidate]]:
        """Cleaned documents from `start` on, up to the end of the slice or of the reading."""
        counts, document = self._counts, start.document
        batch: list[Candidate] = []
        batch_bytes = told = 0
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
                    self._advance(counts.read[1] - told)
                    told = counts.read[1]
                    yield batch
                    batch, batch_bytes = [], 0
                if full:
                    self._end = Position(file=file, record=record.number, document=document)
                    return
        self._advance(counts.read[1] - told)
        yield batch
        self._end, self._last = Position(file=len(self._reading.files), document=document), True

    def _candidate(self, text: str, number: int, file: int, record: int) -> Candidate | None:
        cleaned, reason = self._clean(text)
        data = cleaned.encode()
        came_as = len(data) if cleaned is text else len(text.encode())
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

    def _unique(self, batch: list[Candidate]) -> list[Candidate]:
        """Drop exact duplicates, near duplicates and contaminated documents, in this order; count what is kept."""
        if self._settings.deduplicate:
            hashes = np.fromiter((xxhash.xxh3_64_intdigest(c.data) for c in batch), np.uint64, len(batch))
            new = self._seen.add(hashes)
            self._hashes.append(hashes[new])
            batch = self._without(batch, ~new, "duplicate")
        near = self._settings.near_duplicates
        if near is not None:
            numbers = np.asarray([candidate.number for candidate in batch], np.int64)
            batch = self._without(batch, np.isin(numbers, near[self._number]), "near duplicate")
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

    def _write_heldout(self, work: Path, slice_number: int) -> ShardRecord:
        writer = ShardWriter(work, f"{slice_number:05d}.heldout", self._settings.dtype)
        encoded = self._encode(self._heldout)
        writer.add(encoded.ids, encoded.lengths, [len(text) for text in self._heldout])
        with (work / f"{slice_number:05d}.heldout.jsonl").open("w", encoding="utf8") as file:
            for text in self._heldout:
                file.write(json.dumps({"text": text.decode()}, ensure_ascii=False) + "\n")
        return writer.finish()


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
