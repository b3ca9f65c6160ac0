"""All slices of all readings, one after another on this machine."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bllossom.corpus.dedup import SeenHashes
from bllossom.corpus.marks import Position, Progress, read_marks
from bllossom.corpus.readings import Reading
from bllossom.corpus.slices import Settings, Slice, SliceMaker
from bllossom.tokenizer.encode import Encoder


def run_local(
    readings: Sequence[Reading],
    settings: Settings,
    choose: Callable[[Reading], Encoder],
    folder: Path,
    work: Path,
    advance: Callable[[int], None],
) -> Progress:
    """Go through all readings from where the marks in `work` end; `advance` is told the bytes of text read.

    Raises:
        BllossomError: a record is broken (or too many are), or a source has no text.
    """
    done = read_marks(work)
    seen = SeenHashes()
    for number, mark in enumerate(done.marks):
        seen.add(np.load(work / f"{number:05d}.hashes.npy"))
        advance(mark.tally.read[1])
    marks = list(done.marks)
    for number, reading in enumerate(readings):
        mine = done.of(number)
        if mine and mine[-1].last:
            continue
        encoder = choose(reading)
        while not (mine and mine[-1].last):
            this = Slice(
                number=len(marks),
                reading=number,
                within=len(mine),
                start=mine[-1].end if mine else Position(),
                kept_before=sum(mark.tally.kept[0] for mark in mine),
                broken_before=sum(mark.tally.broken for mark in marks),
            )
            mark = SliceMaker(reading, settings, encoder, seen.add, advance).make(this, folder, work)
            marks.append(mark)
            mine.append(mark)
    return Progress(marks=marks)
