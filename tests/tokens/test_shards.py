import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.errors import BllossomError
from bllossom.tokenizer.ids import token_dtype
from bllossom.tokens.shards import (
    ShardWriter,
    SourceRecord,
    TokenIndex,
    TokenShard,
    TokenStream,
    open_shard,
    read_index,
    write_index,
)

# Shards of documents of so many tokens each; a document has at least one.
SHARDS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4)


def write_shards(folder: Path, lengths: list[list[int]], dtype: str = "uint16") -> tuple[TokenStream, list[list[int]]]:
    """Shards whose tokens count up, and the documents that are in them."""
    documents, shards, token = [], [], 0
    for number, shard in enumerate(lengths):
        writer = ShardWriter(folder, f"a/{number}", dtype)
        for length in shard:
            documents.append(list(range(token, token + length)))
            writer.add(np.asarray(documents[-1], dtype), [length], [3 * length])
            token += length
        shards.append(open_shard(folder, writer.finish(), dtype))
    return TokenStream(shards), documents


@given(lengths=SHARDS, data=st.data())
def test_a_stream_reads_as_its_documents_end_to_end(tmp_path_factory, lengths, data) -> None:  # type: ignore[no-untyped-def]
    stream, documents = write_shards(tmp_path_factory.mktemp("shards"), lengths)
    tokens = [token for document in documents for token in document]
    assert (stream.tokens, stream.documents) == (len(tokens), len(documents))
    start = data.draw(st.integers(0, len(tokens) - 1))
    stop = data.draw(st.integers(start + 1, len(tokens)))
    read = stream.read(start, stop)
    assert read.dtype == np.int64
    assert read.tolist() == tokens[start:stop]
    first, ends = stream.document_ends(start, stop)
    all_ends = np.cumsum([len(document) for document in documents]).tolist()
    assert first == next(number for number, end in enumerate(all_ends) if end > start)
    inside = [end for end in all_ends[first:] if end < stop]
    assert ends.tolist() == [*inside, all_ends[first + len(inside)]]


def test_looking_for_documents_copies_no_index() -> None:
    documents = 100_000
    table = np.stack([np.arange(1, documents + 1) * 30, np.full(documents, 99)], axis=1).astype(np.uint32)
    stream = TokenStream([TokenShard(np.zeros(30 * documents, np.uint16), table)] * 2)
    tracemalloc.start()
    found = [stream.document_ends(start, start + 100) for start in (0, 1_500_010, 30 * documents - 50)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [first for first, _ in found] == [0, 50_000, documents - 2]
    assert found[2][1].tolist() == [30 * documents + places for places in (-30, 0, 30, 60)]
    assert peak < table.nbytes // 10


@pytest.mark.parametrize(("pieces", "dtype"), [(39478, "uint16"), (65536, "uint16"), (65537, "uint32")])
def test_ids_are_as_small_as_the_vocabulary_allows(tmp_path: Path, pieces: int, dtype: str) -> None:
    assert token_dtype(pieces) == dtype
    writer = ShardWriter(tmp_path, "a", dtype)
    writer.add(np.asarray([pieces - 1, 0], np.uint32), [2], [5])
    record = writer.finish()
    assert (tmp_path / "a.tokens").stat().st_size == 2 * np.dtype(dtype).itemsize
    assert open_shard(tmp_path, record, dtype).tokens.tolist() == [pieces - 1, 0]


def test_an_unfinished_shard_is_not_there(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "a", "uint16")
    writer.add(np.asarray([1], np.uint16), [1], [1])
    assert not (tmp_path / "a.tokens").exists()


CHANGES = {"last end": (2, 0), "end": (0, 0), "bytes": (1, 1)}  # by row and column of the document index


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "index", "index empty", "last end", "end", "bytes"])
def test_damage_is_met_on_opening(tmp_path: Path, damage: str) -> None:
    writer = ShardWriter(tmp_path, "a", "uint16")
    writer.add(np.arange(1000, dtype=np.uint16), [500, 200, 300], [2000, 800, 1200])
    record = writer.finish()
    path, index = tmp_path / "a.tokens", tmp_path / "a.documents.npy"
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-2])
    elif damage == "changed":
        path.write_bytes(b"\xff" + data[1:])
    elif damage == "gone":
        path.unlink()
    elif damage == "index empty":
        index.write_bytes(b"")
    elif damage in CHANGES:
        table = np.load(index)
        table[CHANGES[damage]] += 300
        np.save(index, table)
    else:
        index.write_bytes(index.read_bytes()[:60])
    with pytest.raises(BllossomError, match=r"a\.tokens is missing or damaged; bllossom verify .* lists all"):
        open_shard(tmp_path, record, "uint16")


def test_another_tokenizer_is_refused_with_both_named(tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match="is no tokens folder"):
        read_index(tmp_path)
    index = TokenIndex(
        dtype="uint16",
        pieces=500,
        bos=1,
        eos=None,
        tokenizer="a" * 64,
        sources=[SourceRecord(language="ko", name="x", shards=[], heldout=None)],
    )
    write_index(tmp_path, index)
    assert read_index(tmp_path, "a" * 64) == index
    with pytest.raises(
        BllossomError, match="made with the tokenizer aaaaaaaaaaaa, and this model has bbbbbbbbbbbb; use"
    ):
        read_index(tmp_path, "b" * 64)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(BllossomError, match="damaged or of another version"):
        read_index(tmp_path)
