"""What prepare reads: the files of each source, in the order in which they count."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self, cast, get_args

from pydantic import AfterValidator, Field, model_validator

from bllossom.config import AddedIn, InputGlob, Model, TextSource
from bllossom.corpus.clean import CleaningConfig, make_cleaner
from bllossom.errors import BllossomError, ConfigError
from bllossom.paths import Stamp, shown, stamps
from bllossom.text.compression import known_encoding
from bllossom.text.fields import parse_field
from bllossom.text.kinds import ARCHIVES, ENDINGS, Kind
from bllossom.text.locate import locate
from bllossom.text.sources import MAX_DOCUMENT_BYTES, ReadOptions, Split, read_records
from bllossom.text.tables import check_no_table

NAME = r"[\w-][\w.-]*"  # of a source or language: it names a folder, which .. would leave
SAMPLE_DOCUMENTS, SAMPLE_BYTES = 200, 256_000  # of each source, on which the encoders are compared: what is less


class SourceConfig(Model):
    """One source of text in one language."""

    path: Annotated[
        TextSource | Annotated[list[TextSource], Field(min_length=1)],
        Field(
            description="file, folder, glob, or hub data set: owner/name, hf://datasets/owner/name/folder; or a list"
        ),
    ]
    name: Annotated[
        str, Field(pattern=rf"^({NAME})?$", description="what the source is called; from its path where not given")
    ] = ""
    field: Annotated[
        str | Annotated[list[str], Field(min_length=1)],
        Field(description="where the text is: text, meta.body, data[].context; [+] joins a list; several are joined"),
    ] = "text"
    split: Annotated[
        str,
        Field(
            description="plain text: a document between blank lines (blank-line), a line or a file; else of a data "
            "set the split, such as train"
        ),
    ] = "blank-line"
    format: Annotated[
        Kind | None, AddedIn(2), Field(description="of all its files; null takes it from their names")
    ] = None
    encoding: Annotated[
        str,
        AfterValidator(known_encoding),
        AddedIn(2),
        Field(description="of text, JSON and CSV: utf-8, cp949, utf-16, …"),
    ] = "utf-8"
    licence: Annotated[str, Field(description="recorded with the figures")] = ""
    clean: Annotated[CleaningConfig | None, Field(description="cleaning of its own, in place of the common one")] = None
    holdout: Annotated[
        float | None, Field(ge=0, lt=1, description="share of documents kept back, in place of the common one")
    ] = None
    holdout_path: Annotated[
        InputGlob, Field(description="its held-out text (file, folder, glob); then no share of `path` is kept back")
    ] = ""

    @property
    def paths(self) -> list[str]:
        """Where its text is."""
        return [self.path] if isinstance(self.path, str) else self.path

    @property
    def dataset_split(self) -> str:
        """The split of a data set to read; empty where none is asked for."""
        return "" if self.split in get_args(Split) else self.split

    def options(self, *, skip_missing: bool, max_document_bytes: int) -> ReadOptions:
        """How its files are read."""
        return ReadOptions(
            fields=(self.field,) if isinstance(self.field, str) else tuple(self.field),
            split=cast(Split, self.split) if self.split in get_args(Split) else "blank-line",
            format=self.format,
            encoding=self.encoding,
            skip_missing=skip_missing,
            max_document_bytes=max_document_bytes,
        )

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> Self:
        if self.holdout and self.holdout_path:
            raise ValueError("holdout and holdout_path exclude each other; give one of them")
        return self


@dataclass(frozen=True)
class Reading:
    """Files of one source that are read in one go."""

    language: str
    source: str
    files: Sequence[Path]
    options: ReadOptions
    clean: CleaningConfig
    heldout_share: float  # 1 for a source's own held-out file
    stamps: Mapping[Path, Stamp | None] = field(default_factory=dict)  # of the files, before they were hashed

    def check_unchanged(self, files: Sequence[Path]) -> None:
        """Refuse what was read, where a file is no longer the one that was hashed.

        Raises:
            BllossomError: names the file.
        """
        for path, stamp in stamps(files).items():
            if stamp != self.stamps.get(path, stamp):
                raise BllossomError(changed(path))


def changed(path: Path) -> str:
    """What to say of a file that was changed, or removed, while it was read."""
    return (
        f"{shown(path)} was changed or removed while it was read; let whatever writes it end, then run the same "
        "command, which keeps the slices of text that is still the same"
    )


Sources = Mapping[str, Sequence[SourceConfig]]  # by language


@dataclass(frozen=True)
class Common:
    """What all sources have in common, where they say nothing of their own."""

    clean: CleaningConfig
    holdout: float
    skip_missing: bool = False
    max_document_bytes: int = MAX_DOCUMENT_BYTES


def make_readings(sources: Sources, common: Common) -> list[Reading]:
    """All files to read, in order: held-out files first, then the sources as they stand in the config.

    Raises:
        ConfigError: names every source that is not there or has no known format.
    """
    readings: list[Reading] = []
    problems = []
    for language, name, source in named_sources(sources):
        try:
            readings += readings_of(language, name, source, common)
            make_cleaner(source.clean or common.clean)
        except BllossomError as error:
            problems.append(f"sources.{language}: {error}")
    if problems:
        raise ConfigError(problems)
    return sorted(readings, key=lambda reading: reading.heldout_share < 1)


def readings_of(
    language: str, name: str, source: SourceConfig, common: Common, *, quiet: bool = False
) -> list[Reading]:
    """A source's held-out files, where it has its own, and its text.

    Raises:
        BllossomError: nothing is there, nothing of a known format, or what is called plain text is a table.
    """
    share = common.holdout if source.holdout is None else source.holdout
    ways = [([source.holdout_path], 1.0), (source.paths, 0.0)] if source.holdout_path else [(source.paths, share)]
    options = source.options(skip_missing=common.skip_missing, max_document_bytes=common.max_document_bytes)
    for path in options.fields:
        parse_field(path)
    readings = []
    for paths, heldout_share in ways:
        split = "" if heldout_share == 1 else source.dataset_split
        found = [locate(path, kind=source.format, split=split, quiet=quiet) for path in paths]
        files = list(dict.fromkeys(file for files in found for file in files))
        check_no_table(files, options)
        clean = source.clean or common.clean
        readings.append(Reading(language, name, files, options, clean, heldout_share, stamps(files)))
    return readings


def named_sources(sources: Sources) -> list[tuple[str, str, SourceConfig]]:
    """Every source with its language and a name that is its own there: as given, or from the path.

    Raises:
        ConfigError: two sources were given the same name.
    """
    found = []
    for language, mine in sources.items():
        names = [source.name or _name_from(source.paths[0]) for source in mine]
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
    endings = "|".join(ending[1:] for ending in (*ENDINGS, *ARCHIVES))
    stem = re.split(rf"(?i)\.({endings})\b", shown(Path(path).name))[0]
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "text"


def first_documents(reading: Reading) -> list[bytes]:
    """The first documents of a source."""
    texts: list[bytes] = []
    size = 0
    records = (record for file in reading.files for record in read_records(file, reading.options))
    for record in records:
        encoded = [text.encode() for text in record.texts]
        texts += encoded
        size += sum(map(len, encoded))
        if size >= SAMPLE_BYTES or len(texts) >= SAMPLE_DOCUMENTS:
            break
    return texts[:SAMPLE_DOCUMENTS]


def is_heldout(place: int, share: float) -> bool:
    """Whether the document that is number `place` among the kept ones of its source is held out.

    Evenly spread, and after n documents never more than half a document off n · share.
    """
    return int((place + 1) * share + 0.5) > int(place * share + 0.5)
