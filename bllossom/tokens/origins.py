"""Where documents come from: for each shard a Parquet file with a row for each of its documents, in their order.

    logs/documents/shards/ko/news/00000.parquet     file, record (line, row or paragraph, from 1),
    logs/documents/heldout/ko/news.parquet          part (of the record, from 0), id (its own name, where it has one)

They lie below logs/, where nothing counts for the fingerprint: the same text from another place gives the same tokens.
Folders that were prepared before have none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bllossom.errors import BllossomError

FOLDER = "logs/documents"
# Most files have a document a line, and ids that count up: about a byte a document in all.
WRITING: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["file", "part"],
    "column_encoding": {"record": "DELTA_BINARY_PACKED", "id": "DELTA_BYTE_ARRAY"},
    "write_statistics": False,
}

Origin = tuple[str, int, int, str]  # file, record, part, id


class Found(NamedTuple):
    """Where one document comes from."""

    file: str
    record: int
    part: int
    id: str

    def __str__(self) -> str:
        part = f", its {self.part + 1}. document" if self.part else ""
        return f"{self.file}:{self.record}{part}" + (f", id {self.id}" if self.id else "")


def origins_path(folder: Path, shard: str) -> Path:
    """Where the origins of a shard (ShardRecord.file) are."""
    return folder / FOLDER / f"{shard}.parquet"


def write_origins(folder: Path, shard: str, origins: Sequence[Origin]) -> None:
    """Write a shard's origins in one step; nothing where it has no documents."""
    import pyarrow
    import pyarrow.parquet

    path = origins_path(folder, shard)
    if not origins:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    files, records, parts, ids = zip(*origins, strict=True)
    columns = {"file": _texts(files), "record": _numbers(records), "part": _numbers(parts), "id": _texts(ids)}
    unfinished = path.with_suffix(".unfinished")
    pyarrow.parquet.write_table(pyarrow.table(columns), unfinished, **WRITING)
    unfinished.rename(path)


# pyarrow.array would do the same, but imports pandas where that is installed: half a second.
def _numbers(values: Sequence[int]) -> Any:
    import pyarrow

    data = pyarrow.py_buffer(np.asarray(values, np.int64))
    return pyarrow.Array.from_buffers(pyarrow.int64(), len(values), [None, data])


def _texts(values: Sequence[str]) -> Any:
    import pyarrow

    encoded = [value.encode(errors="backslashreplace") for value in values]  # an id may hold half a surrogate pair
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    buffers = [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(b"".join(encoded))]
    return pyarrow.Array.from_buffers(pyarrow.large_string(), len(values), buffers)


def join_origins(folder: Path, shard: str, parts: Sequence[tuple[Path, str]]) -> None:
    """Write the origins of a shard that was joined from others, each in its folder; nothing where one has none."""
    import pyarrow.parquet

    paths = [origins_path(*part) for part in parts]
    if not paths or not all(path.is_file() for path in paths):
        return
    target = origins_path(folder, shard)
    target.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.concat_tables([_read(path) for path in paths])
    pyarrow.parquet.write_table(table, target, **WRITING)


def _read(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path).read()  # read_table would import pandas, too


def read_origin(folder: Path, shard: str, document: int) -> Found | None:
    """Where a document of a shard comes from; None where the folder does not say.

    Raises:
        BllossomError: the file that should say is damaged.
    """
    import pyarrow
    import pyarrow.parquet

    path = origins_path(folder, shard)
    if not path.is_file():
        return None
    try:
        row = _read(path).slice(document, 1).to_pylist()[0]
    except (pyarrow.ArrowException, OSError, IndexError) as error:
        raise BllossomError(
            f"{path} is damaged ({error}); remove it, or prepare the folder anew with --force"
        ) from error
    return Found(**row)
