"""What stands in a tokens folder, for a person: documents and blocks, with their pieces and where they come from."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.text import Text
from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokens.mixture import Mixture
from bllossom.tokens.origins import read_origin
from bllossom.tokens.shards import (
    Ids,
    ShardRecord,
    SourceRecord,
    TokenIndex,
    TokenStream,
    open_shard,
    open_stream,
    read_index,
)

STYLES = ("on grey15", "on grey30")  # of pieces by turns, so that a terminal shows where each ends
SPECIAL, HEADER, UNSAID = "bold magenta", "bold", "dim"
BORDER = "|"  # between pieces, where there are no colours
LINE_ENDS = ("\n", "<0x0A>", "Ċ")  # pieces after which a person wants a new line


def show_document(folder: Path, source: str, number: int, *, heldout: bool, colours: bool) -> Iterator[Text]:
    """A document of a source (`ko/wiki`), counted from 0 as training counts them, or one of those held out.

    Raises:
        BllossomError: there is no such source or document; says which there are.
    """
    index = read_index(folder)
    tokenizer = load_tokenizer(folder / "tokenizer")
    record = find_source(index, source)
    shards = _shards(record, heldout)
    stream = TokenStream([open_shard(folder, shard, index.dtype) for shard in shards])
    if not 0 <= number < stream.documents:
        kept = "held-out documents" if heldout else "documents"
        last = f"; name one up to {stream.documents - 1:,}" if stream.documents else ""
        raise BllossomError(f"{folder}: {source} has {stream.documents:,} {kept}, and no number {number:,}{last}")
    start, stop, text_bytes = stream.span_of(number)
    held = ", held out" if heldout else ""
    yield Text(f"── {source}, document {number}{held}: {stop - start:,} tokens, {text_bytes:,} bytes", HEADER)
    yield _origin(folder, shards, stream, number)
    yield pieces(stream.read(start, stop), tokenizer, colours=colours)


def show_block(mixture: Mixture, number: int, *, colours: bool) -> Iterator[Text]:
    """A block of a mixture, and the documents in it, each from where the block cuts it.

    Raises:
        BllossomError: its source would be read more often than `max_epochs` allows.
    """
    block = mixture.block(number)
    index = read_index(mixture.folder)
    tokenizer = load_tokenizer(mixture.folder / "tokenizer")
    record = find_source(index, f"{block.language}/{block.source}")
    stream = open_stream(mixture.folder, index, record)
    tokens, source = len(block.ids), f"{block.language}/{block.source}"
    yield Text(f"── block {number}: {tokens:,} tokens of {source}, {len(block.documents)} document(s)", HEADER)
    begins = [*np.flatnonzero(block.positions == 0).tolist(), tokens]
    for document, (begin, end) in zip(block.documents.tolist(), pairwise(begins), strict=True):
        start, stop, _ = stream.span_of(document)
        whole = "whole" if end - begin == stop - start else f"part of its {stop - start:,}"
        yield Text(f"── document {document}, tokens {begin} to {end} of the block, {whole}", HEADER)
        yield _origin(mixture.folder, record.shards, stream, document)
        yield pieces(block.ids[begin:end], tokenizer, colours=colours)


def find_source(index: TokenIndex, name: str) -> SourceRecord:
    """A source by its language and name, `ko/wiki`.

    Raises:
        BllossomError: there is none of this name; says which there are.
    """
    found = {f"{source.language}/{source.name}": source for source in index.sources}
    if name not in found:
        raise BllossomError(f"there is no source {name}; name one of {', '.join(found)}")
    return found[name]


def pieces(ids: Ids, tokenizer: PreTrainedTokenizerFast, *, colours: bool) -> Text:
    """The pieces that ids stand for: in colours by turns, or with borders between them."""
    special = set(tokenizer.all_special_ids)
    text = Text()
    for place, token in enumerate(ids.tolist()):
        piece = _written(token, tokenizer)
        text.append(piece, SPECIAL if token in special else STYLES[place % 2])
        if not colours and place + 1 < len(ids):
            text.append(BORDER, UNSAID)
        if tokenizer.convert_ids_to_tokens(token) in LINE_ENDS:
            text.append("\n")
    return text


def _written(token: int, tokenizer: PreTrainedTokenizerFast) -> str:
    """A piece as its vocabulary writes it; where that stands for bytes, what these spell, if it is whole characters."""
    piece = str(tokenizer.convert_ids_to_tokens(token))
    if piece.isascii() or "ByteLevel" not in str(tokenizer.backend_tokenizer.decoder):
        return piece
    spelled = str(tokenizer.backend_tokenizer.decode([token], skip_special_tokens=False))
    return piece if "\ufffd" in spelled else spelled.replace(" ", "▁").replace("\n", "\\n")


def _shards(record: SourceRecord, heldout: bool) -> Sequence[ShardRecord]:
    if heldout:
        return [record.heldout] if record.heldout else []
    return record.shards


def _origin(folder: Path, shards: Sequence[ShardRecord], stream: TokenStream, document: int) -> Text:
    shard, place = stream.place_of(document)
    found = read_origin(folder, shards[shard].file, place)
    if found is None:
        return Text("where it comes from is not recorded: the folder was prepared before that was", UNSAID)
    return Text(f"from {found}", UNSAID)
