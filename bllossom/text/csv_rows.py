"""CSV and TSV files: a header, then a row of text columns each, with the line that it begins at."""

import csv
import io
import sys
from collections.abc import Iterator
from typing import IO

from bllossom.text.readers.entry import NOTHING_BEHIND, Entry, explain


def read_csv(file: IO[bytes], skip: int = 0) -> Iterator[Entry]:
    """Stream the rows of a UTF-8 file, with a byte-order mark or without, as objects.

    Reading goes on behind a row of another length. It ends where the header names a column twice, at a quote that is
    left open or out of place, and at bytes that are no UTF-8, or none of the encoding that it was given as.
    """
    return (entry for entry in _rows(file, csv.excel) if entry.number > skip)


def read_tsv(file: IO[bytes], skip: int = 0) -> Iterator[Entry]:
    """As `read_csv`, with a tab between columns. Quotes are text: the format (IANA's) has no way to quote."""
    return (entry for entry in _rows(file, Tabs) if entry.number > skip)


class Tabs(csv.excel_tab):
    """Columns end at tabs, rows at line ends, whatever else there is."""

    quoting = csv.QUOTE_NONE


def _rows(file: IO[bytes], dialect: type[csv.Dialect]) -> Iterator[Entry]:
    csv.field_size_limit(sys.maxsize)  # Python's own limit of 131,072 characters is less than a long answer
    reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), dialect, strict=True)
    line = 1
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            yield Entry(1, None, _fatal("its first line, the names of the columns, has one twice"))
            return
        while True:
            line = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if not row:
                continue  # an empty line
            if len(row) != len(header):
                yield Entry(line, None, _ragged(len(row), len(header), reader.line_num - line + 1))
            else:
                yield Entry(line, dict(zip(header, row, strict=True)))
    except csv.Error as error:
        yield Entry(line, None, _fatal(f"is not CSV ({error})"))
    except UnicodeDecodeError as error:
        utf8 = error.encoding in ("utf-8", "utf8")
        why = _fatal("is not UTF-8 from here on (convert it with iconv)") if utf8 else explain(error)
        yield Entry(line, None, why)


def _ragged(columns: int, named: int, lines: int) -> str:
    # A quote that is opened by mistake takes in the rows up to the next one: their number tells.
    over = f" over {lines:,} lines" if lines > 1 else ""
    return f"has {columns} columns{over} where the first line names {named}; repair the row"


def _fatal(why: str) -> str:
    return f"{why}; repair the file, {NOTHING_BEHIND}"
