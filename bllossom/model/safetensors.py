"""safetensors files without loading them: headers, blocks of rows, and a rewrite that streams.

    8 bytes   length of the header, little-endian
    header    JSON: {"__metadata__": {…}, "name": {"dtype", "shape", "data_offsets": [start, end]}, …}
    data      the tensors, back to back, row-major; offsets count from the first byte after the header

(The format: github.com/huggingface/safetensors, README, section Format.) A file is read with plain reads, not mapped:
mapped pages would count towards the process's resident memory.
"""

import errno
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bllossom.errors import BllossomError

PIECE_BYTES = 1 << 20
PAGE_BYTES = 4096
NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.ENOTSUP)
MAX_HEADER_BYTES = 100_000_000  # the safetensors library refuses longer ones too
ITEM_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2}
ITEM_BYTES |= {"U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8}
FLOAT_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor's bytes lie: `start` counts from the first byte of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    bytes: int


@dataclass(frozen=True)
class WeightShard:
    """One safetensors file and its tensors, in the order of their data."""

    path: Path
    tensors: tuple[StoredTensor, ...]
    metadata: Mapping[str, str] | None

    def tensor(self, name: str) -> StoredTensor:
        return next(tensor for tensor in self.tensors if tensor.name == name)


def read_shard(path: Path) -> WeightShard:
    """Read a file's header, and check that the file is whole: its length, every size, no empty tensor.

    Raises:
        BllossomError: the file is missing, cut short, or not safetensors.
    """
    again = "download or copy it again"
    if not path.is_file():
        raise BllossomError(f"{path} is missing; {again}")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            raise BllossomError(f"{path} is cut short or not a safetensors file ({size:,} bytes); {again}")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            metadata = header.pop("__metadata__", None)
            tensors = [_stored(name, entry, 8 + length) for name, entry in header.items()]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BllossomError(f"{path} has a damaged safetensors header ({error}); {again}") from error
    tensors.sort(key=lambda tensor: (tensor.start, tensor.bytes))
    end = 8 + length + sum(tensor.bytes for tensor in tensors)
    if size != end:
        raise BllossomError(f"{path} has {size:,} bytes, its header says {end:,}: it is cut short or damaged; {again}")
    for tensor in tensors:
        if tensor.bytes == 0:
            message = f"{path}: {tensor.name} is empty {tensor.shape}, as when ZeRO-3 saves without gathering"
            raise BllossomError(f"{message}; save the model again with stage3_gather_16bit_weights_on_model_save")
        expected = math.prod(tensor.shape) * ITEM_BYTES.get(tensor.dtype, 0)
        if expected not in (0, tensor.bytes):
            raise BllossomError(
                f"{path}: {tensor.name} has {tensor.bytes:,} bytes for its shape {tensor.shape}; {again}"
            )
    return WeightShard(path, tuple(tensors), metadata)


def _stored(name: str, entry: Mapping[str, Any], data_start: int) -> StoredTensor:
    start, end = entry["data_offsets"]
    return StoredTensor(name, entry["dtype"], tuple(entry["shape"]), data_start + start, end - start)


class Rows:
    """The first `count` rows of a stored matrix, read in blocks as float32 [n, width]; nothing is kept in memory."""

    def __init__(self, path: Path, tensor: StoredTensor, count: int) -> None:
        self.path, self.tensor, self.count, self.width = path, tensor, count, tensor.shape[1]
        self.row_bytes = tensor.bytes // tensor.shape[0]

    def blocks(self, rows: int) -> Iterator[Tensor]:
        """All rows in order, at most `rows` of them at a time, each block valid until the next one is asked for.

        They share their memory: to get new pages for every block takes longer than to read and to convert it.
        """
        data = memoryview(bytearray(min(rows, self.count) * self.row_bytes))
        converted = torch.empty(min(rows, self.count), self.width)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.tensor.start)
            for start in range(0, self.count, rows):
                count = min(rows, self.count - start)
                _fill(file, data[: count * self.row_bytes])
                stored = torch.frombuffer(data, dtype=FLOAT_DTYPES[self.tensor.dtype]).view(-1, self.width)
                yield converted[:count].copy_(stored[:count])

    def gather(self, ids: Sequence[int]) -> Tensor:
        """The rows `ids`, in that order."""
        data = memoryview(bytearray(len(ids) * self.row_bytes))
        with self.path.open("rb", buffering=0) as file:
            for place, row in enumerate(ids):
                file.seek(self.tensor.start + row * self.row_bytes)
                _fill(file, data[place * self.row_bytes : (place + 1) * self.row_bytes])
        rows = torch.frombuffer(data, dtype=FLOAT_DTYPES[self.tensor.dtype])
        return rows.view(-1, self.width).to(torch.float32)


@dataclass(frozen=True)
class Growth:
    """A matrix that keeps its first `kept` rows, and gets the blocks of `new` (float32 [n, width]) below them. A
    vector counts as a matrix of width 1."""

    kept: int
    rows: int
    new: Callable[[], Iterator[Tensor]]


def output_dtype(tensor: StoredTensor, dtype: str | None) -> str:
    """The stored type after a conversion to `dtype` (None keeps all); only fp32, fp16 and bf16 are ever converted."""
    return dtype if dtype is not None and tensor.dtype in FLOAT_DTYPES else tensor.dtype


