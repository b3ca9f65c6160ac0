"""The end of prepare: held-out text, the report, what was dropped, and the index that makes the folder whole."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from bllossom.console import say
from bllossom.corpus.marks import MISSING, SAMPLES, Mark, Progress
from bllossom.corpus.readings import Reading
from bllossom.corpus.slices import Settings
from bllossom.errors import BllossomError
from bllossom.files import write_whole
from bllossom.tokenizer.ids import tokenizer_fingerprint
from bllossom.tokens.origins import join_origins
from bllossom.tokens.shards import (
    HELDOUT,
    ShardRecord,
    ShardWriter,
    SourceRecord,
    TokenIndex,
    open_shard,
    write_index,
)

DROPPED = "dropped.jsonl"
REPORT = "report.json"


def finish(
    readings: Sequence[Reading],
    done: Progress,
    settings: Settings,
    tokenizer: PreTrainedTokenizerFast,
    licences: Mapping[str, str],
    folder: Path,
    work: Path,
) -> None:
    """Put everything but the shards in place; may be repeated after a kill.

    Raises:
        BllossomError: a source gave no text to train on.
    """
    sources = {(reading.language, reading.source): [] for reading in readings}  # type: ignore[var-annotated]
    for number, mark in enumerate(done.marks):
        reading = readings[mark.reading]
        sources[reading.language, reading.source].append((number, mark, reading))
    records, report, samples = [], {}, []
    for (language, name), parts in sources.items():
        marks = [mark for _, mark, _ in parts]
        record = SourceRecord(
            language=language,
            name=name,
            shards=_training_shards(parts, folder),
            heldout=_join_heldout(parts, f"{HELDOUT}/{language}/{name}", settings.dtype, folder, work),
        )
        records.append(record)
        _tell_skipped(f"{language}/{name}", marks)
        report[f"{language}/{name}"] = _figures(record, marks, licences.get(f"{language}/{name}", ""))
        samples += _samples(language, name, marks)
        if not record.documents:
            raise BllossomError(_empty(record, [(mark, reading) for _, mark, reading in parts]))
    languages = list(dict.fromkeys(record.language for record in records))
    for language in languages:
        _join_text(language, sources, folder, work)
    lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    write_whole(folder / DROPPED, lines.encode())
    figures = _totals(records) | {
        "unigram_bits_per_byte": _unigram_bits_per_byte(languages, records, done, readings, settings, folder, work),
        "encoders": sorted({mark.encoder for mark in done.marks}),
        "sources": report,
    }
    write_whole(folder / REPORT, json.dumps(figures, ensure_ascii=False, indent=1).encode() + b"\n")
    index = TokenIndex(
        dtype=settings.dtype,
        pieces=settings.pieces,
        bos=settings.bos,
        eos=settings.eos,
        tokenizer=tokenizer_fingerprint(tokenizer),
        sources=records,
    )
    write_index(folder, index)


Part = tuple[int, Mark, Reading]


def _training_shards(parts: Sequence[Part], folder: Path) -> list[ShardRecord]:
    """The shards with text; those where everything was dropped go."""
    shards = []
    for _, mark, reading in parts:
        if mark.shard.documents:
            shards.append(mark.shard)
        elif reading.heldout_share < 1:
            for suffix in (".tokens", ".documents.npy"):
                (folder / f"{mark.shard.file}{suffix}").unlink(missing_ok=True)
    return shards


def _join_heldout(parts: Sequence[Part], file: str, dtype: str, folder: Path, work: Path) -> ShardRecord | None:
    """One held-out shard per source, from those of its slices."""
    if not any(mark.heldout.documents for _, mark, _ in parts):
        return None
    writer = ShardWriter(folder, file, dtype)
    for _, mark, _ in parts:
        shard = open_shard(work, mark.heldout, dtype)
        ends = shard.documents[:, 0]
        writer.add(shard.tokens, np.diff(ends, prepend=np.uint32(0)), shard.documents[:, 1])
    join_origins(folder, file, [(work, mark.heldout.file) for _, mark, _ in parts if mark.heldout.documents])
    return writer.finish()


def _join_text(language: str, sources: Mapping[tuple[str, str], Sequence[Part]], folder: Path, work: Path) -> None:
    mine = [(number, reading) for (of, _), parts in sources.items() if of == language for number, _, reading in parts]
    path = folder / HELDOUT / f"{language}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for number, _ in mine:
            file.write((work / f"{number:05d}.heldout.jsonl").read_bytes())
    if not path.stat().st_size:
        path.unlink()
        own = any(reading.heldout_share == 1 for _, reading in mine)
        change = "name a holdout_path of which something is kept" if own else "raise holdout"
        say(f"{language}: no document is held out; {change}, or no bits per byte can be measured in it")


def _tell_skipped(name: str, marks: Sequence[Mark]) -> None:
    """Say what was read past: the report has it too, but who runs the stage should not have to look."""
    broken = sum(mark.tally.broken for mark in marks)
    missing = sum(mark.tally.dropped.get(MISSING, (0, 0))[0] for mark in marks)
    if broken:
        first = next(drop for mark in marks for drop in mark.samples if drop.reason == "broken")
        say(
            f"{name}: {broken:,} broken record(s) skipped, the first {first.file}:{first.record}: {first.detail}; "
            f"{DROPPED} lists the first {SAMPLES}"
        )
    if missing:
        say(f"{name}: {missing:,} document(s) without the field, or with null there, left out")


def _figures(record: SourceRecord, marks: Sequence[Mark], licence: str) -> dict[str, Any]:
    dropped: dict[str, dict[str, int]] = {}
    for mark in marks:
        for reason, (documents, text) in mark.tally.dropped.items():
            sums = dropped.setdefault(reason, {"documents": 0, "bytes": 0})
            sums["documents"] += documents
            sums["bytes"] += text
    heldout = record.heldout
    return {
        "documents": record.documents,
        "bytes": record.bytes,
        "tokens": record.tokens,
        "heldout": {"documents": heldout.documents, "bytes": heldout.bytes, "tokens": heldout.tokens}
        if heldout
        else None,
        "read": {
            "documents": sum(mark.tally.read[0] for mark in marks),
            "bytes": sum(mark.tally.read[1] for mark in marks),
        },
        "dropped": dropped,
        "bytes_cleaned_away": sum(mark.tally.changed for mark in marks),
        "broken_records": sum(mark.tally.broken for mark in marks),
        "encoder": marks[0].encoder if marks else "",
        "licence": licence,
    }


def _totals(records: Sequence[SourceRecord]) -> dict[str, Any]:
    languages: dict[str, dict[str, int]] = {}
    for record in records:
        sums = languages.setdefault(record.language, {"documents": 0, "bytes": 0, "tokens": 0})
        sums["documents"] += record.documents
        sums["bytes"] += record.bytes
        sums["tokens"] += record.tokens
    total = {key: sum(sums[key] for sums in languages.values()) for key in ("documents", "bytes", "tokens")}
    return total | {"languages": languages}


def _samples(language: str, name: str, marks: Sequence[Mark]) -> list[dict[str, Any]]:
    seen: dict[str, int] = {}
    rows = []
    for drop in (drop for mark in marks for drop in mark.samples):
        seen[drop.reason] = seen.get(drop.reason, 0) + 1
        if seen[drop.reason] <= SAMPLES or drop.reason == "contaminated":
            rows.append({"language": language, "source": name} | drop.model_dump())
    return rows


# What keeps documents that were dropped for a reason other than cleaning.
REMEDIES = {
    "duplicate": "set deduplicate: false to keep what came before it too",
    "near duplicate": "raise near_duplicates.threshold",
    MISSING: "set field to where its text is",
    "contaminated": "raise decontaminate.overlap, or take the tests it is made of out of decontaminate.paths",
}


def _empty(record: SourceRecord, parts: Sequence[tuple[Mark, Reading]]) -> str:
    """Why a source has nothing to train on, and what to change."""
    name = f"{record.language}/{record.name}"
    own_heldout = any(reading.heldout_share == 1 for _, reading in parts)
    marks = [mark for mark, reading in parts if reading.heldout_share < 1]  # its held-out file is another text
    dropped = {reason for mark in marks for reason in mark.tally.dropped}
    broken = sum(mark.tally.broken for mark in marks)
    if record.heldout and not own_heldout:
        count = record.heldout.documents
        return f"{name}: all {count:,} documents are held out; lower holdout, or leave the source out"
    if dropped:
        remedies = [remedy for reason, remedy in REMEDIES.items() if reason in dropped]
        if record.heldout and "duplicate" in dropped:
            remedies[0] = "name a holdout_path with other text"
        if dropped - REMEDIES.keys():
            remedies.append("change its cleaning")
        why = ", ".join(sorted(dropped))
        return f"{name}: every document was dropped ({why}); {', '.join(remedies)}, or leave it out"
    if broken:
        return f"{name}: all {broken:,} records are broken; repair them, or leave the source out"
    return f"{name} holds no text; leave the source out, or name another path"


def _unigram_bits_per_byte(
    languages: Sequence[str],
    records: Sequence[SourceRecord],
    done: Progress,
    readings: Sequence[Reading],
    settings: Settings,
    folder: Path,
    work: Path,
) -> dict[str, float]:
    """Bits per byte of the held-out text under add-one smoothed counts of the training tokens, for each language.

    Any model that learned more than how often each piece occurs is below it. bos is never predicted, so not counted.
    """
    bits = {}
    for language in languages:
        held = [r.heldout for r in records if r.language == language and r.heldout is not None]
        if not held:
            continue
        counts = np.ones(settings.pieces, np.int64)
        for number, mark in enumerate(done.marks):
            if readings[mark.reading].language == language:
                counts += np.load(work / f"{number:05d}.pieces.npy")
        heldout = np.zeros(settings.pieces, np.int64)
        for record in held:
            heldout += np.bincount(open_shard(folder, record, settings.dtype).tokens, minlength=settings.pieces)
        bits[language] = _cross_entropy_bits(counts, heldout, settings.bos) / sum(record.bytes for record in held)
    return bits


def _cross_entropy_bits(model: NDArray[np.int64], text: NDArray[np.int64], never_predicted: int | None) -> float:
    """Bits to spell `text` (counts of pieces) with the frequencies of `model`, leaving out one piece."""
    if never_predicted is not None:
        model, text = np.delete(model, never_predicted), np.delete(text, never_predicted)
    return float(text @ (np.log2(model.sum()) - np.log2(model)))
