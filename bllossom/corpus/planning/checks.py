"""What is refused before anything is tokenised: sources whose samples are broken or empty, a disk that is too small."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bllossom.console import say, size_text
from bllossom.corpus.planning.estimate import INDEX_BYTES, Estimate
from bllossom.corpus.readings import Reading, first_documents
from bllossom.errors import BllossomError
from bllossom.paths import shown
from bllossom.tokenizer.encode import Encoder, Encoders
from bllossom.tokenizer.ids import token_dtype

ENCODED_BYTES = 64_000  # of each source, for the room on the disk: 10 to 30 ms
ORIGIN_BYTES = 12  # of a document: what tells where it comes from, packed; more where its source gives it an id


def check_sources(readings: Sequence[Reading], estimates: Sequence[Estimate], on_error: str) -> None:
    """Refuse what the samples show to be broken or empty: a large source before it would be tokenised in vain."""
    problems = []
    for reading, estimate in zip(readings, estimates, strict=True):
        if estimate.broken and on_error == "stop":
            problems.append(f"{estimate.broken}, or set on_error: skip")
        elif estimate.exact and not estimate.text_bytes:
            problems.append(_no_text(reading, estimate))
    if problems:
        raise BllossomError("\n".join(problems))


def _no_text(reading: Reading, estimate: Estimate) -> str:
    own = reading.heldout_share == 1
    name = f"{reading.language}/{reading.source}{': its holdout_path' if own else ''}"
    change = "name another path, or set holdout in its place" if own else "leave the source out, or name another path"
    if estimate.broken:
        return f"{name} holds no record that can be read, first {estimate.broken}, or {change}"
    return f"{name} holds no text; {change}"


def tell_large_documents(estimates: Sequence[Estimate]) -> None:
    """Say which large files of plain text are one document each: mostly, nobody meant that."""
    for path in (path for estimate in estimates for path in estimate.large_documents):
        say(
            f"{shown(path)}: {size_text(path.stat().st_size)} of plain text without a blank line are one document; "
            "set split: line where each line is one"
        )


def check_disk(needed: int, folder: Path) -> None:
    """Refuse to start what will not fit. A run that goes on has part of it written already."""
    more = needed - sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free
    if more > free:
        raise BllossomError(
            f"the tokens need about {size_text(more)} more, and {folder.parent} has {size_text(free)} free; "
            "make some room, or choose an output on another disk"
        )


def disk_bytes(
    reading: Reading, estimate: Estimate, encoders: Encoders, *, edges: int, deduplicate: bool, shard_bytes: int
) -> int:
    """What a reading takes on the disk, where nothing is dropped, with `edges` tokens put around each document.

    What is held out lies in the work folder too, as tokens and text.

    The work folder also has a hash of each document, and of each slice how often it has each piece: int64.
    """
    tokens = estimate.text_bytes * _tokens_per_byte(encoders, reading) + edges * estimate.documents
    shards = (
        tokens * np.dtype(token_dtype(encoders.pieces)).itemsize + (INDEX_BYTES + ORIGIN_BYTES) * estimate.documents
    )
    slices = estimate.text_bytes // shard_bytes + 1
    work = 8 * (deduplicate * estimate.documents + encoders.pieces * slices)
    heldout = reading.heldout_share * (shards + 2 * estimate.text_bytes)
    return round(shards + work + heldout)


def _tokens_per_byte(encoders: Encoders, reading: Reading) -> float:
    """Of a source's first documents. It is 0.27 for English and 0.56 for Korean with Llama 2's tokenizer."""
    texts: list[bytes] = []
    room = ENCODED_BYTES
    for text in first_documents(reading):
        texts.append(text[:room].decode(errors="ignore").encode())
        room -= len(texts[-1])
        if room <= 0:
            break
    encoder: Encoder = encoders.fast or encoders.reference
    return len(encoder.encode(texts).ids) / max(1, sum(map(len, texts)))