def output_bytes(tensor: StoredTensor, rows: int | None, dtype: str | None) -> int:
    """The tensor's size after `rows` (None keeps them) and `dtype`."""
    kept = output_dtype(tensor, dtype)
    size = tensor.bytes if kept == tensor.dtype else tensor.bytes // ITEM_BYTES[tensor.dtype] * ITEM_BYTES[kept]
    return size if rows is None else size // tensor.shape[0] * rows


def as_matrix(tensor: StoredTensor) -> StoredTensor:
    """The tensor; a vector as a matrix of width 1."""
    return replace(tensor, shape=(*tensor.shape, 1)) if len(tensor.shape) == 1 else tensor


def equal_data(one: WeightShard, first: StoredTensor, other: WeightShard, second: StoredTensor) -> bool:
    """Whether tensor `first` of shard `one` and `second` of `other` are the same, byte for byte."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    with one.path.open("rb", buffering=0) as left, other.path.open("rb", buffering=0) as right:
        pairs = zip(_pieces(left, first.start, first.bytes), _pieces(right, second.start, second.bytes), strict=True)
        return all(mine == theirs for mine, theirs in pairs)


def rewrite(
    shard: WeightShard,
    target: Path,
    growths: Mapping[str, Growth],
    dtype: str | None = None,
    *,
    added: Mapping[str, tuple[StoredTensor, Growth]] | None = None,
) -> None:
    """Write `shard` to `target` with the matrices in `growths` grown, and its floats converted to `dtype` if given.

    `added` are new tensors, each with a stored one of the same type and width, of which it keeps nothing.

    Needs one block of rows of memory, whatever the size of the file. Bytes that need no conversion are copied as they
    are. Tensors stay in the order of their data, except that wider items go first, which keeps each aligned.

    Raises:
        BllossomError: a value does not fit into float16.
    """
    growths = dict(growths) | {name: growth for name, (_, growth) in (added or {}).items()}
    new = [replace(like, name=name) for name, (like, _) in (added or {}).items()]
    tensors = sorted([*shard.tensors, *new], key=lambda tensor: -ITEM_BYTES.get(output_dtype(tensor, dtype), 0))
    header: dict[str, Any] = {} if shard.metadata is None else {"__metadata__": dict(shard.metadata)}
    offset = 0
    for tensor in tensors:
        growth = growths.get(tensor.name)
        size = output_bytes(tensor, growth.rows if growth else None, dtype)
        shape = [growth.rows, *tensor.shape[1:]] if growth else list(tensor.shape)
        header[tensor.name] = {
            "dtype": output_dtype(tensor, dtype),
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    # Blanks until the data starts as far into a memory page as in the source: whole pages are copied 1.3 × as fast.
    text += b" " * ((min((tensor.start for tensor in tensors), default=0) - 8 - len(text)) % PAGE_BYTES)
    with shard.path.open("rb", buffering=0) as source, target.open("wb", buffering=0) as out:
        _write(out, len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            growth = growths.get(tensor.name)
            kept_bytes = tensor.bytes if growth is None else tensor.bytes // tensor.shape[0] * growth.kept
            new_dtype = output_dtype(tensor, dtype)
            if new_dtype == tensor.dtype:
                _copy(source, out, tensor.start, kept_bytes)
            else:
                _convert(source, out, tensor, kept_bytes, new_dtype)
            for block in growth.new() if growth else ():
                _write(out, _bytes(block, new_dtype, tensor))


def _copy(source: FileIO, out: FileIO, start: int, size: int) -> None:
    """Append `size` bytes of `source`, from `start`, to `out`: inside the kernel where the file system allows it."""
    end = start + size
    try:
        while start < end:
            count = os.sendfile(out.fileno(), source.fileno(), start, end - start)
            if count == 0:
                raise _shorter(source)
            start += count
    except OSError as error:
        if error.errno not in NO_SENDFILE:
            raise
        for piece in _pieces(source, start, end - start):
            _write(out, piece)


def _convert(source: FileIO, out: FileIO, tensor: StoredTensor, size: int, dtype: str) -> None:
    """Append the first `size` bytes of a tensor to `out`, converted to `dtype`."""
    for piece in _pieces(source, tensor.start, size):
        _write(out, _bytes(torch.frombuffer(piece, dtype=FLOAT_DTYPES[tensor.dtype]), dtype, tensor))


def _pieces(source: FileIO, start: int, size: int) -> Iterator[memoryview]:
    source.seek(start)
    for done in range(0, size, PIECE_BYTES):
        piece = memoryview(bytearray(min(PIECE_BYTES, size - done)))
        _fill(source, piece)
        yield piece


def _fill(source: FileIO, piece: memoryview) -> None:
    done = 0
    while done < len(piece):
        count = source.readinto(piece[done:])
        if not count:
            raise _shorter(source)
        done += count


def _shorter(source: FileIO) -> BllossomError:
    return BllossomError(f"{source.name} became shorter while it was read; copy or download it again")


def _write(out: FileIO, data: bytes | memoryview) -> None:
    """Write all of it: an unbuffered write may take a part (when the disk fills up, the next one raises)."""
    rest = memoryview(data)
    while rest:
        rest = rest[out.write(rest) :]


def _bytes(values: Tensor, dtype: str, tensor: StoredTensor) -> memoryview:
    converted = values.to(FLOAT_DTYPES[dtype]).contiguous()
    if dtype == "F16" and converted.isinf().any() and not values.isinf().any():
        raise BllossomError(f"{tensor.name} holds values beyond float16's 65,504; choose dtype: bfloat16 or keep")
    return converted.view(torch.uint8).numpy().data.cast("B")
