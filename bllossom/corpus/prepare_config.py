"""What `bllossom prepare` reads from its YAML."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from bllossom.config import InputGlob, Model, Source, StageConfig, TextSource
from bllossom.corpus.clean import CleaningConfig
from bllossom.corpus.decontaminate import DecontaminationConfig
from bllossom.corpus.near_duplicates import NearDuplicatesConfig
from bllossom.corpus.sources import Split


class SourceConfig(Model):
    """One source of text in one language."""

    path: Annotated[
        TextSource,
        Field(description="file, folder, glob, or hub data set: owner/name, or hf://datasets/owner/name/folder"),
    ]
    name: Annotated[
        str, Field(pattern=r"^[\w.-]*$", description="what the source is called; from its path where not given")
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


class PrepareConfig(StageConfig):
    """What `bllossom prepare` reads."""

    tokenizer: Annotated[Source, Field(description="a folder with a tokenizer, a .model file or a hub id")]
    sources: Annotated[
        dict[str, Annotated[list[SourceConfig], Field(min_length=1)]],
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
        int, Field(gt=0, le=1_000_000_000, description="bytes of text in a shard, which is also what a kill can cost")
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
