"""safetensors files without loading them: headers, blocks of rows, and a rewrite that streams.

    8 bytes   length of the header, little-endian
    header    JSON: {"__metadata__": {…}, "name": {"dtype", "shape", "data_offsets": [start, end]}, …}
    data      the tensors, back to back, row-major; offsets count from the first byte after the header

(The format: github.com/huggingface/safetensors, README, section Format.) A file is read with plain reads, not mapped:
mapped pages would count towards the process's resident memory.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from bllossom.errors import BllossomError

COPY_BYTES = 1 << 20
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
class Shard:
    """One safetensors file and its tensors, in the order of their data."""

    path: Path
    tensors: tuple[StoredTensor, ...]
    metadata: Mapping[str, str] | None

    def tensor(self, name: str) -> StoredTensor:
        return next(tensor for tensor in self.tensors if tensor.name == name)


def read_shard(path: Path) -> Shard:
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
            told = f"{path}: {tensor.name} is empty {tensor.shape}, as when ZeRO-3 saves without gathering"
            raise BllossomError(f"{told}; save the model again with stage3_gather_16bit_weights_on_model_save")
        expected = math.prod(tensor.shape) * ITEM_BYTES.get(tensor.dtype, 0)
        if expected not in (0, tensor.bytes):
            raise BllossomError(
                f"{path}: {tensor.name} has {tensor.bytes:,} bytes for its shape {tensor.shape}; {again}"
            )
    return Shard(path, tuple(tensors), metadata)


def _stored(name: str, entry: Mapping[str, Any], data_start: int) -> StoredTensor:
    start, end = entry["data_offsets"]
    return StoredTensor(name, entry["dtype"], tuple(entry["shape"]), data_start + start, end - start)


class Rows:
    """The first `count` rows of a stored matrix, read in blocks as float32 [n, width]; nothing is kept in memory."""

    def __init__(self, path: Path, tensor: StoredTensor, count: int) -> None:
        self.path, self.tensor, self.count, self.width = path, tensor, count, tensor.shape[1]
        self.row_bytes = tensor.bytes // tensor.shape[0]

    def blocks(self, rows: int) -> Iterator[Tensor]:
        """All rows in order, at most `rows` of them at a time."""
        with self.path.open("rb") as file:
            file.seek(self.tensor.start)
            for start in range(0, self.count, rows):
                yield self._float(file.read(min(rows, self.count - start) * self.row_bytes))

    def gather(self, ids: Sequence[int]) -> Tensor:
        """The rows `ids`, in that order."""
        with self.path.open("rb", buffering=0) as file:
            return self._float(b"".join(self._row(file, row) for row in ids))

    def _row(self, file: Any, row: int) -> bytes:
        file.seek(self.tensor.start + row * self.row_bytes)
        return file.read(self.row_bytes)

    def _float(self, data: bytes) -> Tensor:
        rows = torch.frombuffer(bytearray(data), dtype=FLOAT_DTYPES[self.tensor.dtype])
        return rows.view(-1, self.width).to(torch.float32)


@dataclass(frozen=True)
class Growth:
    """A matrix that keeps its first `kept` rows, and gets the blocks of `new` (float32 [n, width]) below them."""

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


def rewrite(shard: Shard, target: Path, growths: Mapping[str, Growth], dtype: str | None = None) -> None:
    """Write `shard` to `target` with the matrices in `growths` grown, and its floats converted to `dtype` if given.

    Needs one block of rows of memory, whatever the size of the file. Bytes that need no conversion are copied as they
    are. Tensors stay in the order of their data, except that wider items go first, which keeps each aligned.

    Raises:
        BllossomError: a value does not fit into float16.
    """
    tensors = sorted(shard.tensors, key=lambda tensor: -ITEM_BYTES.get(output_dtype(tensor, dtype), 0))
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
    text += b" " * (-len(text) % 8)
    with shard.path.open("rb", buffering=0) as source, target.open("wb", buffering=0) as out:
        _write(out, len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            growth = growths.get(tensor.name)
            kept_bytes = tensor.bytes if growth is None else tensor.bytes // tensor.shape[0] * growth.kept
            _stream(source, out, tensor, kept_bytes, output_dtype(tensor, dtype))
            for block in growth.new() if growth else ():
                _write(out, _bytes(block, output_dtype(tensor, dtype), tensor))


def _stream(source: Any, out: Any, tensor: StoredTensor, size: int, dtype: str) -> None:
    """Append the first `size` bytes of a tensor to `out`, converted to `dtype` where that is another."""
    buffer = memoryview(bytearray(min(COPY_BYTES, size)))
    source.seek(tensor.start)
    while size > 0:
        piece = buffer[: min(len(buffer), size)]
        _fill(source, piece)
        size -= len(piece)
        if dtype == tensor.dtype:
            _write(out, piece)
        else:
            _write(out, _bytes(torch.frombuffer(piece, dtype=FLOAT_DTYPES[tensor.dtype]), dtype, tensor))


def _fill(source: BinaryIO, piece: memoryview) -> None:
    done = 0
    while done < len(piece):
        count = source.readinto(piece[done:])  # type: ignore[attr-defined]
        if not count:
            raise BllossomError(f"{source.name} became shorter while it was read; copy it again")
        done += count


def _write(out: Any, data: bytes | memoryview) -> None:
    """Write all of it: an unbuffered write may take a part (when the disk fills up, the next one raises)."""
    rest = memoryview(data)
    while rest:
        rest = rest[out.write(rest) :]


def _bytes(values: Tensor, dtype: str, tensor: StoredTensor) -> memoryview:
    converted = values.to(FLOAT_DTYPES[dtype]).contiguous()
    if dtype == "F16" and converted.isinf().any() and not values.isinf().any():
        raise BllossomError(f"{tensor.name} holds values beyond float16's 65,504; choose dtype: bfloat16 or keep")
    return converted.view(torch.uint8).numpy().data.cast("B")
