"""Documents out of anybody's files: JSON Lines, JSON, Parquet, Arrow, CSV, TSV and plain text, packed or in archives.

Files are read as a stream of records. A record is what an error can be pinned to (a line, a row, a paragraph) and what
reading can go on after; it gives one document, or several where the field path branches (`[]`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.paths import shown
from bllossom.text.archives import DAMAGED_ARCHIVE, MEMBER_BITS, Member, members, not_read, seekable, whole
from bllossom.text.compression import DAMAGED, recode, unpack
from bllossom.text.csv_rows import read_csv, read_tsv
from bllossom.text.fields import IDENTITIES, Steps, documents_of, identity_of, parse_field
from bllossom.text.kinds import Kind, file_kind, is_archive
from bllossom.text.locate import locate
from bllossom.text.normalise import normalise
from bllossom.text.readers.columns import ALL, Columns, read_arrow, read_parquet
from bllossom.text.readers.entry import Entry, explain
from bllossom.text.readers.json_values import read_json, read_lines
from bllossom.text.readers.plain_text import Split, read_text, too_long

MAX_DOCUMENT_BYTES = 64_000_000

__all__ = ["RawRecord", "ReadOptions", "Split", "place", "read_documents", "read_normalised", "read_records"]


@dataclass(frozen=True)
class ReadOptions:
    """How the files of a source are read; as its config says."""

    fields: tuple[str, ...] = ("text",)
    split: Split = "blank-line"
    format: Kind | None = None  # None: by the name of each file, or how it begins
    encoding: str = "utf-8"
    skip_missing: bool = False
    max_document_bytes: int = MAX_DOCUMENT_BYTES


class RawRecord(NamedTuple):
    """One line, row or paragraph: its documents, and what is broken in it."""

    number: int  # rising within its file; the line or row is its lower 32 bits, the rest the place in an archive
    texts: tuple[str, ...]
    errors: tuple[str, ...] = ()
    missing: int = 0  # documents that lack the field, where these are skipped
    ids: tuple[str, ...] = ()  # what each document calls itself, "" for nothing; may be left out as a whole
    member: str = ""  # of an archive
    note: str = ""  # something to tell about the file


Read = Callable[..., Iterator[Entry]]


def place(path: Path, record: RawRecord) -> str:
    """Where a record is, to be shown: `file:line`, `archive/file:line`."""
    member = f"/{record.member}" if record.member else ""
    return f"{shown(f'{path}{member}')}:{line_of(record.number)}"


def line_of(number: int) -> int:
    """The line, row or paragraph, from 1, that a record's number stands for."""
    return number % (1 << MEMBER_BITS)


