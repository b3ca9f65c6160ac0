"""Bits per byte of held-out text: how well a model predicts a language, comparable across vocabularies.

Bits per byte = Σ −log2 p(token | what came before) / UTF-8 bytes of the text. BOS is the first token's context and is
not predicted itself, nor is an EOS. A document longer than the model's window is read through overlapping windows:

    tokens         0 1 2 3 4 5 6 7       a window of 4 inputs; B is BOS
    window 1   B · 0 · 1 · 2 → 3         predicts 0 to 3
    window 2           1 · 2 · 3 · 4 → 5 predicts 4 and 5: the inputs before them are context, not predicted again
    window 3               3 · 4 · 5 · 6 → 7

so every token is predicted once, and with at least half a window before it where the document has that much.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.evaluation.scoring import score, window
from bllossom.tokenizer.encode import encode_text


@dataclass(frozen=True)
class HeldOut:
    """What was measured on one language's held-out text."""

    bits_per_byte: float
    documents: int
    bytes: int
    tokens: int


def read_documents(path: Path) -> list[str]:
    """The texts of a JSONL file of `{"text": …}`.

    Raises:
        BllossomError: the file is not of that shape, or holds no text.
    """
    try:
        lines = path.read_text(encoding="utf8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BllossomError(f"{path} cannot be read ({error}); name a JSONL file of held-out documents") from error
    documents = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise BllossomError(f'{path}:{number}: should be {{"text": "…"}}; correct the line') from error
        if not isinstance(text, str):
            raise BllossomError(f"{path}:{number}: text should be a string; correct the line")
        if text:
            documents.append(text)
    if not documents:
        raise BllossomError(f"{path} holds no text; name a JSONL file of held-out documents")
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


def bits_per_byte(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, documents: Sequence[str], batch_size: int
) -> HeldOut:
    """Measure `documents`, encoded by the model's own tokenizer; a literal `</s>` in them is text."""
    encoded = [[tokenizer.bos_token_id, *encode_text(tokenizer, text)] for text in documents]
    sequences = [
        (ids[start:end], first - start) for ids in encoded for start, end, first in windows(len(ids) - 1, window(model))
    ]
    nats = -math.fsum(scored.nats for scored in score(model, sequences, batch_size, "held-out text"))
    size = sum(len(text.encode()) for text in documents)
    tokens = sum(len(ids) - 1 for ids in encoded)
    return HeldOut(nats / math.log(2) / size, len(documents), size, tokens)
