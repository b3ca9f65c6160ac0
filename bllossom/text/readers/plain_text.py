"""Plain text, parted into documents: between blank lines, a line each, or the file as one."""

from collections.abc import Iterator
from typing import IO, Literal

from bllossom.text.readers.entry import Entry, explain

Split = Literal["blank-line", "line", "file"]


def read_text(file: IO[bytes], split: Split, max_bytes: int, skip: int = 0) -> Iterator[Entry]:
    """The documents of a file. One of more than `max_bytes` is an error, and at most twice as much is held."""
    for number, part in enumerate(_parts(file, split, max_bytes), 1):
        if number <= skip:
            continue
        if len(part) > max_bytes:
            yield Entry(number, None, too_long(max_bytes))
            continue
        try:
            yield Entry(number, part.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n"))
        except ValueError as error:
            yield Entry(number, None, explain(error))


def too_long(max_bytes: int) -> str:
    """What is wrong with a document of more than `max_bytes`, whatever the format."""
    return (
        f"is one document of more than {max_bytes:,} bytes; set split: line where each line of plain text is a "
        "document of its own, or raise max_document_bytes (a document takes up to 40 times its size in memory)"
    )


def _parts(file: IO[bytes], split: Split, max_bytes: int) -> Iterator[bytes]:
    """The parts that hold text; of a longer one more than `max_bytes` bytes, but not all."""
    lines: list[bytes] = []
    size = 0
    while line := file.readline(max_bytes + 1):
        blank = line.isspace()
        if blank and split != "file":
            if lines:
                yield b"".join(lines)
            lines, size = [], 0
            continue
        if size <= max_bytes:
            lines.append(line)
        size += len(line)
        if split == "line" and line.endswith(b"\n"):
            yield b"".join(lines)
            lines, size = [], 0
    if lines or split == "file":
        yield b"".join(lines)
