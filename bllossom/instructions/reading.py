"""Conversations out of anybody's instruction files: kinds of files are text/'s, shapes of records are shapes/'s."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from bllossom.config import AddedIn, Model, TextSource
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.instructions.messages import Conversation, Role, UnusableError, conversation
from bllossom.instructions.shapes.mapped import Part, mapped
from bllossom.instructions.shapes.recognise import ShapeName, recognise, shape_named
from bllossom.instructions.shapes.shape import Shape
from bllossom.text.compression import known_encoding
from bllossom.text.rows import Entry, locate_rows, place, read_entries

IDENTITY = "id"  # the one column beside a shape's own that is kept


class FileSource(Model):
    """Files of one kind, as a config names them: a path alone stands for itself."""

    path: Annotated[TextSource, Field(description="a file, a folder, a glob or a hub data set (owner/name)")]
    encoding: Annotated[
        str, AfterValidator(known_encoding), AddedIn(2), Field(description="of JSON and CSV: utf-8, cp949, utf-16, …")
    ] = "utf-8"

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, given: Any) -> Any:
        return {"path": str(given)} if isinstance(given, str | Path) else given


class InstructionSource(FileSource):
    """Instruction files of one kind."""

    format: Annotated[
        ShapeName | None, Field(description="the shape of the records; null recognises it by each file's first one")
    ] = None
    fields: Annotated[
        dict[Part, str] | None,
        Field(min_length=1, description="for other shapes: our name to the field path there, as {question: prompt}"),
    ] = None
    language: Annotated[str, Field(description="what held-out answers of it are scored under")] = ""

    @model_validator(mode="after")
    def _one_way_to_read(self) -> Self:
        if self.format is not None and self.fields is not None:
            raise ValueError("fields: say where things are in another shape than format names; leave one of them out")
        return self


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that was left out, and why."""

    source: str  # "file:line"
    why: str


@dataclass(frozen=True)
class Instructions:
    """Conversations in the order of the files, with what was left out of them."""

    conversations: list[Conversation]
    skipped: list[Skipped]
    duplicates: int  # conversations that came before, word for word; they are kept


def read_instructions(
    sources: Sequence[InstructionSource],
    *,
    on_error: Literal["stop", "skip"] | None = None,
    ends: Role = "assistant",
) -> Instructions:
    """Read every record of `sources` as a conversation that ends in a message of `ends`.

    `on_error` is the caller's key; None where it has none, and stops at what is broken, too. The shape of each file and
    the columns that are not read are said, as are duplicates.

    Raises:
        BllossomError: a file or a record is broken and on_error is not skip, or nothing is left.
    """
    found: list[Conversation] = []
    skipped: list[Skipped] = []
    for source in sources:
        for path in locate_rows(source.path):
            before = len(found) + len(skipped)
            for made in _read_file(path, source, ends):
                if isinstance(made, Conversation):
                    found.append(made)
                elif on_error != "skip":
                    way_out = "; or set on_error: skip" if on_error else ""
                    raise BllossomError(f"{made.source}: {made.why}{way_out}")
                else:
                    skipped.append(made)
            if len(found) + len(skipped) == before:
                raise BllossomError(f"{path} holds no record; take it out of data, or fill it")
    if not found:
        raise BllossomError(f"every record is broken, the first at {skipped[0].source}: {skipped[0].why}")
    duplicates = len(found) - len({conversation.messages for conversation in found})
    if duplicates:
        say(f"{duplicates:,} of {len(found):,} conversations came before, word for word; they are kept")
    if skipped:
        say(f"{len(skipped):,} records skipped, the first at {skipped[0].source}: {skipped[0].why}")
    return Instructions(found, skipped, duplicates)


def _read_file(path: Path, source: InstructionSource, ends: Role) -> Iterator[Conversation | Skipped]:
    shape: Shape | None = None
    if source.fields is not None:
        shape = mapped(source.fields)
    elif source.format is not None:
        shape = shape_named(source.format)
    told = False
    for entry in read_entries(path, source.encoding):
        where = place(path, entry)
        try:
            record = _record(entry)
            shape = shape or recognise(record)
            if not told:
                _tell(path, shape, record)
                told = True
            if not shape.fits(record):
                raise UnusableError(_other_shape(shape, record))
            made = conversation(shape.read(record), ends=ends, source=where)
            yield replace(made, id=_identity(record), language=source.language)
        except UnusableError as error:
            yield Skipped(where, str(error))


def _record(entry: Entry) -> Mapping[str, Any]:
    if entry.error:
        raise UnusableError(entry.error)
    if not isinstance(entry.value, Mapping):
        recognise(entry.value)  # says which shapes there are
    record: Mapping[str, Any] = entry.value
    return record


def _identity(record: Mapping[str, Any]) -> str:
    identity = record.get(IDENTITY)
    return "" if identity is None else str(identity)


def _tell(path: Path, shape: Shape, record: Mapping[str, Any]) -> None:
    more = [str(key) for key in record if key not in shape.keys and key != IDENTITY]
    unread = f"; columns that are not read: {', '.join(more)}" if more else ""
    say(f"{path}: read as {shape.name}, {shape.looks}{unread}")


def _other_shape(shape: Shape, record: Mapping[str, Any]) -> str:
    keys = ", ".join(map(str, record)) or "none"
    return f"is not of the shape {shape.name}, {shape.looks}; its keys are {keys}: correct it, or set format or fields"
