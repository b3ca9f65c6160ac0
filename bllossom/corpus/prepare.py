"""prepare: text of several languages into token shards, exactly once.

    sources ─▶ clean ─▶ duplicates ─▶ near duplicates? ─▶ contaminated? ─▶ held-out share ─▶ encode ─▶ shards

The work lies in the partial folder, under work/, and is removed at the end; slices.py says how a killed run goes on,
run_local.py and run_ray.py who makes the slices.
Held-out files come first, so that training text that repeats them is dropped as a duplicate.
"""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator
from transformers import PreTrainedTokenizerFast

from bllossom.artifacts import Manifest, fingerprint, publish
from bllossom.config import AddedIn, Source, StageConfig
from bllossom.console import progress, say
from bllossom.corpus.adopt import adopt
from bllossom.corpus.clean import CleaningConfig
from bllossom.corpus.decontaminate import DecontaminationConfig, Decontaminator, test_files
from bllossom.corpus.executors.run_local import run_local
from bllossom.corpus.executors.run_ray import run_ray
from bllossom.corpus.finish import finish
from bllossom.corpus.near_duplicates import NearDuplicatesConfig, near_duplicates_of
from bllossom.corpus.planning.checks import check_disk, check_sources, disk_bytes, tell_large_documents
from bllossom.corpus.planning.estimate import estimate_reading, memory_lines, table
from bllossom.corpus.readings import (
    NAME,
    Common,
    Reading,
    SourceConfig,
    changed,
    first_documents,
    make_readings,
    named_sources,
    readings_of,
)
from bllossom.corpus.slices import Settings
from bllossom.errors import BllossomError, ConfigError
from bllossom.hub import is_hub_id, pin
from bllossom.paths import shown, there
from bllossom.text.sources import MAX_DOCUMENT_BYTES
from bllossom.tokenizer.encode import Encoder, Encoders
from bllossom.tokenizer.files import tokenizer_files
from bllossom.tokenizer.ids import count_ids, token_dtype
from bllossom.tokenizer.load import load_tokenizer, save_tokenizer
from bllossom.tokens.shards import INDEX

__all__ = ["PrepareConfig", "SourceConfig", "dry_run", "prepare"]

WORK = "work"
REPORT = "report.json"
QUICK_SAMPLE_BYTES = 2_000_000  # of each source, for the progress bar and the room on the disk


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
    missing: Annotated[
        Literal["stop", "skip"],
        AddedIn(2),
        Field(description="a record without the field ends the stage, or is left out, counted"),
    ] = "stop"
    max_errors: Annotated[int, Field(ge=0, description="with on_error: skip, end the stage beyond this many")] = 1000
    max_document_bytes: Annotated[
        int,
        AddedIn(2),
        Field(gt=0, description="a document of more bytes is broken: it takes up to 40 times as much memory"),
    ] = MAX_DOCUMENT_BYTES
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
    readings = make_readings(config.sources, _common(config))
    inputs: dict[str, Path | str] = {}
    for reading in readings:
        part = "heldout/" if reading.heldout_share == 1 else ""
        for number, path in enumerate(reading.files):
            # The names count: files are read in their order, and dropped.jsonl tells them.
            inputs[f"{reading.language}/{reading.source}/{part}{number:05d} {shown(path.name)}"] = path
    if config.decontaminate:
        tests = test_files(config.decontaminate)
        inputs |= {f"decontaminate/{number:05d} {shown(path.name)}": path for number, path in enumerate(tests)}
    return publish(
        config,
        stage="prepare",
        inputs=inputs | _tokenizer_inputs(config.tokenizer),
        build=lambda folder: _build(config, readings, folder),
        force=force,
    )


def _common(config: PrepareConfig) -> Common:
    return Common(config.clean, config.holdout, config.missing == "skip", config.max_document_bytes)


