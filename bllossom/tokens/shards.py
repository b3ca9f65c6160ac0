"""Token shards: what prepare writes and training reads.

    tokens/
      index.json                            what is here: dtype, special ids, tokenizer, every source and shard
      shards/ko/news/00000.tokens           token ids, little-endian uint16 or uint32, documents end to end
      shards/ko/news/00000.documents.npy    uint32 [documents, 2]: where each ends in the shard, its UTF-8 bytes
      heldout/ko/news.tokens, .documents.npy    the same for the documents kept back for validation
      heldout/ko.jsonl                      those documents as text, for models with other vocabularies
      tokenizer/                            a copy of the tokenizer

The shards of a source are one stream: document ids and token offsets run on from shard to shard.
"""

import bisect
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import xxhash
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from bllossom.config import Model
from bllossom.errors import BllossomError
from bllossom.files import sync_file, write_whole

INDEX = "index.json"
HELDOUT = "heldout"
SHARDS = "shards"
EDGE_BYTES = 1 << 16  # how much of each end of a shard the cheap checksum reads

Ids = NDArray[np.int64]


class ShardRecord(Model):
    """One shard: `<file>.tokens` and `<file>.documents.npy`."""

    file: str
    documents: int
    bytes: int  # UTF-8 bytes of the text it stands for
    tokens: int  # with bos and eos, where those are put around documents
    checksum: str  # xxh3 over the size and both ends of the token file


class SourceRecord(Model):
    """All shards of one source, in the order of its documents."""

    language: str
    name: str
    shards: list[ShardRecord]
    heldout: ShardRecord | None

    @property
    def documents(self) -> int:
        return sum(shard.documents for shard in self.shards)

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of its training text."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)


class TokenIndex(Model):
    """index.json of a tokens folder."""

    format: Literal[1] = 1
    dtype: Literal["uint16", "uint32"]
    pieces: int
    bos: int | None
    eos: int | None
    tokenizer: str  # fingerprint of what the ids mean (see tokenizer/ids.py)
    sources: list[SourceRecord]


class ShardWriter:
    """Write one shard. Nothing appears under its name before `finish`, so a kill leaves no half shard."""

    def __init__(self, folder: Path, file: str, dtype: str) -> None:
        self._folder, self._file, self._dtype = folder, file, np.dtype(dtype).newbyteorder("<")
        self._path = folder / f"{file}.tokens"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished = self._path.with_suffix(".unfinished")
        self._tokens: BinaryIO = self._unfinished.open("wb")
        self._lengths: list[NDArray[np.uint32]] = []
        self._bytes: list[NDArray[np.uint32]] = []

    def add(self, ids: NDArray[np.unsignedinteger], lengths: ArrayLike, text_bytes: ArrayLike) -> None:
        """Append documents: `ids` end to end, their lengths in tokens, and the UTF-8 bytes of each one's text."""
        self._tokens.write(np.ascontiguousarray(ids, self._dtype).data)
        self._lengths.append(np.asarray(lengths, np.uint32))
        self._bytes.append(np.asarray(text_bytes, np.uint32))

    def finish(self) -> ShardRecord:
        """Bring the shard to the disk, under its name."""
        lengths = np.concatenate([np.empty(0, np.uint32), *self._lengths])
        text_bytes = np.concatenate([np.empty(0, np.uint32), *self._bytes])
        table = np.stack([np.cumsum(lengths, dtype=np.uint32), text_bytes], axis=1)
        save_array(self._folder / f"{self._file}.documents.npy", table)
        sync_file(self._tokens)
        self._tokens.close()
        self._unfinished.rename(self._path)
        return ShardRecord(
            file=self._file,
            documents=len(lengths),
            bytes=int(text_bytes.sum(dtype=np.int64)),
            tokens=int(lengths.sum(dtype=np.int64)),
            checksum=edge_checksum(self._path),
        )


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file in one step: it is there whole, on the disk, or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_whole(path, buffer.getbuffer())


def edge_checksum(path: Path) -> str:
    """xxh3 over a file's size, first and last 64 KiB: finds a cut or foreign file without reading it all."""
    size = path.stat().st_size
    digest = xxhash.xxh3_64(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(EDGE_BYTES))
        file.seek(max(0, size - EDGE_BYTES))
        digest.update(file.read(EDGE_BYTES))
    return digest.hexdigest()


@dataclass(frozen=True)
class TokenShard:
    """One shard, mapped into memory: reading touches only the pages it needs."""

    tokens: NDArray[np.unsignedinteger]
    documents: NDArray[np.uint32]  # [documents, 2]: end in tokens, UTF-8 bytes


def open_shard(folder: Path, record: ShardRecord, dtype: str) -> TokenShard:
    """Map a shard, checking sizes and the cheap checksum.

    Raises:
        BllossomError: it is missing, cut short or another's.
    """
    path, table = folder / f"{record.file}.tokens", folder / f"{record.file}.documents.npy"
    kind = np.dtype(dtype).newbyteorder("<")
    try:
        agrees = path.stat().st_size == record.tokens * kind.itemsize and edge_checksum(path) == record.checksum
        documents = np.load(table, mmap_mode="r") if record.documents else np.empty((0, 2), np.uint32)
        agrees = agrees and documents.shape == (record.documents, 2) and documents.dtype == np.uint32
        agrees = agrees and _agrees(documents, record)
    except (OSError, ValueError, EOFError):
        agrees = False
    if not agrees:
        raise BllossomError(
            f"{path} is missing or damaged; bllossom verify {folder} lists all, prepare --force makes anew"
        )
    # A plain view: slicing a memmap object costs several times as much.
    tokens = np.asarray(np.memmap(path, kind, "r")) if record.tokens else np.empty(0, kind)
    return TokenShard(tokens, np.asarray(documents))


