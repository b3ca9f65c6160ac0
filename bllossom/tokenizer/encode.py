"""From outside text to token ids: one text at a time, or many as fast as can be had with the reference's very ids.

The reference is the tokenizer's own implementation (Hugging Face tokenizers). gigatoken is several times as fast, and
is used where its ids on the first documents of every source are the same; it is known to differ on vocabularies whose
merges tie.
"""

import json
import os
import re
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from bllossom.tokenizer.ids import count_ids, token_dtype

# Literal special tokens, and what else is easy to get wrong: always compared, beside the sources' first documents.
PROBES = ("</s>", "a <s>b</s> c", "<unk>", "  two  spaces ", "tab\tnewline\n\n", " ", "\n", "ﬁ ½ é 각 각", "👩‍👩‍👧 ☃")

REFERENCE_BATCH = 64  # documents
MARK = "▁"  # SentencePiece's space
WORD = re.compile(f"(?<=[^{MARK}]){MARK}")  # where a word begins: never inside a run of spaces
PART_CHARACTERS = 1000  # a BPE's heap grows with its text: 40 % faster than whole documents; shorter, overhead shows


@dataclass(frozen=True)
class Encoded:
    """Documents end to end."""

    ids: NDArray[np.unsignedinteger]  # [tokens]
    lengths: NDArray[np.int64]  # [documents]


class Encoder(Protocol):
    """Encodes outside text (UTF-8 bytes): no special tokens added, and literal ones stay text."""

    name: Literal["tokenizers", "gigatoken"]

    def encode(self, texts: Sequence[bytes]) -> Encoded: ...


class ReferenceEncoder:
    """The tokenizer's own implementation, on so many threads.

    The library makes Python objects of its results one thread at a time; feeding it from several keeps the others busy.
    """

    name: Literal["tokenizers", "gigatoken"] = "tokenizers"

    def __init__(self, tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any], threads: int) -> None:
        # A copy: splitting special tokens is a state of the backend, and the caller's must not change.
        self._backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        self._by_words = encodes_word_by_word(settings)
        if self._by_words:
            # Done by `_parts`: the library would keep every character's origin, a sixth of the time.
            self._backend.normalizer = None
        self._dtype = token_dtype(count_ids(tokenizer))
        self._threads = threads

    def encode(self, texts: Sequence[bytes]) -> Encoded:
        # Little at a time: an encoding takes some hundred times the memory of its ids.
        batches = [texts[start : start + REFERENCE_BATCH] for start in range(0, len(texts), REFERENCE_BATCH)]
        with ThreadPoolExecutor(self._threads) as threads:
            rows = [row for batch in threads.map(self._rows, batches) for row in batch]
        return Encoded(np.concatenate([np.empty(0, self._dtype), *rows]), np.fromiter(map(len, rows), np.int64))

    def _rows(self, texts: Sequence[bytes]) -> list[NDArray[np.unsignedinteger]]:
        parts = [self._parts(text.decode()) for text in texts]
        flat = [part for document in parts for part in document]
        encodings = iter(self._backend.encode_batch_fast(flat, add_special_tokens=False))
        rows = []
        for document in parts:
            ids = array("I")  # takes a list's numbers in a third of the time that numpy does
            for encoding in islice(encodings, len(document)):
                ids.fromlist(encoding.ids)
            rows.append(np.asarray(ids).astype(self._dtype))
        return rows

    def _parts(self, text: str) -> list[str]:
        """What is encoded in one go: the text, or stretches of its words with their spaces marked."""
        if not (text and self._by_words):
            return [text]
        marked = MARK + text.replace(" ", MARK)
        cuts = [0]
        while (word := WORD.search(marked, cuts[-1] + PART_CHARACTERS)) is not None:
            cuts.append(word.start())
        return [marked[start:stop] for start, stop in pairwise([*cuts, len(marked)])]


def encodes_word_by_word(settings: dict[str, Any]) -> bool:
    """Whether a tokenizer (its tokenizer.json) marks spaces as SentencePiece does, and each word's ids are its own.

    They are where no piece goes on behind a mark that follows something else: no merge can then reach into the next
    word. Llama's and KoBERT's pieces are such, as SentencePiece trains them by default (split_by_whitespace).
    """
    marking = [
        {"type": "Prepend", "prepend": MARK},
        {"type": "Replace", "pattern": {"String": " "}, "content": MARK},
    ]
    model = settings["model"]
    return (
        # Other added tokens are looked for first, and what lies between them is marked part by part.
        all(token["special"] for token in settings.get("added_tokens") or [])
        and settings.get("normalizer") == {"type": "Sequence", "normalizers": marking}
        and settings.get("pre_tokenizer") is None
        and model["type"] == "BPE"
        and not model.get("dropout")
        and MARK in model["vocab"]  # else unknown characters could be fused across it
        and not any(WORD.search(piece) for piece in model["vocab"])
    )


