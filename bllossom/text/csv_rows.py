"""CSV and TSV files: a header, then a row of text columns each, with the line that it begins at."""

import csv
import io
import sys
from collections.abc import Iterator
from typing import IO


class CsvError(ValueError):
    """What is wrong with a CSV file, and the line it is wrong at. Nothing behind it can be read."""

    def __init__(self, line: int, why: str) -> None:
        self.line = line
        super().__init__(f"{why}; repair the file")


def read_csv(file: IO[bytes]) -> Iterator[tuple[int, dict[str, str]]]:
    """Stream (line, row) pairs of a UTF-8 file, with a byte-order mark or without.

    Raises:
        CsvError: the header names a column twice, a row is of another length, a quote is left open, a byte is no UTF-8.
    """
    yield from _rows(file, csv.excel)


def read_tsv(file: IO[bytes]) -> Iterator[tuple[int, dict[str, str]]]:
    """As `read_csv`, with a tab between columns. Quotes are text: the format (IANA's) has no way to quote.

    Raises:
        CsvError: as there.
    """
    yield from _rows(file, Tabs)


class Tabs(csv.excel_tab):
    """Columns end at tabs, rows at line ends, whatever else there is."""

    quoting = csv.QUOTE_NONE


def _rows(file: IO[bytes], dialect: type[csv.Dialect]) -> Iterator[tuple[int, dict[str, str]]]:
    csv.field_size_limit(sys.maxsize)  # Python's own limit of 131,072 characters is less than a long answer
    reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), dialect, strict=True)
    line = 1
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise CsvError(1, "its first line, the names of the columns, has one twice")
        while True:
            line = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if not row:
                continue  # an empty line
            if len(row) != len(header):
                raise CsvError(line, f"has {len(row)} columns where the first line names {len(header)}")
            yield line, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise CsvError(line, f"is not CSV ({error})") from error
    except UnicodeDecodeError as error:
        raise CsvError(line, "is not UTF-8 from here on (convert it with iconv)") from error