def dry_run(config: PrepareConfig) -> list[str]:
    """Say what each source holds and needs, estimated from a sample of it."""
    lines, readings = [], []
    for language, name, source in named_sources(config.sources):
        paths = [*source.paths, source.holdout_path] if source.holdout_path else source.paths
        absent = [path for path in paths if is_hub_id(path) or not there(path)]
        lines += [f"{language}/{name}: {path} is not here yet" for path in absent]
        if not absent:
            try:
                readings += readings_of(language, name, source, _common(config))
            except BllossomError as error:
                raise ConfigError(f"sources.{language}: {error}") from error
    tokenizer = None
    if is_hub_id(config.tokenizer) or not Path(config.tokenizer).exists():
        lines.append(f"tokenizer {config.tokenizer} is not here yet: tokens, time and disk cannot be estimated")
    else:
        tokenizer = load_tokenizer(config.tokenizer)
        _edges(config, tokenizer)
    samples = [text for reading in readings for text in first_documents(reading)]
    encoder = Encoders(tokenizer).choose(samples)[0] if tokenizer else None
    itemsize = 2 if tokenizer is None or token_dtype(count_ids(tokenizer)) == "uint16" else 4
    estimates = [estimate_reading(reading, encoder, itemsize) for reading in readings]
    return [*lines, *table(estimates), *memory_lines(estimates, config.deduplicate, config.near_duplicates)]


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
        try:
            _tokenize(config, readings, folder, work)
        except FileNotFoundError as error:
            gone = [path for reading in readings for path in reading.files if not path.exists()]
            if not gone:
                raise
            raise BllossomError(changed(gone[0])) from error
    # The index is written last: from here on all is there, and a kill while tidying up costs nothing.
    shutil.rmtree(work, ignore_errors=True)
    figures: dict[str, Any] = json.loads((folder / REPORT).read_bytes())
    return figures


def _tokenize(config: PrepareConfig, readings: list[Reading], folder: Path, work: Path) -> None:
    tokenizer = load_tokenizer(config.tokenizer)
    encoders = Encoders(tokenizer)
    estimates = [estimate_reading(reading, None, 2, QUICK_SAMPLE_BYTES) for reading in readings]
    check_sources(readings, estimates, config.on_error)
    tell_large_documents(estimates)
    need = partial(
        disk_bytes, edges=config.bos + config.eos, deduplicate=config.deduplicate, shard_bytes=config.shard_bytes
    )
    both = zip(readings, estimates, strict=True)
    check_disk(sum(need(reading, estimate, encoders) for reading, estimate in both), folder)
    text_bytes = sum(estimate.text_bytes for estimate in estimates)
    bos, eos = _edges(config, tokenizer)
    decontaminator = Decontaminator(config.decontaminate) if config.decontaminate else None
    near = config.near_duplicates
    settings = Settings(
        shard_bytes=config.shard_bytes,
        on_error=config.on_error,
        max_errors=config.max_errors,
        deduplicate=config.deduplicate,
        bos=bos,
        eos=eos,
        pieces=encoders.pieces,
        dtype=token_dtype(encoders.pieces),
        near_duplicates=near_duplicates_of(readings, near, work, text_bytes) if near else None,
        contaminated=decontaminator.find if decontaminator else None,
    )

    def choose(reading: Reading) -> Encoder:
        encoder, why = encoders.choose(first_documents(reading))
        if why:
            say(
                f"{reading.language}/{reading.source}: {why}; using the tokenizer's own implementation, which is slower"
            )
        return encoder

    kept = folder / "tokenizer"
    kept.mkdir(exist_ok=True)
    save_tokenizer(tokenizer, Path(config.tokenizer), kept)
    adopt(readings, settings, _decides(config), choose, folder, work)
    run = run_ray if config.executor == "ray" else run_local
    with progress("bytes of text tokenised", text_bytes) as advance:
        done = run(readings, settings, choose, folder, work, advance)
    for reading in readings:
        reading.check_unchanged(reading.files)
    finish(readings, done, settings, tokenizer, _licences(config), folder, work)


def _decides(config: PrepareConfig) -> dict[str, Any]:
    """What of the config decides the bytes of a slice, beside its text and its source's own settings."""
    keys = {"bos", "eos", "deduplicate", "near_duplicates", "shard_bytes"}
    decides = config.model_dump(mode="json", include=keys)
    tokenizer = _tokenizer_inputs(config.tokenizer).values()
    decides["tokenizer"] = [fingerprint(file) if isinstance(file, Path) else file for file in tokenizer]
    if config.decontaminate:
        tests = [fingerprint(path) for path in test_files(config.decontaminate)]
        decides["decontaminate"] = [config.decontaminate.model_dump(mode="json", exclude={"paths"}), tests]
    return decides


def _edges(config: PrepareConfig, tokenizer: PreTrainedTokenizerFast) -> tuple[int | None, int | None]:
    """The ids put before and behind each document."""
    return _special(tokenizer, "bos") if config.bos else None, _special(tokenizer, "eos") if config.eos else None


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