def _agrees(documents: NDArray[np.uint32], record: ShardRecord) -> bool:
    """Whether a document index is that of the record: ends that rise to its tokens, bytes that add up to its text.

    Unlike the tokens it is read in full: it has 8 bytes a document.
    """
    ends, text_bytes = documents[:, 0], documents[:, 1]
    last = int(ends[-1]) if len(ends) else 0
    rises = bool((ends[1:] >= ends[:-1]).all())
    return rises and last == record.tokens and int(text_bytes.sum(dtype=np.int64)) == record.bytes


class TokenStream:
    """The documents of one source end to end, over all its shards."""

    def __init__(self, shards: Sequence[TokenShard]) -> None:
        self._shards = list(shards)
        self._starts = [0]  # first token of each shard, and the end
        self._first_documents = [0]
        for shard in self._shards:
            self._starts.append(self._starts[-1] + len(shard.tokens))
            self._first_documents.append(self._first_documents[-1] + len(shard.documents))

    @property
    def tokens(self) -> int:
        return self._starts[-1]

    @property
    def documents(self) -> int:
        return self._first_documents[-1]

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the text that it stands for."""
        return sum(int(shard.documents[:, 1].sum(dtype=np.int64)) for shard in self._shards)

    def place_of(self, document: int) -> tuple[int, int]:
        """The shard that a document is in, by its place among them, and its place there; or IndexError."""
        if not 0 <= document < self.documents:
            raise IndexError(document)
        shard = bisect.bisect_right(self._first_documents, document) - 1
        return shard, document - self._first_documents[shard]

    def span_of(self, document: int) -> tuple[int, int, int]:
        """Where a document's tokens start and stop, and the UTF-8 bytes of its text."""
        shard, place = self.place_of(document)
        table = self._shards[shard].documents
        first, base = int(table[place - 1, 0]) if place else 0, self._starts[shard]
        return base + first, base + int(table[place, 0]), int(table[place, 1])

    def read(self, start: int, stop: int) -> Ids:
        """The tokens from offset `start` up to `stop`, int64 [stop - start]."""
        out = np.empty(stop - start, np.int64)
        at, filled = bisect.bisect_right(self._starts, start) - 1, 0
        while filled < len(out):
            offset = start + filled - self._starts[at]
            part = self._shards[at].tokens[offset : offset + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            at += 1
        return out

    def document_ends(self, start: int, stop: int) -> tuple[int, Ids]:
        """The id of the document that token `start` is in, and where it and the next ones end, up to `stop`.

        The last end is the first one at or after `stop`. A binary search in the mapped index; nothing is loaded.
        """
        ends: list[Ids] = []
        first = -1
        for at in range(bisect.bisect_right(self._starts, start) - 1, len(self._shards)):
            column = self._shards[at].documents[:, 0]
            base = self._starts[at]
            # np.searchsorted would copy the whole column, to compare it with a Python int.
            low = bisect.bisect_right(column, max(start - base, 0))
            high = bisect.bisect_left(column, stop - base) + 1
            if first < 0 and low < len(column):
                first = self._first_documents[at] + low
            ends.append(column[low:high].astype(np.int64) + base)
            if self._starts[at + 1] >= stop:
                break
        return first, np.concatenate(ends)


def write_index(folder: Path, index: TokenIndex) -> None:
    """Write index.json in one step: it is there whole, or not."""
    write_whole(folder / INDEX, json.dumps(index.model_dump(), ensure_ascii=False, indent=1).encode() + b"\n")


def read_index(folder: Path, tokenizer: str | None = None) -> TokenIndex:
    """Read index.json of a tokens folder, and compare its tokenizer with the one about to be used, if given.

    Raises:
        BllossomError: it is no tokens folder, it is damaged, or its ids are another tokenizer's.
    """
    path = folder / INDEX
    if not path.is_file():
        raise BllossomError(f"{folder} is no tokens folder (it has no {INDEX}); make one with bllossom prepare")
    try:
        index = TokenIndex.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BllossomError(f"{path} is damaged or of another version; run bllossom prepare again") from error
    if tokenizer is not None and tokenizer != index.tokenizer:
        raise BllossomError(
            f"{folder} was made with the tokenizer {index.tokenizer[:12]}, and this model has {tokenizer[:12]}; "
            f"use the tokenizer in {folder / 'tokenizer'}, or run bllossom prepare with the model's"
        )
    return index


def open_stream(folder: Path, index: TokenIndex, source: SourceRecord) -> TokenStream:
    """The training tokens of one source."""
    return TokenStream([open_shard(folder, shard, index.dtype) for shard in source.shards])


def open_heldout(folder: Path, index: TokenIndex, language: str, most_tokens: int | None = None) -> TokenStream:
    """The held-out tokens of all sources of one language, in the order of the sources.

    `most_tokens` bounds them: each source then gives the same share, its first whole documents, and at least one.
    """
    records = [source.heldout for source in index.sources if source.language == language and source.heldout]
    shards = [open_shard(folder, record, index.dtype) for record in records]
    total = sum(len(shard.tokens) for shard in shards)
    if most_tokens is not None and most_tokens < total:
        shards = [_beginning(shard, most_tokens / total) for shard in shards if len(shard.documents)]
    return TokenStream(shards)


def _beginning(shard: TokenShard, share: float) -> TokenShard:
    ends = shard.documents[:, 0]
    documents = max(1, bisect.bisect_right(ends, int(share * len(shard.tokens))))
    return TokenShard(shard.tokens[: ends[documents - 1]], shard.documents[:documents])
