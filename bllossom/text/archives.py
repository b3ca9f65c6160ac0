"""Files of files: what is in a zip or tar archive, in its order, without unpacking it to the disk.

A zip's names are UTF-8 where it says so, else in the code page of whoever made it, which it does not name; Python takes
them for cp437. AI Hub's are in cp949. So: UTF-8 if the bytes are, else the source's own `encoding` if they are that,
else cp949 if that gives Hangul, else cp437. A name says of what kind a file is and where a document stands, no more.
"""

import codecs
import contextlib
import io
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO

from bllossom.text.compression import unpack
from bllossom.text.kinds import BEGINNING_BYTES, SETTINGS, Kind, ending, is_archive, kind_of_beginning, kind_of_name

MEMBER_BITS = 32  # the n-th record of member m has the number m · 2^32 + n; in a plain file, m is 0
NAMES_TOLD = 3  # of files that are not read
UTF8_NAME = 0x800  # a zip entry's flag
DAMAGED_ARCHIVE = (zipfile.BadZipFile, tarfile.ReadError)
"""What reading an archive raises that is damaged, encrypted, or packed in a way that Python does not know."""


@dataclass(frozen=True)
class Member:
    """A file in an archive, open, with its place (from 1) among all of its files."""

    number: int
    name: str
    kind: Kind | None  # None: it is not read
    file: IO[bytes]


def members(name: str, archive: IO[bytes], kind: Kind | None, encoding: str = "utf-8") -> Iterator[Member]:
    """The files of an archive called `name`, each to be read before the next one is asked for.

    Of what kind each is, its own name says, unless `kind` does. Settings, hidden files that are no text, and what macOS
    puts beside each file, are passed over.
    `encoding` is that of the files' text, which is often that of their names, too.
    """
    found = _zipped(archive, encoding) if ending(name) == ".zip" else _tarred(name, archive, encoding)
    for number, inner, file in found:
        path = PurePath(inner)
        if path.name in SETTINGS or path.name.startswith("._") or "__MACOSX" in path.parts:
            continue
        hidden = any(part.startswith(".") and part != ".." for part in path.parts)
        if hidden or file is None:
            if not hidden or kind_of_name(inner) or is_archive(inner):
                yield Member(number, inner, None, io.BytesIO())
            continue
        with file:
            content = unpack(inner, file)
            mine = kind or kind_of_name(inner)
            if mine is None and not ending(inner):
                buffered = io.BufferedReader(content, BEGINNING_BYTES)  # type: ignore[type-var]
                content, mine = buffered, kind_of_beginning(buffered.peek(BEGINNING_BYTES))
            yield Member(number, inner, mine, content)


def not_read(names: Sequence[str]) -> str:
    """What to say of an archive's files that are not read."""
    told = ", ".join(names[:NAMES_TOLD]) + (", …" if len(names) > NAMES_TOLD else "")
    return f"{len(names):,} file(s) in it are not read, as they are hidden, links or of no known format: {told}"


def whole(file: IO[bytes]) -> IO[bytes]:
    """A member in memory, for readers that go back and forth in it."""
    return io.BytesIO(file.read())


def seekable(file: IO[bytes]) -> IO[bytes]:
    """The file, in memory where it is unpacked forwards only, as zstd is: for the same readers."""
    return file if file.seekable() else whole(file)


def read_name(raw: bytes, encoding: str) -> str | None:
    """A name of whose code page nothing is known; None where none of those that are tried gives one."""
    own = [] if codecs.lookup(encoding).name.startswith("utf") else [encoding]
    for tried in ("utf-8", *own, "cp949"):
        with contextlib.suppress(UnicodeDecodeError):
            text = raw.decode(tried)
            if tried != "cp949" or own or any("가" <= character <= "힣" for character in text):
                return text
    return None


def _zipped(archive: IO[bytes], encoding: str) -> Iterator[tuple[int, str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for number, info in enumerate((info for info in opened.infolist() if not info.is_dir()), 1):
            name = info.filename
            if not info.flag_bits & UTF8_NAME:
                with contextlib.suppress(UnicodeEncodeError):  # its Unicode name stands in an extra field
                    name = read_name(name.encode("cp437"), encoding) or name
            yield number, name, _opened(opened, info)


def _opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(info)
    except RuntimeError as error:  # encrypted; NotImplementedError, which is one: packed in a way that it does not know
        raise zipfile.BadZipFile(str(error)) from error


def _tarred(name: str, archive: IO[bytes], encoding: str) -> Iterator[tuple[int, str, IO[bytes] | None]]:
    """Links, which have no contents of their own, come without a file."""
    stream = unpack(f"{name}.gz" if name.lower().endswith(".tgz") else name, archive)
    number = 0
    with tarfile.open(fileobj=stream, mode="r|") as opened:
        for info in opened:
            inner = read_name(info.name.encode("utf-8", "surrogateescape"), encoding) or info.name
            file = opened.extractfile(info) if info.isfile() else None
            if file is not None:
                number += 1
                yield number, inner, file
            elif info.issym() or info.islnk():
                yield number, inner, None
