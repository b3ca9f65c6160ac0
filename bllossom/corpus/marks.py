"""What a finished slice leaves in the work folder: where reading goes on, and what became of its documents."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from bllossom.config import Model
from bllossom.tokens.shards import ShardRecord

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


@dataclass
class SliceCounts:
    """The tally while it grows."""

    read: list[int] = field(default_factory=lambda: [0, 0])
    kept: list[int] = field(default_factory=lambda: [0, 0])
    changed: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    broken: int = 0
    samples: list[Drop] = field(default_factory=list)

    def drop(self, reason: str, came_as: int) -> bool:
        """Count a document that is left out; True while samples of this reason are wanted."""
        tally = self.dropped.setdefault(reason, [0, 0])
        tally[0] += 1
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
