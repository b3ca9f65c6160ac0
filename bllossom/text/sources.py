"""Where text comes from: JSONL (plain, .gz, .zst), Parquet, CSV, JSON, plain text; a path, folder, glob or hub.

Files are read as a stream of records. A record is what an error can be pinned to (a line, a row, a paragraph) and what
reading can go on after; it gives one document, or several where the field path branches (`[]`).
"""

import glob
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.hub import is_hub_id, parse
from bllossom.text.compression import COMPRESSIONS, DAMAGED, unpack
from bllossom.text.csv_rows import CsvError, read_csv
from bllossom.text.fields import Each, extract, parse_field

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet", ".csv": "csv", ".txt": "text"}
KNOWN = f"{', '.join(FORMATS)} (or those with {' or '.join(COMPRESSIONS)})"
LEFT_OUT_NAMES = 3  # of a folder's files that are not read, told by name
HUB_SETTINGS = ("dataset_dict.json", "state.json", "*_info.json", "*_infos.json")  # of a data set: not text
PARQUET_ROWS = 256  # rows decoded at a time: bounds memory, costs nothing measurable
Split = Literal["blank-line", "file"]


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One line, row or paragraph: its documents, or why it cannot be read."""

    number: int  # 1-based within its file
    texts: tuple[str, ...]
    error: str = ""


def locate(source: str, *, quiet: bool = False) -> list[Path]:
    """The files a source names, in a fixed order: a file, a folder (searched below), a glob, or a hub data set.

    Which files of a folder are left out, because their names end in no known way, is said unless `quiet`.

    Raises:
        BllossomError: nothing is there, or nothing of a known format.
    """
    path = Path(source)
    if path.is_file():
        found = [path]
    elif path.is_dir():
        files = {file for file in path.rglob("*") if file.is_file()}
        found = [file for file in files if _ending(file) in FORMATS]
        if not quiet:
            _tell_left_out(path, [file.relative_to(path) for file in files.difference(found)])
    elif is_hub_id(source):
        found = _download(source)
    else:
        found = [Path(match) for match in glob.glob(source, recursive=True) if Path(match).is_file()]  # noqa: PTH207
    if not found:
        what = "no file of a known format in" if path.is_dir() or is_hub_id(source) else "no such file:"
        raise BllossomError(f"{what} {source}; name a file, a folder, a glob or a hub data set (owner/name)")
    for file in found:
        file_format(file)
    return sorted(found)


def file_format(path: Path) -> str:
    """`jsonl`, `json`, `parquet` or `text`, by the file's name.

    Raises:
        BllossomError: the name ends in none of the known ways.
    """
    if _ending(path) not in FORMATS:
        raise BllossomError(f"{path}: unknown format; rename it to end in one of {KNOWN}")
    return FORMATS[_ending(path)]


def read_records(
    path: Path, field: str = "text", *, split: Split = "blank-line", skip: int = 0, raw: IO[bytes] | None = None
) -> Iterator[RawRecord]:
    """Stream the records of one file after the first `skip`; what is broken comes as a record with its error.

    `split` says how a plain text file parts into documents. A `.json` file is one record, and is held in memory. `raw`
    is the file as opened by a caller who wants to see how far reading has come.
    """
    kind = file_format(path)
    steps = parse_field(field)
    read = {
        "jsonl": partial(_read_jsonl, steps=steps),
        "json": partial(_read_json, steps=steps),
        "parquet": partial(_read_parquet, field=field, steps=steps),
        "csv": partial(_read_csv, steps=steps),
        "text": partial(_read_text, split=split),
    }[kind]
    number = skip
    with raw or path.open("rb", buffering=1 << 20) as packed:
        try:
            for record in read(unpack(path, packed), skip=skip):
                number = record.number
                yield record
        # Within the with: who passed `raw` may ask it how far reading has come at this record, too.
        except DAMAGED as error:
            yield RawRecord(
                number + 1, (), f"the compressed file is damaged or cut short from here on ({error}); get it anew"
            )


def read_documents(source: str, field: str = "text", *, split: Split = "blank-line") -> Iterator[str]:
    """Stream the texts of a source, whatever its format.

    Raises:
        BllossomError: nothing is there, or a record is broken; the message names the file and the line.
    """
    for path in locate(source):
        for record in read_records(path, field, split=split):
            if record.error:
                raise BllossomError(f"{path}:{record.number}: {record.error}")
            yield from record.texts


def _read_jsonl(file: IO[bytes], *, steps: list[str | Each], skip: int) -> Iterator[RawRecord]:
    key = steps[0] if len(steps) == 1 else None
    for number, line in enumerate(file, 1):
        if number <= skip or line.isspace():
            continue
        try:
            # Decoded first: json.loads on bytes would let surrogates through that UTF-8 forbids.
            value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            text = value.get(key) if key is not None and isinstance(value, dict) else None
            texts = (text,) if isinstance(text, str) else tuple(extract(value, steps))
            if b"\\u" in line:
                _refuse_surrogates(texts)
            yield RawRecord(number, texts)
        except (ValueError, RecursionError) as error:
            yield RawRecord(number, (), explain(error))


def _read_json(file: IO[bytes], *, steps: list[str | Each], skip: int) -> Iterator[RawRecord]:
    if skip:
        return
    try:
        texts = tuple(extract(json.loads(file.read().decode("utf-8-sig")), steps))
        _refuse_surrogates(texts)
        yield RawRecord(1, texts)
    except (ValueError, RecursionError) as error:
        yield RawRecord(1, (), explain(error))


def _refuse_surrogates(texts: tuple[str, ...]) -> None:
    """Raise UnicodeEncodeError where half of a surrogate pair was escaped: JSON lets it through, UTF-8 does not."""
    for text in texts:
        text.encode()


def _read_parquet(file: IO[bytes], *, field: str, steps: list[str | Each], skip: int) -> Iterator[RawRecord]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        yield RawRecord(1, (), f"is not a Parquet file that can be read ({error}); get it anew")
        return
    columns = table.schema_arrow.names
    if steps[0] not in columns:
        yield RawRecord(1, (), f"no field {field!r}; there are: {', '.join(columns)}; set field to one of them")
        return
    first = 0
    for group in range(table.num_row_groups):
        end = first + table.metadata.row_group(group).num_rows
        if end > skip:
            yield from _read_row_group(table, group, first, steps=steps, skip=skip)
        first = end


def _read_row_group(table: Any, group: int, number: int, *, steps: list[str | Each], skip: int) -> Iterator[RawRecord]:
    """The rows of a group, the first of them number + 1. The groups behind a damaged one can still be read."""
    import pyarrow

    try:
        for batch in table.iter_batches(PARQUET_ROWS, row_groups=[group], columns=[steps[0]]):
            for value in batch.column(0):
                number += 1
                if number > skip:
                    yield _parquet_record(number, value, steps[1:])
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the decoder's
        if number >= skip:
            yield RawRecord(number + 1, (), f"the row group is damaged from here on ({error}); get the file anew")


def _parquet_record(number: int, value: Any, steps: list[str | Each]) -> RawRecord:
    try:
        plain = value.as_py()
        plain = plain.decode("utf-8") if isinstance(plain, bytes) else plain
        return RawRecord(number, tuple(extract(plain, steps)))
    except ValueError as error:
        return RawRecord(number, (), explain(error))


def _read_csv(file: IO[bytes], *, steps: list[str | Each], skip: int) -> Iterator[RawRecord]:
    try:
        for number, row in read_csv(file):
            if number > skip:
                yield _csv_record(number, row, steps)
    except CsvError as error:
        yield RawRecord(error.line, (), str(error))


def _csv_record(number: int, row: dict[str, str], steps: list[str | Each]) -> RawRecord:
    try:
        return RawRecord(number, tuple(extract(row, steps)))
    except ValueError as error:
        return RawRecord(number, (), explain(error))


def _read_text(file: IO[bytes], *, split: Split, skip: int) -> Iterator[RawRecord]:
    parts = _paragraphs(file) if split == "blank-line" else iter([file.read()])
    for number, part in enumerate(parts, 1):
        if number <= skip:
            continue
        try:
            yield RawRecord(number, (part.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n"),))
        except ValueError as error:
            yield RawRecord(number, (), explain(error))


def _paragraphs(file: IO[bytes]) -> Iterator[bytes]:
    lines: list[bytes] = []
    for line in file:
        if not line.isspace():
            lines.append(line)
        elif lines:
            yield b"".join(lines)
            lines = []
    if lines:
        yield b"".join(lines)


def _ending(path: Path) -> str:
    return (Path(path.stem) if path.suffix in COMPRESSIONS else path).suffix


def _tell_left_out(folder: Path, files: list[Path]) -> None:
    # What is hidden is no text that anybody put there: .git, .DS_Store, a download's .cache.
    names = sorted(str(file) for file in files if not any(part.startswith(".") for part in file.parts))
    if names:
        first = ", ".join(names[:LEFT_OUT_NAMES]) + (", …" if len(names) > LEFT_OUT_NAMES else "")
        say(f"{folder}: {len(names):,} file(s) left out: {first}; what is text must end in one of {KNOWN}")


def _download(source: str) -> list[Path]:
    """The files of a hub data set `owner/name`, or of one folder in it, `hf://datasets/owner/name/folder`;
    at the revision behind an @, where there is one.

    All of a known format but those that the `datasets` library keeps its own settings in, told by their names.
    """
    from huggingface_hub import snapshot_download

    name, revision, folder_in_it = parse(source)
    within = f"{folder_in_it}/" if folder_in_it else ""
    patterns = [f"{within}*{suffix}{packed}" for suffix in FORMATS for packed in ("", *COMPRESSIONS)]
    try:
        folder = snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except Exception as error:  # the hub client raises a dozen kinds for "cannot be had"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BllossomError(f"{source}: not here and not from the hub ({reason}); name a path, or go online") from error
    files = [file for file in (Path(folder) / within).rglob("*") if file.is_file() and _ending(file) in FORMATS]
    return [file for file in files if not any(file.match(pattern) for pattern in HUB_SETTINGS)]


def explain(error: Exception) -> str:
    """Why a record cannot be read and what to do, for what decoding it raised."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} of the record is not UTF-8; convert the file with iconv"
    if isinstance(error, UnicodeEncodeError):
        return "an escaped half of a surrogate pair is no character; repair it"
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON ({error.msg.removesuffix(' at')} at column {error.colno}); repair it"
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply in it to be read; repair it"
    if type(error) is ValueError and "set_int_max_str_digits" in str(error):
        return f"a number in it has more than {sys.get_int_max_str_digits():,} digits; shorten it, or put it in quotes"
    return str(error)
