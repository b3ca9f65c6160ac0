"""Words stand for the text they come from: the same tokens, and the shortest segmentation there is."""

from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bllossom.tokenizer.sentencepiece_file import NORMAL, read_model
from bllossom.vocab.samples import count_tokens, count_words, processor, read_samples, shortest_model


def shortest_length(text: str, pieces: Collection[str]) -> int:
    """The fewest tokens for a text by plain dynamic programming; a character without a piece costs its bytes."""
    text = "▁" + text.replace(" ", "▁")
    longest = max(map(len, pieces))
    fewest = [0]
    for end in range(1, len(text) + 1):
        character = text[end - 1]
        best = fewest[end - 1] + (1 if character in pieces else len(character.encode()))
        for start in range(max(0, end - longest), end - 1):
            if text[start:end] in pieces:
                best = min(best, fewest[start] + 1)
        fewest.append(best)
    return fewest[-1]


def test_words_cost_what_the_documents_cost(small_base: Path, texts: dict[str, Path]) -> None:
    encoder = processor(read_model(small_base / "tokenizer.model"))
    documents = [texts["en"].read_text()[:5000], texts["ko"].read_text()[:5000], " two  spaces ", "", "end \n", "  "]
    expected = sum(len(encoder.encode(document)) for document in documents)
    assert count_tokens(encoder, count_words(documents)) == expected


@settings(max_examples=100, deadline=None)
@given(text=st.text("theriv old stn가나🦕  \n", min_size=1, max_size=40))
def test_the_limit_is_the_shortest_segmentation(small_base: Path, text: str) -> None:
    model = read_model(small_base / "tokenizer.model")
    pieces = {piece.piece for piece in model.pieces if piece.type == NORMAL}
    assert len(processor(shortest_model(model)).encode(text)) == shortest_length(text, pieces)


def test_samples_are_read_as_prepare_makes_them(tmp_path: Path) -> None:
    path = tmp_path / "bn.jsonl"
    path.write_text(
        '{"text": "\\u09b8\\u09ae\\u09df\\r\\n\\ufeff\\u03b1\\u0301"}\n{"text": "\\ufeff"}\n', encoding="utf8"
    )
    assert read_samples({"bn": [path]}) == {"bn": ["\u09b8\u09ae\u09af\u09bc\n\u03ac"]}


@pytest.mark.real_data
def test_the_limit_on_real_text(llama2: Path, shared: Callable[[str], Path]) -> None:
    documents = read_samples({"ko": [shared("corpus/ko/tensorflow_docs_ko.jsonl.zst")]})["ko"][:20]
    model = read_model(llama2)
    pieces = {piece.piece for piece in model.pieces if piece.type == NORMAL}
    encoder = processor(shortest_model(model))
    short = [document[:1000] for document in documents]
    assert [len(encoder.encode(text)) for text in short] == [shortest_length(text, pieces) for text in short]
    assert count_tokens(encoder, count_words(short)) == sum(len(encoder.encode(text)) for text in short)
