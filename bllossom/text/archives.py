"""Files of files: what is in a zip or tar archive, in its order, without unpacking it to the disk."""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO

from bllossom.text.compression import unpack
from bllossom.text.kinds import BEGINNING_BYTES, SETTINGS, Kind, ending, kind_of_beginning, kind_of_name

MEMBER_BITS = 32  # the n-th record of member m has the number m · 2^32 + n; in a plain file, m is 0
DAMAGED_ARCHIVE = (zipfile.BadZipFile, tarfile.ReadError, NotImplementedError, RuntimeError)
"""What reading an archive raises that is damaged, encrypted, or packed in a way that Python does not know."""


@dataclass(frozen=True)
class Member:
    """A file in an archive, open, with its place (from 1) among all of its files."""

    number: int
    name: str
    kind: Kind | None  # None: it cannot be read
    file: IO[bytes]


def members(name: str, archive: IO[bytes], kind: Kind | None) -> Iterator[Member]:
    """The files of an archive called `name`, each to be read before the next one is asked for.

    Of what kind each is, its own name says, unless `kind` does. Hidden files and settings are passed over.
    """
    for number, inner, file in _zipped(archive) if ending(name) == ".zip" else _tarred(name, archive):
        path = PurePath(inner)
        if path.name in SETTINGS or any(part.startswith((".", "__MACOSX")) for part in path.parts):
            continue
        with file:
            content = unpack(inner, file)
            mine = kind or kind_of_name(inner)
            if mine is None and not ending(inner):
                buffered = io.BufferedReader(content, BEGINNING_BYTES)  # type: ignore[type-var]
                content, mine = buffered, kind_of_beginning(buffered.peek(BEGINNING_BYTES))
            yield Member(number, inner, mine, content)


def whole(file: IO[bytes]) -> IO[bytes]:
    """A member in memory, for readers that go back and forth in it."""
    return io.BytesIO(file.read())


def _zipped(archive: IO[bytes]) -> Iterator[tuple[int, str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for number, info in enumerate((info for info in opened.infolist() if not info.is_dir()), 1):
            yield number, info.filename, opened.open(info)


def _tarred(name: str, archive: IO[bytes]) -> Iterator[tuple[int, str, IO[bytes]]]:
    stream = unpack(f"{name}.gz" if name.lower().endswith(".tgz") else name, archive)
    number = 0
    with tarfile.open(fileobj=stream, mode="r|") as opened:
        for info in opened:
            file = opened.extractfile(info) if info.isfile() else None
            if file is not None:
                number += 1
                yield number, info.name, file
