"""A block, a row of tokens with the documents in it; and the held-out documents of a language as blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bllossom.errors import BllossomError
from bllossom.tokens.shards import Ids, TokenStream, open_heldout, read_index


@dataclass(frozen=True)
class Block:
    """A row of tokens for one step of training.

    `positions` restart at each document's first token, and at the block's: where they are 0 nothing is to be predicted.
    `documents` are the ids, within the source, of the documents it holds a part of.
    """

    ids: Ids  # int64 [block_size]
    positions: Ids  # int64 [block_size]
    language: str
    source: str
    documents: Ids  # int64 [documents in the block]


class HeldOutBlocks(Sequence[Block]):
    """The held-out documents of a language, for bits per byte: each token but a document's first is a label once.

    Blocks overlap by one token, which is context in the later one (position 0, nothing to predict); the last may be
    shorter than `block_size`. A block may run over from source to source: its `source` is empty, and its `documents`
    count through all held-out documents of the language. `bytes` are the UTF-8 bytes of all of them.
    """

    def __init__(self, stream: TokenStream, language: str, block_size: int, text_bytes: int) -> None:
        self.bytes, self.tokens, self.documents = text_bytes, stream.tokens, stream.documents
        self._stream, self._language, self._size = stream, language, block_size

    def __len__(self) -> int:
        return max(1, -(-(self.tokens - 1) // (self._size - 1))) if self.tokens else 0

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # an int gives a Block, a slice gives a list of them
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start = (index % len(self)) * (self._size - 1)
        length = min(self._size, self.tokens - start)
        positions, documents = positions_of(self._stream, start, length)
        return Block(self._stream.read(start, start + length), positions, self._language, "", documents)


def heldout_blocks(
    tokens_dir: Path, language: str, block_size: int, *, tokenizer: str | None = None, most_tokens: int | None = None
) -> HeldOutBlocks:
    """The held-out blocks of one language, of about `most_tokens` at most (see open_heldout).

    Raises:
        BllossomError: the folder has none in this language, is damaged, or has another tokenizer.
    """
    index = read_index(tokens_dir, tokenizer)
    held = [source.heldout for source in index.sources if source.language == language and source.heldout]
    if not held:
        raise BllossomError(f"{tokens_dir} holds no held-out text in {language!r}; set holdout in prepare")
    stream = open_heldout(tokens_dir, index, language, most_tokens)
    return HeldOutBlocks(stream, language, block_size, stream.bytes)


def positions_of(stream: TokenStream, start: int, length: int) -> tuple[Ids, Ids]:
    """Positions that restart at each document (and at `start`), and the ids of the documents."""
    first, ends = stream.document_ends(start, start + length)
    boundaries = ends[ends < start + length] - start
    begins = np.concatenate([[0], boundaries])
    lengths = np.diff(begins, append=length)
    positions = np.arange(length, dtype=np.int64) - np.repeat(begins, lengths)
    return positions, np.arange(first, first + len(begins), dtype=np.int64)
