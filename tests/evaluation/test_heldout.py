"""Bits per byte against the plain computation, and the windows that make it possible for long documents."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from bllossom.errors import BllossomError
from bllossom.evaluation.heldout import bits_per_byte, read_documents, windows
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer

DOCUMENTS = [
    "서울은 대한민국의 수도이다. 한강이 도시를 가로지른다.",
    "Rome is the capital city of Italy.",
    "A literal </s> is text, and so is <s>.",
    "가",
    "짧은 글과 긴 글을 섞는다. " * 40,  # longer than the window
]


@given(tokens=st.integers(0, 300), size=st.integers(1, 50))
def test_windows_predict_every_token_once_with_context(tokens: int, size: int) -> None:
    spans = windows(tokens, size)
    predicted = [position for _, end, first in spans for position in range(first, end)]
    assert predicted == list(range(1, tokens + 1))
    assert all(start >= 0 and end - 1 - start <= size for start, end, _ in spans)
    assert all(first - start >= size // 2 for start, _, first in spans[1:])


@pytest.mark.real_data
def test_bits_per_byte_is_the_plain_sum_whatever_the_batch(model_folder: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder).eval(), load_tokenizer(model_folder)
    nats, size, tokens = 0.0, 0, 0
    for text in DOCUMENTS:
        ids = [1, *encode_text(tokenizer, text)]
        size += len(text.encode())
        tokens += len(ids) - 1
        with torch.no_grad():
            for start, end, first in windows(len(ids) - 1, 160):
                logits = model(input_ids=torch.tensor([ids[start:end]])).logits[0].double().log_softmax(-1)
                nats -= sum(logits[position - 1 - start, ids[position]].item() for position in range(first, end))
    assert max(len(encode_text(tokenizer, text)) for text in DOCUMENTS) > 400  # several windows of 160
    for batch_size in (1, 3):
        held = bits_per_byte(model, tokenizer, DOCUMENTS, batch_size)
        assert held.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-5)
        assert (held.documents, held.bytes, held.tokens) == (len(DOCUMENTS), size, tokens)


@pytest.mark.real_data
def test_a_uniform_model_needs_the_bits_of_its_vocabulary(model_folder: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder).eval(), load_tokenizer(model_folder)
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    held = bits_per_byte(model, tokenizer, DOCUMENTS, 4)
    assert held.bits_per_byte == pytest.approx(held.tokens * math.log2(32_000) / held.bytes, rel=1e-6)


def test_documents_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "ko.jsonl"
    texts = ["한 줄", "두\n줄과 \u2028 나머지"]
    path.write_text("\n".join(json.dumps({"text": t, "id": 1}, ensure_ascii=False) for t in texts), encoding="utf8")
    assert read_documents(path) == texts


@pytest.mark.parametrize(
    ("content", "told"),
    [('{"text": "a"}\n{"body": "b"}', "ko.jsonl:2: should be"), ('{"text": 3}', "ko.jsonl:1"), ("\n", "holds no text")],
)
def test_other_files_are_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "ko.jsonl"
    path.write_text(content, encoding="utf8")
    with pytest.raises(BllossomError, match=told):
        read_documents(path)
