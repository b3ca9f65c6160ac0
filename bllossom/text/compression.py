"""Compressed files as streams of bytes."""

import gzip
import io
import zlib
from pathlib import Path
from typing import IO, Any, cast

import zstandard

COMPRESSIONS = (".gz", ".zst")
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
"""What reading a file raises that is damaged or cut short."""
# Decompressed at a time. A block of four bytes can hold 128 KiB (RFC 8878, 3.1.1.2), so this gives 32 MiB at the most.
ZSTD_BYTES = 1024


class ZstdStream(io.RawIOBase):
    """Decompressed bytes of a zstd file of any number of frames.

    zstandard's own stream reader ends in silence where a file is cut short; this one raises EOFError.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ready = memoryview(b"")
        self._frame: Any = None
        self._input = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._input = self._input or self._file.read(ZSTD_BYTES)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("the last zstd frame is not complete")
                return 0
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(self._input))
            self._input = b""
            if self._frame.eof:
                self._input, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def unpack(path: Path, packed: IO[bytes]) -> IO[bytes]:
    """The bytes of an open file, decompressed as its name says."""
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(packed, "rb"))
    if path.suffix == ".zst":
        return io.BufferedReader(ZstdStream(packed), 1 << 20)
    return packed
