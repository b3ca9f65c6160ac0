"""Kinds of files, by their names or, where a name has no ending, by how they begin."""

import json
from pathlib import Path
from typing import Literal, get_args

from bllossom.errors import BllossomError
from bllossom.paths import shown
from bllossom.text.compression import COMPRESSIONS, DAMAGED, unpack

Kind = Literal["jsonl", "json", "parquet", "arrow", "csv", "tsv", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ENDINGS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
}
ARCHIVES = (".zip", ".tar", ".tgz")
KNOWN = (
    f"{', '.join(ENDINGS)}, packed or not ({', '.join(COMPRESSIONS)}), or be an archive of such ({', '.join(ARCHIVES)})"
)
# In which the `datasets` library keeps its own settings: no text, though they are JSON.
SETTINGS = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")
BEGINNING_BYTES = 1 << 16  # of a file without ending: more than a line of JSON mostly has


def ending(name: str) -> str:
    """The ending that tells the kind of a file: lower case, and without that of the compression."""
    path = Path(name.lower())
    return (Path(path.stem) if path.suffix in COMPRESSIONS else path).suffix


def is_archive(name: str) -> bool:
    """Whether a file holds other files."""
    return ending(name) in ARCHIVES


def kind_of_name(name: str) -> Kind | None:
    """The kind of a file by its name; None where that tells nothing."""
    return ENDINGS.get(ending(name))


def kind_of_file(path: Path) -> Kind | None:
    """The kind of a file by its name, or where that has no ending by how it begins; None where neither tells.

    Only JSON, Parquet and Arrow are told by how they begin: plain text looks like anything.
    """
    if ending(path.name):
        return kind_of_name(path.name)
    try:
        with path.open("rb") as packed:
            return kind_of_beginning(unpack(path.name, packed).read(BEGINNING_BYTES))
    except (OSError, *DAMAGED):
        return None


def kind_of_beginning(data: bytes) -> Kind | None:
    """The kind of what begins so."""
    if data.startswith(b"PAR1"):
        return "parquet"
    if data.startswith(b"ARROW1"):
        return "arrow"
    line, _, _ = data.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not line.startswith((b"{", b"[")):
        return None
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return "json" if len(line) < BEGINNING_BYTES - 1 else "jsonl"
    return "jsonl"


def file_kind(path: Path) -> Kind:
    """`jsonl`, `json`, `parquet`, … (see kind_of_file).

    Raises:
        BllossomError: neither the name nor the beginning tells.
    """
    kind = kind_of_file(path)
    if kind is None:
        raise BllossomError(
            f"{shown(path)}: unknown format; rename it to end in one of {KNOWN}; or give prepare its format, one of "
            f"{', '.join(KINDS)}"
        )
    return kind
