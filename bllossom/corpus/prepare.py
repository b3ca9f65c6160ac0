"""prepare: text of several languages into token shards, exactly once.

    sources ─▶ clean ─▶ near duplicates? ─▶ contaminated? ─▶ duplicates ─▶ held-out share ─▶ encode ─▶ shards

The work lies in the partial folder, under work/, and is removed at the end; slices.py says how a killed run goes on,
run_local.py and run_ray.py who makes the slices.
Held-out files come first, so that training text that repeats them is dropped as a duplicate.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from transformers import PreTrainedTokenizerFast

from bllossom.artifacts import Manifest, publish
from bllossom.config import Source, StageConfig
from bllossom.console import progress, say
from bllossom.corpus.clean import CleaningConfig
from bllossom.corpus.decontaminate import DecontaminationConfig, Decontaminator, test_files
from bllossom.corpus.dedup import EXACT_BYTES_PER_DOCUMENT
from bllossom.corpus.estimate import INDEX_BYTES, Estimate, estimate_reading, table
from bllossom.corpus.executors.run_local import run_local
from bllossom.corpus.executors.run_ray import run_ray
from bllossom.corpus.finish import finish
from bllossom.corpus.near_duplicates import NearDuplicatesConfig, bytes_per_document, find_near_duplicates
from bllossom.corpus.readings import (
    NAME,
    SourceConfig,
    first_documents,
    is_there,
    make_readings,
    named_sources,
    readings_of,
)
from bllossom.corpus.slices import Reading, Settings
from bllossom.errors import BllossomError, ConfigError
from bllossom.hub import is_hub_id, pin
from bllossom.tokenizer.encode import Encoder, Encoders
from bllossom.tokenizer.files import copy_tokenizer, tokenizer_files
from bllossom.tokenizer.ids import count_ids, token_dtype
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokens.shards import INDEX, save_array

__all__ = ["PrepareConfig", "SourceConfig", "dry_run", "prepare"]

WORK = "work"
REPORT = "report.json"
QUICK_SAMPLE_BYTES = 2_000_000  # of each source, for the progress bar and the room on the disk
ENCODED_BYTES = 64_000  # of each source, for the room on the disk: 10 to 30 ms


class PrepareConfig(StageConfig):
    """What `bllossom prepare` reads."""

    tokenizer: Annotated[Source, Field(description="a folder with a tokenizer, a .model file or a hub id")]
    sources: Annotated[
        dict[Annotated[str, Field(pattern=f"^{NAME}$")], Annotated[list[SourceConfig], Field(min_length=1)]],
        Field(min_length=1, description="by language, each a path or a mapping with path, field, licence, clean …"),
    ]
    bos: Annotated[bool, Field(description="put the tokenizer's begin-of-text token before each document")] = True
    eos: Annotated[bool, Field(description="put the tokenizer's end-of-text token behind each document")] = True
    holdout: Annotated[
        float, Field(ge=0, lt=1, description="share of each source's documents kept back for validation")
    ] = 0.01
    clean: Annotated[CleaningConfig, Field(description="cleaning of every source that has none of its own")] = (
        CleaningConfig()
    )
    deduplicate: Annotated[bool, Field(description="drop documents that came before, in any source")] = True
    near_duplicates: Annotated[
        NearDuplicatesConfig | None,
        Field(description="also drop what is nearly the same: a pass of its own over all text"),
    ] = None
    decontaminate: Annotated[
        DecontaminationConfig | None, Field(description="drop documents that hold test rows of the evaluation data")
    ] = None
    on_error: Annotated[Literal["stop", "skip"], Field(description="a broken record ends the stage, or is skipped")] = (
        "stop"
    )
    max_errors: Annotated[int, Field(ge=0, description="with on_error: skip, end the stage beyond this many")] = 1000
    shard_bytes: Annotated[
        int, Field(gt=0, le=1_000_000_000, description="bytes of text in a shard; a kill costs what is not yet in one")
    ] = 64_000_000

    executor: Annotated[
        Literal["local", "ray"], Field(description="this machine, or a Ray cluster with a shared disk: the same bytes")
    ] = "local"
    execution_keys: ClassVar[frozenset[str]] = StageConfig.execution_keys | {"executor"}

    @field_validator("sources", mode="before")
    @classmethod
    def _paths_are_sources(cls, sources: Any) -> Any:
        if not isinstance(sources, dict):
            return sources

        def as_mapping(entry: Any) -> Any:
            return {"path": entry} if isinstance(entry, str) else entry

        return {
            language: [as_mapping(entry) for entry in entries] if isinstance(entries, list) else entries
            for language, entries in sources.items()
        }


def prepare(config: PrepareConfig, *, force: bool = False) -> Manifest:
    """Clean, deduplicate, hold out, encode, publish.

    Raises:
        BllossomError: a source is missing, empty or broken, the tokenizer lacks a special token, or the disk is too
            small.
    """
    config = config.model_copy(update={"tokenizer": pin(config.tokenizer)})
    readings = make_readings(config.sources, config.clean, config.holdout)
    inputs: dict[str, Path | str] = {}
    for reading in readings:
        part = "heldout/" if reading.heldout_share == 1 else ""
        for number, path in enumerate(reading.files):
            # The names count: files are read in their order, and dropped.jsonl tells them.
            inputs[f"{reading.language}/{reading.source}/{part}{number:05d} {path.name}"] = path
    if config.decontaminate:
        tests = test_files(config.decontaminate)
        inputs |= {f"decontaminate/{number:05d} {path.name}": path for number, path in enumerate(tests)}
    return publish(
        config,
        stage="prepare",
        inputs=inputs | _tokenizer_inputs(config.tokenizer),
        build=lambda folder: _build(config, readings, folder),
        force=force,
    )


def dry_run(config: PrepareConfig) -> list[str]:
    """Say what each source holds and needs, estimated from a sample of it."""
    lines, readings = [], []
    for language, name, source in named_sources(config.sources):
        paths = [source.path, source.holdout_path] if source.holdout_path else [source.path]
        absent = [path for path in paths if is_hub_id(path) or not is_there(path)]
        lines += [f"{language}/{name}: {path} is not here yet" for path in absent]
        if not absent:
            readings += readings_of(language, name, source, config.clean, config.holdout)
    tokenizer = None
    if is_hub_id(config.tokenizer) or not Path(config.tokenizer).exists():
        lines.append(f"tokenizer {config.tokenizer} is not here yet: tokens, time and disk cannot be estimated")
    else:
        tokenizer = load_tokenizer(config.tokenizer)
    samples = [text for reading in readings for text in first_documents(reading)]
    encoder = Encoders(tokenizer).choose(samples)[0] if tokenizer else None
    itemsize = 2 if tokenizer is None or token_dtype(count_ids(tokenizer)) == "uint16" else 4
    estimates = [estimate_reading(reading, encoder, itemsize) for reading in readings]
    return [*lines, *table(estimates), *_memory_lines(config, sum(estimate.documents for estimate in estimates))]


def _memory_lines(config: PrepareConfig, documents: int) -> list[str]:
    """What grows with the corpus: the hashes that deduplication remembers."""
    needs = {}
    if config.deduplicate and documents:
        needs["exact deduplication"] = EXACT_BYTES_PER_DOCUMENT
    if config.near_duplicates and documents:
        needs["near duplicates"] = bytes_per_document(config.near_duplicates)
    return [
        f"{what}: up to {each} bytes of memory a document, {documents * each / 1e6:,.1f} MB"
        for what, each in needs.items()
    ]


def _tokenizer_inputs(source: str) -> dict[str, Path | str]:
    """The tokenizer's own files: the folder may hold a model's weights, which do not matter here."""
    if is_hub_id(source):
        return {"tokenizer": source}
    path = Path(source)
    files = [path] if path.is_file() else tokenizer_files(path)
    return {f"tokenizer/{file.name}": file for file in files}


def _build(config: PrepareConfig, readings: list[Reading], folder: Path) -> dict[str, Any]:
    work = folder / WORK
    if not (folder / INDEX).is_file():
        work.mkdir(exist_ok=True)
        _tokenize(config, readings, folder, work)
    # The index is written last: from here on all is there, and a kill while tidying up costs nothing.
    shutil.rmtree(work, ignore_errors=True)
    figures: dict[str, Any] = json.loads((folder / REPORT).read_bytes())
    return figures


def _tokenize(config: PrepareConfig, readings: list[Reading], folder: Path, work: Path) -> None:
    tokenizer = load_tokenizer(config.tokenizer)
    encoders = Encoders(tokenizer)
    estimates = [estimate_reading(reading, None, 2, QUICK_SAMPLE_BYTES) for reading in readings]
    _check_sources(readings, estimates, config.on_error)
    _check_disk(config, readings, estimates, encoders, folder)
    text_bytes = sum(estimate.text_bytes for estimate in estimates)
    decontaminator = Decontaminator(config.decontaminate) if config.decontaminate else None
    settings = Settings(
        shard_bytes=config.shard_bytes,
        on_error=config.on_error,
        max_errors=config.max_errors,
        deduplicate=config.deduplicate,
        bos=_special(tokenizer, "bos") if config.bos else None,
        eos=_special(tokenizer, "eos") if config.eos else None,
        pieces=encoders.pieces,
        dtype=token_dtype(encoders.pieces),
        near_duplicates=_near_duplicates(config, readings, work, text_bytes),
        contaminated=decontaminator.find if decontaminator else None,
    )

    def choose(reading: Reading) -> Encoder:
        encoder, why = encoders.choose(first_documents(reading))
        if why:
            say(
                f"{reading.language}/{reading.source}: {why}; using the tokenizer's own implementation, which is slower"
            )
        return encoder

    save_tokenizer(config.tokenizer, tokenizer, folder / "tokenizer")
    run = run_ray if config.executor == "ray" else run_local
    with progress("bytes of text tokenised", text_bytes) as advance:
        done = run(readings, settings, choose, folder, work, advance)
    finish(readings, done, settings, tokenizer, _licences(config), folder, work)


def _near_duplicates(
    config: PrepareConfig, readings: list[Reading], work: Path, text_bytes: int
) -> list[NDArray[np.int64]] | None:
    """What the pass over near duplicates found, kept in the work folder so that a kill later on does not repeat it."""
    if config.near_duplicates is None:
        return None
    found = work / "near-duplicates"
    if not found.is_dir():
        unfinished = work / "near-duplicates.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        with progress("bytes of text compared", text_bytes) as advance:
            drops = find_near_duplicates(readings, config.near_duplicates, advance)
        for number, reading_drops in enumerate(drops):
            save_array(unfinished / f"{number:05d}.npy", reading_drops)
        unfinished.rename(found)
    return [np.load(found / f"{number:05d}.npy") for number in range(len(readings))]


def _special(tokenizer: PreTrainedTokenizerFast, which: str) -> int:
    found = getattr(tokenizer, f"{which}_token_id")
    if found is None:
        raise ConfigError(f"{which}: the tokenizer has no {which} token; set {which}: false, or take another tokenizer")
    return int(found)


def _licences(config: PrepareConfig) -> dict[str, str]:
    return {
        f"{language}/{name}": source.licence
        for language, name, source in named_sources(config.sources)
        if source.licence
    }


def _check_sources(readings: Sequence[Reading], estimates: Sequence[Estimate], on_error: str) -> None:
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


def _check_disk(
    config: PrepareConfig, readings: Sequence[Reading], estimates: Sequence[Estimate], encoders: Encoders, folder: Path
) -> None:
    """Refuse to start what will not fit. A run that goes on has part of it written already."""
    needed = sum(
        _disk_bytes(config, reading, estimate, encoders) for reading, estimate in zip(readings, estimates, strict=True)
    )
    more = needed - sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free
    if more > free:
        raise BllossomError(
            f"the tokens need about {_size(more)} more, and {folder.parent} has {_size(free)} free; "
            "make some room, or choose an output on another disk"
        )


def _disk_bytes(config: PrepareConfig, reading: Reading, estimate: Estimate, encoders: Encoders) -> int:
    """What a reading takes, where nothing is dropped. What is held out lies in the work folder too, as tokens and text.

    The work folder also has a hash of each document, and of each slice how often it has each piece: int64.
    """
    tokens = estimate.text_bytes * _tokens_per_byte(encoders, reading) + (config.bos + config.eos) * estimate.documents
    shards = tokens * np.dtype(token_dtype(encoders.pieces)).itemsize + INDEX_BYTES * estimate.documents
    slices = estimate.text_bytes // config.shard_bytes + 1
    work = 8 * (config.deduplicate * estimate.documents + encoders.pieces * slices)
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


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:,.1f} MB"


def save_tokenizer(source: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Copy the tokenizer's files; write those that it does not come with."""
    folder.mkdir(exist_ok=True)
    path = Path(source)
    if not (path / "tokenizer.json").is_file():
        tokenizer.save_pretrained(folder)
    copy_tokenizer(path, folder)
    if path.is_file():
        shutil.copyfile(path, folder / "tokenizer.model")
