"""Files of rows, JSON objects mostly: JSON, JSONL, Parquet and CSV, plain or compressed, each row with its place.

Unlike documents (sources.py), rows are read whole: what a column holds is the caller's matter.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.text.compression import DAMAGED, unpack
from bllossom.text.csv_rows import CsvError, read_csv
from bllossom.text.sources import PARQUET_ROWS, explain, file_format, locate


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a file, or why it cannot be read."""

    number: int  # 1-based: the line that it begins at, or the row of a Parquet file
    value: Any  # plain Python; None where there is an error
    error: str = ""


def locate_rows(source: str) -> list[Path]:
    """The files with rows that a source names (see sources.locate); plain text below a folder is left out, and said.

    Raises:
        BllossomError: nothing is there, or only plain text.
    """
    found = locate(source)
    files = [file for file in found if file_format(file) != "text"]
    if not files:
        raise BllossomError(f"{source}: plain text has no rows; name JSON, JSONL, Parquet or CSV")
    if len(files) < len(found):
        say(f"{source}: {len(found) - len(files):,} file(s) of plain text left out: they have no rows")
    return files


def read_entries(path: Path) -> Iterator[Entry]:
    """Stream the rows of a file. Reading goes on behind a broken line of JSONL, and ends at anything else broken.

    A JSON file is a list of rows, or rows one after the other; JSONL that begins with `[` is such a list.

    Raises:
        BllossomError: the file is plain text.
    """
    kind = file_format(path)
    if kind == "text":
        raise BllossomError(f"{path}: plain text has no rows; name a JSON, JSONL, Parquet or CSV file")
    number = 0
    try:
        with path.open("rb", buffering=1 << 20) as packed:
            file = unpack(path, packed)
            for entry in {"jsonl": _jsonl, "json": _json, "parquet": _parquet, "csv": _csv}[kind](file):
                number = entry.number
                yield entry
    # An OSError is what the decoders of gzip and Parquet raise, too.
    except (OSError, *DAMAGED) as error:
        yield Entry(number + 1, None, f"cannot be read from here on ({error}); get the file anew")


def read_rows(path: Path) -> Iterator[Any]:
    """Stream the rows of a file as plain Python values.

    Raises:
        BllossomError: the file is broken, or plain text.
    """
    for entry in read_entries(path):
        if entry.error:
            why, _, _ = entry.error.partition(";")
            raise BllossomError(f"{path}:{entry.number}: cannot be read ({why}); repair it, or name another file")
        yield entry.value


def _jsonl(file: IO[bytes]) -> Iterator[Entry]:
    begun = False
    for number, line in enumerate(file, 1):
        if line.isspace():
            continue
        if not begun and line.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            yield from _values(line + file.read(), number)
            return
        begun = True
        try:
            # Decoded first: json.loads on bytes would let surrogates through that UTF-8 forbids.
            yield Entry(number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8")))
        except (ValueError, RecursionError) as error:
            yield Entry(number, None, explain(error))


def _json(file: IO[bytes]) -> Iterator[Entry]:
    yield from _values(file.read(), 1)


def _values(data: bytes, line: int) -> Iterator[Entry]:
    """The elements of a JSON list, or JSON values one after the other, with the lines they begin at."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Entry(line + data.count(b"\n", 0, error.start), None, "is not UTF-8 here; convert the file with iconv")
        return
    decoder, place, counted = json.JSONDecoder(), _skip(text, 0), 0
    listed = text[place : place + 1] == "["
    place = _skip(text, place + 1) if listed else place
    while place < len(text) and not (listed and text[place] == "]"):
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield Entry(line, None, explain(error))
            return
        yield Entry(line, value)
        place = _skip(text, place)
        if listed and text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif listed and text[place : place + 1] != "]":
            yield Entry(line, None, "is not followed by a comma or the end of the list; repair the file")
            return


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _parquet(file: IO[bytes]) -> Iterator[Entry]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(PARQUET_ROWS):
            for value in batch.to_pylist():
                number += 1
                yield Entry(number, value)
    except pyarrow.ArrowException as error:
        yield Entry(number + 1, None, f"is not Parquet that can be read from here on ({error}); get the file anew")


def _csv(file: IO[bytes]) -> Iterator[Entry]:
    try:
        for number, row in read_csv(file):
            yield Entry(number, row)
    except CsvError as error:
        yield Entry(error.line, None, str(error))
