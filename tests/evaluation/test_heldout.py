"""Bits per byte against the plain computation, and the windows that make it possible for long documents."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.evaluation.heldout import bits_per_byte, read_documents, windows
from bllossom.evaluation.scoring.scorer import Scorer
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer

DOCUMENTS = [
    "서울은 대한민국의 수도이다. 한강이 도시를 가로지른다.",
    "Rome is the capital city of Italy.",
    "A literal </s> is text, and so are <s> and <|end|>.",
    "가",
    "짧은 글과 긴 글을 섞는다. " * 40,  # longer than the window
]


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    return AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(folder)


@given(tokens=st.integers(0, 300), size=st.integers(1, 50))
def test_windows_predict_every_token_once_with_context(tokens: int, size: int) -> None:
    spans = windows(tokens, size)
    predicted = [position for _, end, first in spans for position in range(first, end)]
    assert predicted == list(range(1, tokens + 1))
    assert all(start >= 0 and end - 1 - start <= size for start, end, _ in spans)
    assert all(first - start >= size // 2 for start, _, first in spans[1:])


def check_against_the_plain_sum(folder: Path, start: int) -> None:
    model, tokenizer = load(folder)
    bits, sizes, tokens = [], [], 0
    for text in DOCUMENTS:
        ids = [start, *encode_text(tokenizer, text)]
        sizes.append(len(text.encode()))
        tokens += len(ids) - 1
        nats = 0.0
        with torch.no_grad():
            for begin, end, first in windows(len(ids) - 1, 160):
                logits = model(input_ids=torch.tensor([ids[begin:end]])).logits[0].double().log_softmax(-1)
                nats -= sum(logits[position - 1 - begin, ids[position]].item() for position in range(first, end))
        bits.append(nats / math.log(2))
    assert max(len(encode_text(tokenizer, text)) for text in DOCUMENTS) > 400  # several windows of 160
    for batch_tokens in (1, 1024):
        done: list[float] = []
        held = bits_per_byte(Scorer.of(model, batch_tokens), tokenizer, DOCUMENTS, done.append)
        assert held.bits_per_byte == pytest.approx(sum(bits) / sum(sizes), rel=1e-5)
        assert (held.documents, held.bytes, held.tokens) == (len(DOCUMENTS), sum(sizes), tokens)
        assert [sample["bits"] for sample in held.samples] == pytest.approx(bits, rel=1e-4)
        assert sum(done) == pytest.approx(1)


@pytest.mark.real_data
def test_bits_per_byte_is_the_plain_sum_whatever_the_batch(model_folder: Path) -> None:
    check_against_the_plain_sum(model_folder, start=1)


def test_without_bos_a_document_comes_after_eos(byte_level: Path) -> None:
    check_against_the_plain_sum(byte_level, start=load_tokenizer(byte_level).eos_token_id)


def test_the_standard_error_is_that_of_documents_drawn_anew(byte_level: Path) -> None:
    model, tokenizer = load(byte_level)
    documents = [text * repeats for repeats in range(1, 9) for text in DOCUMENTS[:3]]
    held = bits_per_byte(Scorer.of(model, 4096), tokenizer, documents)
    bits, sizes = (torch.tensor([sample[name] for sample in held.samples]) for name in ("bits", "bytes"))
    drawn = torch.randint(len(documents), (2000, len(documents)), generator=torch.Generator().manual_seed(0))
    ratios = bits[drawn].sum(1) / sizes[drawn].sum(1)
    assert held.stderr == pytest.approx(float(ratios.std()), rel=0.15)


def test_a_uniform_model_needs_the_bits_of_its_vocabulary(byte_level: Path) -> None:
    model, tokenizer = load(byte_level)
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    held = bits_per_byte(Scorer.of(model, 1024), tokenizer, DOCUMENTS)
    assert held.bits_per_byte == pytest.approx(held.tokens * math.log2(len(tokenizer)) / held.bytes, rel=1e-6)


def test_documents_are_read_whole_from_files_and_folders(tmp_path: Path) -> None:
    texts = ["한 줄", "두\n줄과 \u2028 나머지"]
    lines = "\n".join(json.dumps({"text": t, "id": 1}, ensure_ascii=False) for t in [*texts, ""])
    (tmp_path / "ko.jsonl").write_text(lines, encoding="utf8")
    (tmp_path / "more.txt").write_text("첫째\n\n둘째\n", encoding="utf8")
    assert read_documents(str(tmp_path / "ko.jsonl")) == texts
    assert read_documents(str(tmp_path)) == [*texts, "첫째", "둘째"]


@pytest.mark.parametrize(
    ("content", "told"),
    [('{"text": "a"}\n{"body": "b"}', r"ko\.jsonl:2"), ('{"text": 3}', r"ko\.jsonl:1"), ("\n", "holds no text")],
)
def test_other_files_are_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "ko.jsonl"
    path.write_text(content, encoding="utf8")
    with pytest.raises(BllossomError, match=told):
        read_documents(str(path))
