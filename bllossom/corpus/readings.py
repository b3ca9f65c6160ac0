"""What prepare reads: the files of each source, in the order in which they count."""

import re
from collections import Counter
from pathlib import Path

from bllossom.corpus.clean import make_cleaner
from bllossom.corpus.prepare_config import PrepareConfig, SourceConfig
from bllossom.corpus.slices import Reading
from bllossom.corpus.sources import locate, parse_field, read_records
from bllossom.errors import BllossomError, ConfigError

SAMPLE_DOCUMENTS, SAMPLE_BYTES = 200, 256_000  # of each source, on which the encoders are compared: what is less


def make_readings(config: PrepareConfig) -> list[Reading]:
    """All files to read, in order: held-out files first, then the sources as they stand in the config.

    Raises:
        ConfigError: names every source that is not there or has no known format.
    """
    readings: list[Reading] = []
    problems = []
    for language, name, source in named_sources(config):
        try:
            readings += readings_of(config, language, name, source)
            parse_field(source.field)
            make_cleaner(source.clean or config.clean)
        except BllossomError as error:
            problems.append(f"sources.{language}: {error}")
    if problems:
        raise ConfigError(problems)
    return sorted(readings, key=lambda reading: reading.heldout_share < 1)


def readings_of(config: PrepareConfig, language: str, name: str, source: SourceConfig) -> list[Reading]:
    share = config.holdout if source.holdout is None else source.holdout
    ways = [(source.holdout_path, 1.0), (source.path, 0.0)] if source.holdout_path else [(source.path, share)]
    clean = source.clean or config.clean
    return [
        Reading(language, name, locate(path), source.field, source.split, clean, heldout_share)
        for path, heldout_share in ways
    ]


def named_sources(config: PrepareConfig) -> list[tuple[str, str, SourceConfig]]:
    """Every source with its language and a name that is its own there: as given, or from the path.

    Raises:
        ConfigError: two sources were given the same name.
    """
    found = []
    for language, sources in config.sources.items():
        names = [source.name or _name_from(source.path) for source in sources]
        counts, given = Counter(names), Counter[str]()
        twice = [source.name for source in sources if counts[source.name] > 1]
        if twice:
            raise ConfigError(f"sources.{language}: two sources are called {twice[0]}; give each a name of its own")
        for name, source in zip(names, sources, strict=True):
            given[name] += 1
            found.append((language, name if counts[name] == 1 else f"{name}-{given[name]}", source))
    return found


def _name_from(path: str) -> str:
    stem = re.split(r"\.(jsonl|ndjson|json|parquet|txt)\b", Path(path).name)[0]
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "text"


def is_there(path: str) -> bool:
    try:
        return bool(locate(path))
    except BllossomError:
        return False


def first_documents(reading: Reading) -> list[bytes]:
    """The first documents of a source."""
    texts: list[bytes] = []
    records = (record for file in reading.files for record in read_records(file, reading.field, split=reading.split))
    while sum(map(len, texts)) < SAMPLE_BYTES and (record := next(records, None)) is not None:
        texts += [text.encode() for text in record.texts]
    return texts[:SAMPLE_DOCUMENTS]
