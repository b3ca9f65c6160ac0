"""What a finished slice leaves in the work folder: where reading goes on, and what became of its documents."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from bllossom.config import Model
from bllossom.tokens.origins import Origin
from bllossom.tokens.shards import ShardRecord

MISSING = "missing"  # why a document is left out that lacks the field, with missing: skip
SAMPLE_CHARACTERS = 300
SAMPLES = 20  # dropped documents kept to be read, for each source and reason


class Position(Model):
    """Where reading goes on."""

    file: int = 0
    record: int = 0  # records of that file already read
    document: int = 0  # documents of the reading already seen, dropped ones among them


class Drop(Model):
    """A document that was left out, as a reader of dropped.jsonl sees it."""

    reason: str
    detail: str = ""
    file: str
    record: int
    text: str


def dropped_sample(reason: str, detail: str, origin: Origin, text: bytes) -> Drop:
    """A document that was left out, with the beginning of its text."""
    name, record, _, _ = origin
    beginning = text[: 4 * SAMPLE_CHARACTERS].decode(errors="ignore")[:SAMPLE_CHARACTERS]
    return Drop(reason=reason, detail=detail, file=Path(name).name, record=record, text=beginning)


class Tally(Model):
    """What became of the documents of a slice. Bytes are UTF-8 bytes of text."""

    read: tuple[int, int]  # documents, bytes: as they came
    kept: tuple[int, int]  # as they are encoded
    changed: int  # bytes that cleaning took away (or, where negative, put in) inside kept documents
    dropped: dict[str, tuple[int, int]]  # by reason; bytes as they came
    broken: int  # records that could not be read


class Mark(Model):
    """A finished slice."""

    reading: int
    end: Position
    last: bool  # nothing is left of this reading
    shard: ShardRecord
    heldout: ShardRecord
    tally: Tally
    samples: list[Drop]
    encoder: str
    digest: str = ""  # of the text it is made of (SliceMaker.digest)


@dataclass
class SliceCounts:
    """The tally while it grows."""

    read: list[int] = field(default_factory=lambda: [0, 0])
    kept: list[int] = field(default_factory=lambda: [0, 0])
    changed: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    broken: int = 0
    samples: list[Drop] = field(default_factory=list)

    def drop(self, reason: str, came_as: int, documents: int = 1) -> bool:
        """Count a document that is left out, or several; True while samples of this reason are wanted."""
        tally = self.dropped.setdefault(reason, [0, 0])
        tally[0] += documents
        tally[1] += came_as
        return tally[0] <= SAMPLES

    def tally(self) -> Tally:
        return Tally(
            read=(self.read[0], self.read[1]),
            kept=(self.kept[0], self.kept[1]),
            changed=self.changed,
            dropped={reason: (documents, text) for reason, (documents, text) in sorted(self.dropped.items())},
            broken=self.broken,
        )


class Progress(Model):
    """All marks of a work folder, in order."""

    marks: list[Mark] = Field(default_factory=list)

    def of(self, reading: int) -> list[Mark]:
        return [mark for mark in self.marks if mark.reading == reading]


def read_marks(work: Path) -> Progress:
    """The finished slices of a work folder, up to the first that is not: on a cluster, later ones may be there."""
    marks: list[Mark] = []
    while (path := mark_path(work, len(marks))).is_file():
        marks.append(Mark.model_validate_json(path.read_bytes()))
    return Progress(marks=marks)


def mark_path(work: Path, number: int) -> Path:
    """Where the mark of a slice is, counted over all readings."""
    return work / f"{number:05d}.mark.json"


def check_conserved(mark: Mark) -> None:
    """Check that what came in is what was dropped and what was written, in documents and in bytes."""
    tally = mark.tally
    documents = tally.kept[0] + sum(dropped[0] for dropped in tally.dropped.values())
    text = tally.kept[1] + tally.changed + sum(dropped[1] for dropped in tally.dropped.values())
    written = (mark.shard.documents + mark.heldout.documents, mark.shard.bytes + mark.heldout.bytes)
    if tally.read != (documents, text) or written != tally.kept:
        raise AssertionError(f"text was lost or doubled: read {tally.read}, accounted {(documents, text)}, {written=}")