def read_records(
    path: Path, options: ReadOptions = ReadOptions(), *, skip: int = 0, raw: IO[bytes] | None = None
) -> Iterator[RawRecord]:
    """Stream the records of one file with numbers above `skip`; what is broken comes as a record with its errors.

    A `.json` file of one value is one record, and is held in memory. `raw` is the file as opened by a caller who wants
    to see how far reading has come.
    """
    documents = _Documents(options)
    number = skip
    with raw or path.open("rb", buffering=1 << 20) as packed:
        try:
            for record in (
                _archive(path, packed, documents, skip)
                if is_archive(path.name)
                else documents.read(options.format or file_kind(path), unpack(path.name, packed), skip)
            ):
                number = record.number
                yield record
        # Within the with: who passed `raw` may ask it how far reading has come at this record, too.
        except (*DAMAGED, *DAMAGED_ARCHIVE, UnicodeDecodeError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's, not a decoder's
            yield RawRecord(number + 1, (), (_why_not(path, error),))


def _why_not(path: Path, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return explain(error)
    if isinstance(error, DAMAGED_ARCHIVE) and "password" in str(error):
        return "the archive is encrypted; unpack it"
    what = "archive" if is_archive(path.name) else "compressed file"
    return f"the {what} is damaged or cut short from here on ({error}); get it anew"


def read_documents(source: str, options: ReadOptions = ReadOptions()) -> Iterator[str]:
    """Stream the texts of a source, whatever its format.

    Raises:
        BllossomError: nothing is there, or a record is broken; the message names the file and the line.
    """
    for path in locate(source):
        for record in read_records(path, options):
            if record.errors:
                raise BllossomError(f"{place(path, record)}: {record.errors[0]}")
            if record.note:
                say(f"{shown(path)}: {record.note}")
            yield from record.texts


def read_normalised(source: str) -> Iterator[str]:
    """Stream the texts of a source as prepare makes them unless told otherwise: what vocabularies are learned from.

    Raises:
        BllossomError: as `read_documents`.
    """
    return map(normalise, read_documents(source))


class _Documents:
    """Reads the documents of open files."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._fields: list[Steps] = [parse_field(field) for field in options.fields]
        only = self._fields[0] if len(self._fields) == 1 else []
        self._key = only[0] if len(only) == 1 and isinstance(only[0], str) else None
        names = [steps[0] for steps in self._fields if isinstance(steps[0], str)]
        columns = Columns((), (*names, *IDENTITIES)) if options.skip_missing else Columns(names, IDENTITIES)
        if len(names) < len(self._fields):
            columns = ALL  # a path that begins with {} goes through them
        self._readers: dict[Kind, Read] = {
            "jsonl": read_lines,
            "json": read_json,
            "parquet": partial(read_parquet, columns=columns),
            "arrow": partial(read_arrow, columns=columns),
            "csv": read_csv,
            "tsv": read_tsv,
        }

    def read(self, kind: Kind, file: IO[bytes], skip: int) -> Iterator[RawRecord]:
        options = self._options
        file = seekable(file) if kind in ("parquet", "arrow") else recode(file, options.encoding)
        if kind == "text":
            for number, text, error, *_ in read_text(file, options.split, options.max_document_bytes, skip):
                yield RawRecord(number, () if error else (text,), (error,) if error else ())
            return
        key, most = self._key, options.max_document_bytes // 4  # a character has up to four bytes
        for entry in self._readers[kind](file, skip):
            number, value, error, escaped, _ = entry
            if error:
                yield RawRecord(number, (), (error,))
                continue
            text = value.get(key) if key is not None and isinstance(value, dict) else None
            if not isinstance(text, str):
                yield self._record(number, value)
            elif (escaped or len(text) > most) and (problem := _problem(text, options.max_document_bytes)):
                yield RawRecord(number, (), (problem,))
            else:
                yield RawRecord(number, (text,), (), 0, (_name(value),))

    def _record(self, number: int, value: object) -> RawRecord:
        options = self._options
        texts, ids, errors, missing = documents_of(value, self._fields, skip_missing=options.skip_missing)
        problems = [_problem(text, options.max_document_bytes) for text in texts]
        if any(problems):
            kept = [not problem for problem in problems]
            errors = (*errors, *filter(None, problems))
            texts, ids = (tuple(x for x, keep in zip(row, kept, strict=True) if keep) for row in (texts, ids))
        return RawRecord(number, texts, errors, missing, ids)


def _name(value: dict[str, object]) -> str:
    """fields.identity_of, for the key that nearly all have."""
    name = value.get("id")
    return name if isinstance(name, str) else identity_of(value)


def _problem(text: str, max_bytes: int) -> str:
    """What is wrong with a text that JSON lets through: half of an escaped surrogate pair, or its sheer size."""
    try:
        return too_long(max_bytes) if len(text.encode()) > max_bytes else ""
    except UnicodeEncodeError as error:
        return explain(error)


def _archive(path: Path, packed: IO[bytes], documents: _Documents, skip: int) -> Iterator[RawRecord]:
    number, left_out = skip, list[str]()
    skipped, within = divmod(skip, 1 << MEMBER_BITS)
    options = documents._options
    for member in members(path.name, packed, options.format, options.encoding):
        if member.kind is None:
            left_out.append(member.name)
        elif member.number >= skipped:
            base = member.number << MEMBER_BITS
            for record in _member(member, documents, within if member.number == skipped else 0):
                number = base + record.number
                yield record._replace(number=number, member=member.name)
    if left_out:
        yield RawRecord(number + 1, (), note=not_read(left_out))


def _member(member: Member, documents: _Documents, skip: int) -> Iterator[RawRecord]:
    assert member.kind is not None
    file = whole(member.file) if member.kind in ("parquet", "arrow") else member.file
    number = skip
    try:
        for record in documents.read(member.kind, file, skip):
            number = record.number
            yield record
    except UnicodeDecodeError as error:
        yield RawRecord(number + 1, (), (explain(error),))
