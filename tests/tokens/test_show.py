"""What a person sees of a tokens folder, and that it is what the sources hold."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.corpus.prepare import prepare
from bllossom.errors import BllossomError
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokens.mixture import Mixture, MixtureConfig
from bllossom.tokens.origins import read_origin
from bllossom.tokens.shards import open_stream, read_index
from bllossom.tokens.show import pieces, show_block, show_document
from bllossom.training.block_rows import BlockRows

PART = re.compile(r"── document (\d+), tokens (\d+) to (\d+) of the block, (whole|part of its [\d,]+)\n.*\n(.*)")


@pytest.fixture
def tokens(make: Any, tmp_path: Path, corpus: dict[str, Path]) -> Path:
    """A tokens folder of three shards in one source, with dropped and held-out documents, and ids in another."""
    lines = corpus["news"].read_text(encoding="utf8").splitlines()
    rows = [{"id": f"news-{number}", **json.loads(line)} for number, line in enumerate(lines[:150])]
    nested = tmp_path / "nested.json"
    nested.write_text(json.dumps({"rows": [rows[3], *rows]}), encoding="utf8")
    sources = {"ko": [str(corpus["wiki"]), {"path": str(nested), "field": "rows[].text"}]}
    config = make(sources=sources, shard_bytes=6000)
    prepare(config)
    return config.output


def text_at(origin: Any) -> str:
    """What stands in a source where an origin says."""
    lines = Path(origin.file).read_text(encoding="utf8").splitlines()
    record = json.loads(lines[origin.record - 1])
    return record["rows"][origin.part]["text"] if "rows" in record else record["text"]


def shown(parts: Any) -> str:
    return "\n".join(part.plain for part in parts)


@pytest.mark.parametrize("source", ["wiki", "nested"])
@pytest.mark.parametrize("heldout", [False, True])
def test_every_document_is_found_where_it_came_from(tokens: Path, source: str, heldout: bool) -> None:
    index = read_index(tokens)
    [record] = [record for record in index.sources if record.name == source]
    count = (record.heldout.documents if record.heldout else 0) if heldout else record.documents
    assert count > 3
    for number in range(0, count, 5):
        header, origin, spelled = show_document(tokens, f"ko/{source}", number, heldout=heldout, colours=False)
        assert header.plain.startswith(f"── ko/{source}, document {number}{', held out' if heldout else ''}: ")
        file, line = re.match(r"from (.*):(\d+)", origin.plain).groups()  # type: ignore[union-attr]
        part = re.search(r"its (\d+)\. document", origin.plain)
        row = json.loads(Path(file).read_text(encoding="utf8").splitlines()[int(line) - 1])
        row = row["rows"][int(part[1]) - 1 if part else 0] if "rows" in row else row
        assert spelled.plain.replace("|", "").replace("▁", " ") == f"<s> {row['text']}</s>"
        assert ("id" in row) == (f", id {row.get('id')}" in origin.plain)


def test_identity_counts_for_no_fingerprint_and_may_be_lacking(tokens: Path) -> None:
    manifest = json.loads((tokens / "manifest.json").read_text(encoding="utf8"))
    assert not any("logs" in name for name in manifest["files"])
    shutil.rmtree(tokens / "logs")
    assert "where it comes from is not recorded" in shown(
        show_document(tokens, "ko/wiki", 3, heldout=False, colours=False)
    )


def test_identity_takes_little_room(tokens: Path) -> None:
    index = read_index(tokens)
    shards = [shard for source in index.sources for shard in source.shards]
    sizes = [(tokens / "logs/documents" / f"{shard.file}.parquet").stat().st_size for shard in shards]
    assert sum(sizes) / len(shards) < 4000
    origin = read_origin(tokens, shards[-1].file, 0)
    assert origin is not None
    assert text_at(origin)


def test_a_block_is_shown_with_the_borders_of_its_documents(tokens: Path) -> None:
    mixture = Mixture.open(tokens, MixtureConfig(weights={"ko": 1}), 64, 0)
    tokenizer = load_tokenizer(tokens / "tokenizer")
    for number in range(12):
        block = mixture.block(number)
        text = shown(show_block(mixture, number, colours=False))
        parts = re.findall(
            r"── document (\d+), tokens (\d+) to (\d+) of the block, (whole|part of its [\d,]+)\n.*\n(.*)", text
        )
        assert [int(part[0]) for part in parts] == block.documents.tolist()
        begins = np.flatnonzero(block.positions == 0).tolist()
        assert [(int(begin), int(end)) for _, begin, end, _, _ in parts] == list(
            zip(begins, [*begins[1:], 64], strict=True)
        )
        assert "|".join(part[-1] for part in parts) == "|".join(tokenizer.convert_ids_to_tokens(block.ids.tolist()))
        index = read_index(tokens)
        [source] = [source for source in index.sources if source.name == block.source]
        stream = open_stream(tokens, index, source)
        for document, begin, end, extent, _ in parts:
            start, stop, _ = stream.span_of(int(document))
            assert (extent == "whole") == (stop - start == int(end) - int(begin))


def test_what_a_bad_step_names_is_found(tokens: Path) -> None:
    rows = BlockRows(Mixture.open(tokens, MixtureConfig(weights={"ko": 1}), 64, 0), document_mask=True)
    said = rows.describe(5)
    assert said.startswith("block 5 (ko/")
    command = said.partition(": bllossom ")[2].split()
    result = CliRunner().invoke(make_app(), command)
    assert result.exit_code == 0
    assert result.stdout.count("── ko/") == len(rows.mixture.block(5).documents)
    assert "\x1b" not in result.stdout  # no colours in a pipe


def test_the_block_of_a_config_is_shown(tokens: Path, tmp_path: Path) -> None:
    config = tmp_path / "pretrain.yaml"
    config.write_text(
        f"model: {{init: {{hidden_size: 8, intermediate_size: 8, layers: 1, heads: 1}}}}\ntokens: {tokens}\n"
        f"output: {tmp_path / 'out'}\nmixture: {{weights: {{ko: 1}}}}\nblock_size: 64\nglobal_batch: 64\n"
        "micro_batch: 1\nsteps: 1\nlearning_rate: {peak: 0.001}\n"
    )
    result = CliRunner().invoke(make_app(), ["show", "block", "--config", str(config), "3", "block_size=32"])
    assert result.stdout.startswith("── block 3: 32 tokens of ko/"), result.output


def test_what_is_not_there_is_refused_with_what_is(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match="there is no source ko/news; name one of ko/wiki, ko/nested"):
        list(show_document(tokens, "ko/news", 0, heldout=False, colours=False))
    with pytest.raises(BllossomError, match=r"ko/wiki has \d+ documents, and no number 9,000; name one up to \d+"):
        list(show_document(tokens, "ko/wiki", 9000, heldout=False, colours=False))
    with pytest.raises(BllossomError, match="is no tokens folder"):
        list(show_document(tmp_path, "ko/wiki", 0, heldout=False, colours=False))


def test_pieces_have_colours_by_turns_on_a_terminal(tokens: Path) -> None:
    tokenizer = load_tokenizer(tokens / "tokenizer")
    ids = np.asarray([1, 300, 301, 302, 2])
    text = pieces(ids, tokenizer, colours=True)
    assert text.plain == "".join(tokenizer.convert_ids_to_tokens(ids.tolist()))
    styles = [str(span.style) for span in text.spans]
    assert styles[0] == styles[-1] != styles[1] != styles[2] != styles[3]
