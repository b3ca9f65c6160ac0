"""Compressed and otherwise encoded files as streams of bytes."""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import zlib
from abc import abstractmethod
from pathlib import PurePath
from typing import IO, Any, cast

import zstandard

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError, lzma.LZMAError)
"""What reading a file raises that is damaged or cut short; beside these, bz2 raises an OSError without a number."""
# Decompressed at a time. A block of four bytes can hold 128 KiB (RFC 8878, 3.1.1.2), so this gives 32 MiB at the most.
ZSTD_BYTES = 1024
ZSTD_WINDOW_BYTES = 1 << 31  # `zstd --ultra --long=31`, the most that the program itself makes
RECODED_BYTES = 1 << 16


class Pieces(io.RawIOBase):
    """A stream of bytes that come a piece at a time."""

    _ready = memoryview(b"")

    @abstractmethod
    def next_piece(self) -> bytes | None:
        """The next bytes, or none yet; None at the end."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            piece = self.next_piece()
            if piece is None:
                return 0
            self._ready = memoryview(piece)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


class ZstdStream(Pieces):
    """Decompressed bytes of a zstd file of any number of frames.

    zstandard's own stream reader ends in silence where a file is cut short; this one raises EOFError.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: Any = None
        self._input = b""

    def next_piece(self) -> bytes | None:
        self._input = self._input or self._file.read(ZSTD_BYTES)
        if not self._input:
            if self._frame is not None:
                raise EOFError("the last zstd frame is not complete")
            return None
        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
        piece: bytes = self._frame.decompress(self._input)
        self._input = b""
        if self._frame.eof:
            self._input, self._frame = self._frame.unused_data, None
        return piece


def known_encoding(encoding: str) -> str:
    """The name, where it is that of an encoding; ValueError says so where it is not."""
    try:
        with contextlib.suppress(UnicodeError):
            b"a".decode(encoding)  # hex and the like, which give no text, are no encodings here
        codecs.getincrementaldecoder(encoding)
    except LookupError as error:
        raise ValueError(f"no encoding {encoding!r}; name one as utf-8, cp949, euc-kr or utf-16") from error
    return encoding


class Recoded(Pieces):
    """A file of another encoding as UTF-8. Raises UnicodeDecodeError where its bytes are not of that encoding."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file, self._encoding = file, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ended = False

    def next_piece(self) -> bytes | None:
        if self._ended:
            return None
        data = self._file.read(RECODED_BYTES)
        self._ended = not data
        try:
            return self._decoder.decode(data, final=self._ended).encode()
        except UnicodeDecodeError:
            raise
        except UnicodeError as error:  # UTF-16 without its mark
            raise UnicodeDecodeError(self._encoding, data, 0, 1, str(error)) from error


def unpack(name: str, packed: IO[bytes]) -> IO[bytes]:
    """The bytes of an open file, decompressed as its name says."""
    suffix = PurePath(name.lower()).suffix
    if suffix == ".gz":
        return cast(IO[bytes], gzip.open(packed, "rb"))
    if suffix == ".bz2":
        return cast(IO[bytes], bz2.open(packed, "rb"))
    if suffix == ".xz":
        return cast(IO[bytes], lzma.open(packed, "rb"))
    if suffix == ".zst":
        return io.BufferedReader(ZstdStream(packed), 1 << 20)
    return packed


def recode(file: IO[bytes], encoding: str) -> IO[bytes]:
    """The bytes of a text file in UTF-8."""
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        return file
    return io.BufferedReader(Recoded(file, encoding), 1 << 20)
