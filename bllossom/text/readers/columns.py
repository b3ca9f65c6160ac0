"""Parquet and Arrow files, row by row; of Parquet only the columns that are asked for are decoded."""

from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

from bllossom.text.readers.entry import Entry

ROWS = 256  # decoded at a time: bounds memory, costs nothing measurable
ARROW_FILE = b"ARROW1"  # else it is Arrow's stream format, which save_to_disk writes


class Columns(NamedTuple):
    """Which columns are read: all where there are none `needed`, else these and those of `wanted` that a file has."""

    needed: Sequence[str] = ()
    wanted: Sequence[str] = ()

    def of(self, there: Sequence[str]) -> list[str]:
        """Of a file's columns those to be read.

        Raises:
            ValueError: a needed one is not there.
        """
        for name in self.needed:
            if name not in there:
                raise ValueError(f"no field {name!r}; there are: {', '.join(there)}; set field to one of them")
        found = [name for name in there if name in self.needed or name in self.wanted]
        return found or list(there[: 1 if self.wanted else None])  # one at least, so that rows can be counted


ALL = Columns()


def read_parquet(file: IO[bytes], skip: int = 0, columns: Columns = ALL) -> Iterator[Entry]:
    """The rows of a Parquet file, as objects. Behind a damaged row group reading goes on at the next one."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        yield Entry(1, None, f"is not a Parquet file that can be read ({error}); get it anew")
        return
    try:
        wanted = columns.of(table.schema_arrow.names)
    except ValueError as error:
        yield Entry(1, None, str(error))
        return
    first = 0
    for group in range(table.num_row_groups):
        end = first + table.metadata.row_group(group).num_rows
        if end > skip:
            yield from _row_group(table, group, first, wanted, skip)
        first = end


def _row_group(table: Any, group: int, number: int, columns: list[str], skip: int) -> Iterator[Entry]:
    """The rows of a group, the first of them number + 1. The groups behind a damaged one can still be read."""
    import pyarrow

    try:
        for batch in table.iter_batches(ROWS, row_groups=[group], columns=columns):
            yield from _rows(batch, number, skip)
            number += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the decoder's
        if number >= skip:
            yield Entry(number + 1, None, f"the row group is damaged from here on ({error}); get the file anew")


def read_arrow(file: IO[bytes], skip: int = 0, columns: Columns = ALL) -> Iterator[Entry]:
    """The rows of an Arrow file of either format, as objects."""
    import pyarrow.ipc

    number = 0
    try:
        begins = file.read(len(ARROW_FILE))
        file.seek(0)
        for batch in _arrow_batches(pyarrow.ipc, file, begins):
            try:
                names = columns.of(batch.schema.names)
            except ValueError as error:
                yield Entry(1, None, str(error))
                return
            selected = batch.select(names)
            for start in range(0, batch.num_rows, ROWS):
                yield from _rows(selected.slice(start, ROWS), number + start, skip)
            number += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if number >= skip:
            yield Entry(number + 1, None, f"is not Arrow that can be read from here on ({error}); get the file anew")


def _arrow_batches(ipc: Any, file: IO[bytes], begins: bytes) -> Iterator[Any]:
    if begins == ARROW_FILE:
        reader = ipc.open_file(file)
        yield from (reader.get_batch(at) for at in range(reader.num_record_batches))
    else:
        yield from ipc.open_stream(file)


def _rows(batch: Any, before: int, skip: int) -> Iterator[Entry]:
    """The rows of a batch, the first of them before + 1."""
    if before + batch.num_rows <= skip:
        return
    names = batch.schema.names
    for number, cells in enumerate(zip(*batch.columns, strict=True), before + 1):
        if number > skip:
            yield Entry(number, {name: _plain(cell) for name, cell in zip(names, cells, strict=True)})


def _plain(cell: Any) -> Any:
    value = cell.as_py()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return value
