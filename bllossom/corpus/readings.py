"""What prepare reads: the files of each source, in the order in which they count."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from bllossom.config import InputGlob, Model, TextSource
from bllossom.corpus.clean import CleaningConfig, make_cleaner
from bllossom.corpus.slices import Reading
from bllossom.errors import BllossomError, ConfigError
from bllossom.text.fields import parse_field
from bllossom.text.sources import Split, locate, read_records

NAME = r"[\w-][\w.-]*"  # of a source or language: it names a folder, which .. would leave
SAMPLE_DOCUMENTS, SAMPLE_BYTES = 200, 256_000  # of each source, on which the encoders are compared: what is less


class SourceConfig(Model):
    """One source of text in one language."""

    path: Annotated[
        TextSource,
        Field(description="file, folder, glob, or hub data set: owner/name, or hf://datasets/owner/name/folder"),
    ]
    name: Annotated[
        str, Field(pattern=rf"^({NAME})?$", description="what the source is called; from its path where not given")
    ] = ""
    field: Annotated[
        str, Field(description="where the text is: text, meta.body, data[].context; [+] joins a list into one text")
    ] = "text"
    split: Annotated[Split, Field(description="plain text files: a document between blank lines, or a file each")] = (
        "blank-line"
    )
    licence: Annotated[str, Field(description="recorded with the figures")] = ""
    clean: Annotated[CleaningConfig | None, Field(description="cleaning of its own, in place of the common one")] = None
    holdout: Annotated[
        float | None, Field(ge=0, lt=1, description="share of documents kept back, in place of the common one")
    ] = None
    holdout_path: Annotated[
        InputGlob, Field(description="its held-out text (file, folder, glob); then no share of `path` is kept back")
    ] = ""

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> Self:
        if self.holdout and self.holdout_path:
            raise ValueError("holdout and holdout_path exclude each other; give one of them")
        return self


Sources = Mapping[str, Sequence[SourceConfig]]  # by language


def make_readings(sources: Sources, clean: CleaningConfig, holdout: float) -> list[Reading]:
    """All files to read, in order: held-out files first, then the sources as they stand in the config.

    Raises:
        ConfigError: names every source that is not there or has no known format.
    """
    readings: list[Reading] = []
    problems = []
    for language, name, source in named_sources(sources):
        try:
            readings += readings_of(language, name, source, clean, holdout)
            parse_field(source.field)
            make_cleaner(source.clean or clean)
        except BllossomError as error:
            problems.append(f"sources.{language}: {error}")
    if problems:
        raise ConfigError(problems)
    return sorted(readings, key=lambda reading: reading.heldout_share < 1)


def readings_of(language: str, name: str, source: SourceConfig, clean: CleaningConfig, holdout: float) -> list[Reading]:
    """A source's held-out files, where it has its own, and its text.

    Raises:
        BllossomError: nothing is there, or nothing of a known format.
    """
    share = holdout if source.holdout is None else source.holdout
    ways = [(source.holdout_path, 1.0), (source.path, 0.0)] if source.holdout_path else [(source.path, share)]
    clean = source.clean or clean
    return [
        Reading(language, name, locate(path), source.field, source.split, clean, heldout_share)
        for path, heldout_share in ways
    ]


def named_sources(sources: Sources) -> list[tuple[str, str, SourceConfig]]:
    """Every source with its language and a name that is its own there: as given, or from the path.

    Raises:
        ConfigError: two sources were given the same name.
    """
    found = []
    for language, mine in sources.items():
        names = [source.name or _name_from(source.path) for source in mine]
        counts = Counter(names)
        twice = [source.name for source in mine if counts[source.name] > 1]
        if twice:
            raise ConfigError(f"sources.{language}: two sources are called {twice[0]}; give each a name of its own")
        taken = {name for name in names if counts[name] == 1}
        for name, source in zip(names, mine, strict=True):
            if counts[name] > 1:
                name = next(free for number in itertools.count(1) if (free := f"{name}-{number}") not in taken)
                taken.add(name)
            found.append((language, name, source))
    return found


def _name_from(path: str) -> str:
    stem = re.split(r"\.(jsonl|ndjson|json|parquet|txt)\b", Path(path).name)[0]
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "text"


def is_there(path: str) -> bool:
    """Whether there is something of a known format at a path; a hub data set is downloaded for it."""
    try:
        return bool(locate(path, quiet=True))
    except BllossomError:
        return False


def first_documents(reading: Reading) -> list[bytes]:
    """The first documents of a source."""
    texts: list[bytes] = []
    size = 0
    records = (record for file in reading.files for record in read_records(file, reading.field, split=reading.split))
    for record in records:
        encoded = [text.encode() for text in record.texts]
        texts += encoded
        size += sum(map(len, encoded))
        if size >= SAMPLE_BYTES or len(texts) >= SAMPLE_DOCUMENTS:
            break
    return texts[:SAMPLE_DOCUMENTS]
