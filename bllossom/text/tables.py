"""Plain text that is a table: ids and labels would be learned with it."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from bllossom.errors import BllossomError
from bllossom.paths import shown
from bllossom.text.compression import DAMAGED, recode, unpack
from bllossom.text.kinds import kind_of_file
from bllossom.text.sources import ReadOptions

FILES, LINES, LEAST_LINES = 8, 50, 3  # that are looked at; a table has a header and two rows at the least
LINE_BYTES = 100_000


def check_no_table(files: Sequence[Path], options: ReadOptions) -> None:
    """Refuse `.txt` files whose first lines all have the same tabs, unless their format is given.

    Raises:
        BllossomError: names the first such file, and its columns.
    """
    if options.format is not None:
        return
    for path in [path for path in files if kind_of_file(path) == "text"][:FILES]:
        if header := _header(path, options.encoding):
            raise BllossomError(
                f"{shown(path)} looks like a table, its columns are {', '.join(header)}; set format: tsv and field to "
                "one of them, or format: text to take its lines as they are"
            )


def _header(path: Path, encoding: str) -> list[str]:
    try:
        with path.open("rb") as packed:
            file = recode(unpack(path.name, packed), encoding)
            lines = [line for line in islice(iter(lambda: file.readline(LINE_BYTES), b""), LINES) if not line.isspace()]
    except (ValueError, OSError, *DAMAGED):
        return []  # who reads it says what is wrong
    tabs = {line.count(b"\t") for line in lines}
    if len(lines) < LEAST_LINES or len(tabs) != 1 or tabs == {0}:
        return []
    return [cell.strip() for cell in lines[0].decode("utf-8-sig", "replace").split("\t")]
