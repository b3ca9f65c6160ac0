"""Files of rows, JSON objects mostly: JSON, JSONL, Parquet and CSV, plain or compressed, each row with its place.

Unlike documents (sources.py), rows are read whole: what a column holds is the caller's matter.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.paths import shown
from bllossom.text.archives import DAMAGED_ARCHIVE, members, not_read, seekable, whole
from bllossom.text.compression import DAMAGED, recode, unpack
from bllossom.text.csv_rows import read_csv, read_tsv
from bllossom.text.kinds import Kind, file_kind, is_archive
from bllossom.text.locate import locate
from bllossom.text.readers.columns import read_arrow, read_parquet
from bllossom.text.readers.entry import Entry, explain
from bllossom.text.readers.json_values import read_lines, values

__all__ = ["Entry", "locate_rows", "place", "read_entries", "read_rows"]


def locate_rows(source: str) -> list[Path]:
    """The files with rows that a source names (see locate.py); plain text below a folder is left out, and said.

    Raises:
        BllossomError: nothing is there, or only plain text.
    """
    found = locate(source)
    files = [file for file in found if is_archive(file.name) or file_kind(file) != "text"]
    if not files:
        raise BllossomError(f"{source}: plain text has no rows; name JSON, JSONL, Parquet or CSV")
    if len(files) < len(found):
        say(f"{source}: {len(found) - len(files):,} file(s) of plain text left out: they have no rows")
    return files


def place(path: Path, entry: Entry) -> str:
    """Where a row is, to be shown: `file:line`, `archive/file:line`."""
    return f"{path}/{entry.member}:{entry.number}" if entry.member else f"{path}:{entry.number}"


def read_entries(path: Path, encoding: str = "utf-8") -> Iterator[Entry]:
    """Stream the rows of a file.

    Reading goes on behind a broken line of JSONL, a row of CSV or TSV of another length and a damaged row group of
    Parquet, and ends at anything else broken. A JSON file is a list of rows, rows one after the other, or lists one
    after the other; JSONL that begins with `[` is read as such lists.

    Raises:
        BllossomError: the file is plain text.
    """
    kind = None if is_archive(path.name) else file_kind(path)
    if kind == "text":
        raise BllossomError(f"{path}: plain text has no rows; name a JSON, JSONL, Parquet, Arrow, CSV or TSV file")
    number = 0
    try:
        with path.open("rb", buffering=1 << 20) as packed:
            opened = unpack(path.name, packed)
            for entry in _archive(path, packed, encoding) if kind is None else _read(kind, opened, encoding):
                number = entry.number
                yield entry
    except UnicodeDecodeError as error:
        yield Entry(number + 1, None, explain(error))
    # An OSError is what the decoders of gzip and Parquet raise, too.
    except (OSError, *DAMAGED, *DAMAGED_ARCHIVE) as error:
        yield Entry(number + 1, None, f"cannot be read from here on ({error}); get the file anew")


def _archive(path: Path, packed: IO[bytes], encoding: str) -> Iterator[Entry]:
    left_out: list[str] = []
    for member in members(path.name, packed, None, encoding):
        if member.kind in (None, "text"):
            left_out.append(member.name)
            continue
        for entry in _read(member.kind, whole(member.file), encoding):
            yield entry._replace(member=member.name)
    if left_out:
        say(f"{shown(path)}: {not_read(left_out)}")


def _read(kind: Kind, file: IO[bytes], encoding: str) -> Iterator[Entry]:
    file = seekable(file) if kind in ("parquet", "arrow") else recode(file, encoding)
    if kind == "jsonl":
        return _jsonl(file)
    if kind == "json":
        return values(file.read())
    if kind in ("csv", "tsv"):
        return read_csv(file) if kind == "csv" else read_tsv(file)
    return read_parquet(file) if kind == "parquet" else read_arrow(file)


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
    of_lists = False  # a list as the first value: whoever joins such files has more of them
    for place, entry in enumerate(read_lines(file)):
        of_lists = of_lists or (place == 0 and isinstance(entry.value, list))
        if of_lists and isinstance(entry.value, list):
            yield from (entry._replace(value=row) for row in entry.value)
        else:
            yield entry
