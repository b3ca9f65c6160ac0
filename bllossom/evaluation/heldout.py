"""Bits per byte of held-out text: how well a model predicts a language, comparable across vocabularies.

Bits per byte = Σ −log2 p(token | what came before) / UTF-8 bytes of the text. What a text begins with (BOS or EOS, by
tokenizer/start.py) is the first token's context and is not predicted itself, nor is an EOS. A document longer than the
model's window is read through overlapping windows:

    tokens         0 1 2 3 4 5 6 7       a window of 4 inputs; B is what the text begins with
    window 1   B · 0 · 1 · 2 → 3         predicts 0 to 3
    window 2           1 · 2 · 3 · 4 → 5 predicts 4 and 5: the inputs before them are context, not predicted again
    window 3               3 · 4 · 5 · 6 → 7

so every token is predicted once, and with at least half a window before it where the document has that much. It is the
project's one definition; what training logs is a cheaper estimate, under another name.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.evaluation.scoring.backend import Backend
from bllossom.text.sources import read_documents as read_source
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.start import text_start


@dataclass(frozen=True)
class HeldOut:
    """What was measured on one language's held-out text. `samples`: each document's bits, bytes and tokens.

    `data`: sha256 of the documents, 16 hex digits.
    """

    bits_per_byte: float
    stderr: float | None
    documents: int
    bytes: int
    tokens: int
    data: str
    samples: list[dict[str, Any]]

    def figures(self) -> dict[str, Any]:
        """All but the samples, for a manifest."""
        return {name: value for name, value in vars(self).items() if name != "samples"}


def read_documents(source: str) -> list[str]:
    """The texts of a file, folder or glob in any format that prepare reads; empty ones are left out.

    Raises:
        BllossomError: nothing is there, something is broken, or it holds no text.
    """
    documents = [text for text in read_source(source) if text]
    if not documents:
        raise BllossomError(f"{source} holds no text; name held-out documents: JSONL, Parquet or plain text")
    return documents


def windows(tokens: int, size: int) -> list[tuple[int, int, int]]:
    """Spans (start, end, first) over BOS and `tokens` ids: predict [first, end) from [start, end − 1), `size` at most.

    Every position from 1 to `tokens` is predicted once, from the second span on with `size // 2` ids or more before it.
    """
    spans = [(0, min(tokens, size) + 1, 1)]
    step = max(size // 2, 1)
    while (done := spans[-1][1]) <= tokens:
        end = min(done + step, tokens + 1)
        spans.append((end - 1 - size, end, done))
    return spans


def document_nats(
    scorer: Backend,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[str],
    advance: Callable[[float], None] | None = None,
) -> tuple[list[float], list[int]]:
    """The summed log-probability (natural) of each document's tokens, and how many tokens it has.

    `advance` is told which share of the work has been done, as it is done.
    """
    start = text_start(tokenizer).document
    encoded = [[start, *encode_text(tokenizer, text)] for text in documents]
    spans = [
        (number, span) for number, ids in enumerate(encoded) for span in windows(len(ids) - 1, scorer.window) if ids[1:]
    ]
    sequences = [(encoded[number][first:end], predicted - first) for number, (first, end, predicted) in spans]
    found = scorer.score(sequences, advance)
    parts: list[list[float]] = [[] for _ in documents]
    for (number, _), scored in zip(spans, found, strict=True):
        parts[number].append(scored.nats)
    return [math.fsum(nats) for nats in parts], [len(ids) - 1 for ids in encoded]


def bits_per_byte(
    scorer: Backend,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[str],
    advance: Callable[[float], None] | None = None,
) -> HeldOut:
    """Measure `documents`, encoded by the model's own tokenizer; a literal `</s>` in them is text.

    The standard error is that of a ratio of sums over documents (linearised; Cochran, Sampling Techniques, 2.11).
    """
    nats, tokens = document_nats(scorer, tokenizer, documents, advance)
    sizes = [len(text.encode()) for text in documents]
    samples = [
        {"doc_id": number, "bits": -n / math.log(2), "bytes": size, "tokens": count}
        for number, (n, size, count) in enumerate(zip(nats, sizes, tokens, strict=True))
    ]
    ratio = -math.fsum(nats) / math.log(2) / sum(sizes)
    residuals = math.fsum((sample["bits"] - ratio * sample["bytes"]) ** 2 for sample in samples)
    count = len(documents)
    stderr = math.sqrt(residuals * count / (count - 1)) / sum(sizes) if count > 1 else None
    data = hashlib.sha256("".join(json.dumps(text) + "\n" for text in documents).encode()).hexdigest()[:16]
    return HeldOut(ratio, stderr, count, sum(sizes), sum(tokens), data, samples)