class GigatokenEncoder:
    """gigatoken (MIT). It matches special tokens inside text, so it is given a tokenizer that has none."""

    name: Literal["tokenizers", "gigatoken"] = "gigatoken"

    def __init__(self, settings: dict[str, Any], threads: int) -> None:
        # gigatoken imports these when it first encodes, and takes a Ctrl-C meanwhile for their absence: it goes on to
        # fail in a way of its own. After the text encoded below it has nothing left to import.
        import awkward  # noqa: F401
        import gigatoken
        import numpy.ma  # noqa: F401

        if plain := [token["content"] for token in settings.get("added_tokens") or [] if not token["special"]]:
            # The reference finds these inside text, too; no sample need hold one.
            raise ValueError(f"it would not find the added tokens {', '.join(map(repr, plain[:3]))}")
        plainer = settings | {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        self._tokenizer = gigatoken.Tokenizer.from_json(json.dumps(plainer))
        self._parallel = None if threads > 1 else False  # None: on the threads of the process, RAYON_NUM_THREADS
        self.encode([b"a"])

    def encode(self, texts: Sequence[bytes]) -> Encoded:
        layout = self._tokenizer.encode_batch(list(texts), parallel=self._parallel).layout
        offsets = np.asarray(layout.offsets.data, np.int64)
        return Encoded(np.asarray(layout.content.data)[offsets[0] : offsets[-1]], np.diff(offsets))


class Encoders:
    """The reference and, where there is one for this tokenizer, the fast encoder; on all cores, or as few as told."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, threads: int | None = None) -> None:
        threads = threads or os.cpu_count() or 1
        settings = json.loads(tokenizer.backend_tokenizer.to_str())  # as in tokenizer.json
        self.pieces = count_ids(tokenizer)
        self.reference = ReferenceEncoder(tokenizer, settings, threads)
        self.fast: GigatokenEncoder | None = None
        self.why_not = ""
        try:
            self.fast = GigatokenEncoder(settings, threads)
        # A tokenizer it cannot take makes it raise what it likes, a Rust panic (a BaseException) among it.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]  # below: where in its source it was
            self.why_not = f"gigatoken cannot take this tokenizer ({reason})"

    def choose(self, samples: Sequence[bytes]) -> tuple[Encoder, str]:
        """The fast encoder if it agrees with the reference on the samples, else the reference and why."""
        if self.fast is None:
            return self.reference, self.why_not
        texts = [*(probe.encode() for probe in PROBES), *samples]
        differs = first_difference(texts, self.fast.encode(texts), self.reference.encode(texts))
        if differs is None:
            return self.fast, ""
        return self.reference, f"gigatoken's ids differ from the tokenizer's own, first in {differs!r}"


def first_difference(texts: Sequence[bytes], one: Encoded, other: Encoded) -> str | None:
    """The beginning of the first text that two encodings differ on; None if there is none."""
    ends, other_ends = np.cumsum(one.lengths), np.cumsum(other.lengths)
    for text, end, length, other_end, other_length in zip(
        texts, ends, one.lengths, other_ends, other.lengths, strict=True
    ):
        if not np.array_equal(one.ids[end - length : end], other.ids[other_end - other_length : other_end]):
            return text[:120].decode(errors="ignore")
    return None


def add_edges(encoded: Encoded, bos: int | None, eos: int | None, dtype: str) -> Encoded:
    """Put bos before and eos after every document, where given."""
    extra = (bos is not None) + (eos is not None)
    lengths = encoded.lengths + extra
    ends = np.cumsum(lengths)
    ids = np.empty(int(ends[-1]) if len(ends) else 0, dtype)
    inner = np.ones(len(ids), bool)
    if bos is not None:
        ids[ends - lengths] = bos
        inner[ends - lengths] = False
    if eos is not None:
        ids[ends - 1] = eos
        inner[ends - 1] = False
    ids[inner] = encoded.ids
    return Encoded(ids, lengths)


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Encode outside text: no special tokens added, and a literal `</s>` stays text. These are SentencePiece's ids."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return ids
