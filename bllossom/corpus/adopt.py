"""Slices of an unfinished run with another config or other files, kept where their text and its cleaning are the same.

What mends a broken record (repairing it, `on_error: skip`) makes the run another one, with a folder of its own. Each
slice depends on what came before it alone, so those up to the first with other text are what this run would make.
They are read and cleaned to see that, and not encoded; their files are linked, not copied.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bllossom.artifacts import PARTIAL, partial_folders
from bllossom.console import say
from bllossom.corpus.marks import Mark, Position, mark_path, read_marks
from bllossom.corpus.readings import Reading
from bllossom.corpus.slices import Settings, SliceMaker
from bllossom.errors import BllossomError
from bllossom.tokenizer.encode import Encoder
from bllossom.tokens.origins import origins_path
from bllossom.tokens.shards import write_whole

DECIDES = "decides.json"


def adopt(
    readings: Sequence[Reading],
    settings: Settings,
    decides: dict[str, Any],
    choose: Callable[[Reading], Encoder],
    folder: Path,
    work: Path,
) -> None:
    """Link the slices of other unfinished runs of this output that this one would make, where it has none yet."""
    mine = [decides | _of_reading(reading) for reading in readings]
    known = work / DECIDES
    if not known.is_file():
        output = folder.with_name(folder.name.partition(PARTIAL)[0])
        others = [other / work.name for other in partial_folders(output) if other != folder]
        for other in others if not mark_path(work, 0).is_file() else ():
            if _adopt_from(other, mine, readings, settings, choose, folder, work):
                break
        write_whole(known, json.dumps(mine).encode())


def _of_reading(reading: Reading) -> dict[str, Any]:
    options = reading.options
    return {
        "language": reading.language,
        "source": reading.source,
        "heldout_share": reading.heldout_share,
        "clean": reading.clean.model_dump(mode="json"),
        "options": [list(options.fields), options.split, options.format, options.encoding, options.skip_missing],
        "max_document_bytes": options.max_document_bytes,
    }


def _adopt_from(
    other: Path,
    mine: list[dict[str, Any]],
    readings: Sequence[Reading],
    settings: Settings,
    choose: Callable[[Reading], Encoder],
    folder: Path,
    work: Path,
) -> int:
    try:
        theirs = json.loads((other / DECIDES).read_bytes())
    except (OSError, ValueError):
        return 0  # of a version that kept no such file
    marks = read_marks(other).marks
    kept = 0
    start = Position()
    for number, mark in enumerate(marks):
        if mine[: mark.reading + 1] != theirs[: mark.reading + 1]:
            break
        if kept == 0:
            say(f"looking which of {len(marks):,} finished slices of an earlier run can be kept")
        maker = SliceMaker(readings[mark.reading], settings, choose(readings[mark.reading]), _none, lambda _: None)
        if not _is_same(maker, mark, start):
            break
        _link(mark, number, other, folder, work)
        kept += 1
        start = Position() if mark.last else mark.end
    if marks:
        say(f"{kept:,} of {len(marks):,} finished slices of an earlier run are kept")
    return kept


def _none(_: Any) -> Any:
    raise AssertionError("a slice that is only looked at asks for no duplicates")


def _is_same(maker: SliceMaker, mark: Mark, start: Position) -> bool:
    try:
        digest, end = maker.digest(start)
    except (BllossomError, OSError):  # whoever makes the slice says what is wrong
        return False
    return mark.digest == digest and mark.end == end


def _link(mark: Mark, number: int, other: Path, folder: Path, work: Path) -> None:
    """Give this run the files of a slice; its mark comes last."""
    pairs = [(path, work / path.name) for path in other.glob(f"{number:05d}.*") if path.is_file()]
    for root, target in ((other.parent, folder), (other, work)):
        shard = root / mark.shard.file
        pairs += [(path, target / path.relative_to(root)) for path in shard.parent.glob(f"{shard.name}.*")]
        for name in (mark.shard.file, mark.heldout.file):
            origins = origins_path(root, name)
            pairs += [(origins, origins_path(target, name))] if origins.is_file() else []
    last = mark_path(other, number)
    for source, target in sorted(pairs, key=lambda pair: pair[0] == last):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.link(source, target)
