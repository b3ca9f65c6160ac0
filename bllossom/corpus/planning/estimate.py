"""What a source holds and what preparing it will take, from a sample of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bllossom.corpus.clean import make_cleaner
from bllossom.corpus.dedup import EXACT_BYTES_PER_DOCUMENT
from bllossom.corpus.near_duplicates import NearDuplicatesConfig, bytes_per_document
from bllossom.corpus.readings import Reading
from bllossom.text.archives import seekable
from bllossom.text.compression import unpack
from bllossom.text.kinds import is_archive, kind_of_file
from bllossom.text.sources import place, read_records
from bllossom.tokenizer.encode import Encoder

SAMPLE_FILES = 8
SAMPLE_BYTES = 16_000_000  # of text, from all sampled files together
ENCODED_BYTES = 2_000_000  # of the sample, which tells tokens and time
LARGE_BYTES = 16_000_000  # of plain text without a blank line
INDEX_BYTES = 8  # of the document index, for each document


@dataclass(frozen=True)
class Estimate:
    """What one reading holds. All but `files` and `file_bytes` are scaled up from the sample, unless `exact`."""

    name: str
    files: int
    file_bytes: int
    text_bytes: int
    documents: int
    tokens: int | None  # None where there is no tokenizer yet
    seconds: float | None
    disk_bytes: int | None
    exact: bool  # the sample was all of it
    broken: str = ""  # the first record of the sample that cannot be read
    large_documents: tuple[Path, ...] = ()  # files of the sample that are one document each, of plain text


def estimate_reading(
    reading: Reading, encoder: Encoder | None, itemsize: int, sample_bytes: int = SAMPLE_BYTES
) -> Estimate:
    """Read up to `sample_bytes` of text, spread over the files, and scale up by the share of them that was read."""
    step = max(1, len(reading.files) // SAMPLE_FILES)
    sampled = reading.files[::step][:SAMPLE_FILES]
    texts: list[str] = []
    consumed = 0
    broken = ""
    large: list[Path] = []
    started = time.monotonic()
    for file in sampled:
        got, read, error = _sample_file(file, reading, sample_bytes // len(sampled))
        broken = broken or error
        consumed += read
        if len(got) == 1 and reading.options.split == "blank-line" and read >= LARGE_BYTES and _is_text(reading, file):
            large.append(file)
        texts += got
    reading_seconds = time.monotonic() - started
    text_bytes = sum(len(text.encode()) for text in texts)
    file_bytes = sum(file.stat().st_size for file in reading.files)
    scale = file_bytes / consumed if consumed else 0.0
    documents = round(len(texts) * scale)
    tokens = seconds = None
    if encoder is not None and texts:
        tokens_a_byte, seconds_a_byte = _try(encoder, reading, texts)
        tokens = round(text_bytes * scale * tokens_a_byte) + 2 * documents
        seconds = scale * (reading_seconds + text_bytes * seconds_a_byte)
    return Estimate(
        name=f"{reading.language}/{reading.source}{' held out' if reading.heldout_share == 1 else ''}",
        files=len(reading.files),
        file_bytes=file_bytes,
        text_bytes=round(text_bytes * scale),
        documents=documents,
        tokens=tokens,
        seconds=seconds,
        disk_bytes=tokens * itemsize + documents * INDEX_BYTES if tokens is not None else None,
        exact=consumed == file_bytes,
        broken=broken,
        large_documents=tuple(large),
    )


def _is_text(reading: Reading, file: Path) -> bool:
    return (reading.options.format or kind_of_file(file)) == "text"


def _try(encoder: Encoder, reading: Reading, texts: Sequence[str]) -> tuple[float, float]:
    """Tokens, and seconds of cleaning and encoding, for each byte of text."""
    clean = make_cleaner(reading.clean)
    cleaned: list[bytes] = []
    size = 0
    started = time.monotonic()
    # Every so many: the first documents may be of another kind than the last.
    step = max(1, sum(map(len, texts)) // ENCODED_BYTES)
    for text in texts[::step]:
        data, came_as, _ = clean(text)
        cleaned.append(data)
        size += came_as
    tokens = len(encoder.encode(cleaned).ids)
    return tokens / size if size else 0.0, (time.monotonic() - started) / size if size else 0.0


def _sample_file(file: Path, reading: Reading, limit: int) -> tuple[list[str], int, str]:
    """The first texts of a file, how many of its bytes they took, and what is wrong with the first broken record.

    Decompression reads ahead. Where it asks for more, all before has been used up: only there bytes and texts agree.
    """
    texts: list[str] = []
    size = agreed_texts = agreed_bytes = reached = 0
    broken = ""
    kind = None if is_archive(file.name) else reading.options.format or kind_of_file(file)
    with file.open("rb") as raw:
        for record in read_records(file, reading.options, raw=raw):
            if record.errors:
                broken = broken or f"{place(file, record)}: {record.errors[0]}"
            if not record.texts:
                continue  # a damaged file may not even tell how many rows it has
            if kind == "parquet":
                position = file.stat().st_size * (record.number - 1) // _parquet_rows(file)
            else:
                position = raw.tell()
            if position != reached:
                agreed_texts, agreed_bytes, reached = len(texts), reached, position
            if size >= limit and agreed_texts:
                return texts[:agreed_texts], agreed_bytes, broken
            texts += record.texts
            size += sum(len(text.encode()) for text in record.texts)
    return texts, file.stat().st_size, broken


@lru_cache(maxsize=1)
def _parquet_rows(file: Path) -> int:
    import pyarrow.parquet

    with file.open("rb") as packed:  # pyarrow itself takes no name that is not UTF-8
        return int(pyarrow.parquet.ParquetFile(seekable(unpack(file.name, packed))).metadata.num_rows)


def table(estimates: Sequence[Estimate]) -> list[str]:
    """Estimates as lines to print, with their sum."""
    if not estimates:
        return []
    lines = [
        f"{'':32} {'files':>7} {'on disk':>10} {'text':>10} {'documents':>12} {'tokens':>15} {'time':>8} {'shards':>10}"
    ]
    lines += [_line(estimate) for estimate in estimates]
    if len(estimates) > 1:
        lines.append(_line(_sum(estimates)))
    if not all(estimate.exact for estimate in estimates):
        lines.append("~ is scaled up from a sample of the files")
    return lines + [f"broken: {estimate.broken}" for estimate in estimates if estimate.broken]


def _sum(estimates: Sequence[Estimate]) -> Estimate:
    known = [e for e in estimates if e.tokens is not None and e.seconds is not None and e.disk_bytes is not None]
    all_known = len(known) == len(estimates)
    return Estimate(
        name="all",
        files=sum(e.files for e in estimates),
        file_bytes=sum(e.file_bytes for e in estimates),
        text_bytes=sum(e.text_bytes for e in estimates),
        documents=sum(e.documents for e in estimates),
        tokens=sum(e.tokens or 0 for e in known) if all_known else None,
        seconds=sum(e.seconds or 0 for e in known) if all_known else None,
        disk_bytes=sum(e.disk_bytes or 0 for e in known) if all_known else None,
        exact=all(e.exact for e in estimates),
    )


def _line(estimate: Estimate) -> str:
    about = "" if estimate.exact else "~"
    tokens = "?" if estimate.tokens is None else f"{about}{estimate.tokens:,}"
    seconds = "?" if estimate.seconds is None else f"~{estimate.seconds:,.0f} s"
    disk = "?" if estimate.disk_bytes is None else f"{about}{estimate.disk_bytes / 1e6:,.1f} MB"
    text = f"{about}{estimate.text_bytes / 1e6:,.1f} MB"
    return (
        f"{estimate.name:32} {estimate.files:7,} {estimate.file_bytes / 1e6:7,.1f} MB {text:>10} "
        f"{about + format(estimate.documents, ','):>12} {tokens:>15} {seconds:>8} {disk:>10}"
    )


def memory_lines(
    estimates: Sequence[Estimate], deduplicate: bool, near_duplicates: NearDuplicatesConfig | None
) -> list[str]:
    """What grows with the corpus: the hashes that deduplication remembers."""
    documents = sum(estimate.documents for estimate in estimates)
    needs = {}
    if deduplicate and documents:
        needs["exact deduplication"] = EXACT_BYTES_PER_DOCUMENT
    if near_duplicates and documents:
        needs["near duplicates"] = bytes_per_document(near_duplicates)
    return [
        f"{what}: up to {each} bytes of memory a document, {documents * each / 1e6:,.1f} MB"
        for what, each in needs.items()
    ]
