"""What an unfinished run leaves to one with another config or mended files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bllossom.corpus import prepare as stage
from bllossom.corpus.prepare import PrepareConfig, prepare
from bllossom.corpus.slices import SliceMaker
from bllossom.errors import BllossomError

BROKEN = 70  # of the source's 80 records


@pytest.fixture
def source(tmp_path: Path, documents: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a broken record far behind what is looked at before the work begins."""
    monkeypatch.setattr(stage, "QUICK_SAMPLE_BYTES", 500)
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in documents("ko", 80, 5)]
    lines[BROKEN] = lines[BROKEN][:-2]
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    return path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the slices that were made, not kept."""
    numbers: list[int] = []
    make = SliceMaker.make

    def noted(self: SliceMaker, this: Any, *paths: Path) -> Any:
        mark = make(self, this, *paths)
        numbers.append(this.number)
        return mark

    monkeypatch.setattr(SliceMaker, "make", noted)
    return numbers


def repair(path: Path) -> None:
    lines = path.read_text(encoding="utf8").splitlines()
    lines[BROKEN] += '"}'
    path.write_text("\n".join(lines) + "\n", encoding="utf8")


@pytest.mark.parametrize(
    ("way", "more"),
    [
        *(("repaired", {"near_duplicates": {"threshold": 0.9}}), ("skipped", {})),
        ("repaired", {"output": "x[1]"}),  # no glob, though it looks like one
    ],
)
def test_what_mends_a_broken_record_keeps_the_slices_before_it(
    make: Any, tmp_path: Path, corpus: dict[str, Path], source: Path, made: list[int], way: str, more: Any
) -> None:
    (tmp_path / "first.jsonl").write_bytes(b"".join(corpus["en"].read_bytes().splitlines(keepends=True)[:20]))
    sources = {"en": [str(tmp_path / "first.jsonl")], "ko": [str(source)]}
    settings: dict[str, Any] = {"sources": sources, "shard_bytes": 2000, "holdout": 0.1, **more}
    if "output" in more:
        settings["output"] = tmp_path / more["output"]
    with pytest.raises(BllossomError, match=rf"a\.jsonl:{BROKEN + 1}: is not JSON"):
        prepare(make(**settings))
    done = len(made)
    assert done > 4
    if way == "repaired":
        repair(source)
    else:
        settings["on_error"] = "skip"
    mended = prepare(make(**settings))
    assert made[done] == done
    assert made == list(range(len(made)))
    output = settings.pop("output", make().output)
    whole = prepare(make(output=tmp_path / "whole", **settings))
    assert mended.fingerprint == whole.fingerprint
    assert mended.figures == whole.figures
    origins = sorted((tmp_path / "whole" / "logs").rglob("*.parquet"))
    assert [path.read_bytes() for path in sorted((output / "logs").rglob("*.parquet"))] == [
        path.read_bytes() for path in origins
    ]


def test_slices_of_other_text_or_cleaning_are_made_anew(make: Any, source: Path, made: list[int]) -> None:
    settings: dict[str, Any] = {"sources": {"ko": [str(source)]}, "shard_bytes": 2000}
    with pytest.raises(BllossomError):
        prepare(make(**settings))
    done = len(made)
    made.clear()
    with pytest.raises(BllossomError):
        prepare(make(**settings, clean={"min_characters": 3}))
    assert made == list(range(done))
    made.clear()
    lines = source.read_text(encoding="utf8").splitlines()
    lines[40] = '{"text": "다른 글"}'
    source.write_text("\n".join(lines) + "\n", encoding="utf8")
    repair(source)
    prepare(make(**settings))
    assert 0 < made[0] < done
    assert made == list(range(made[0], made[-1] + 1))


def test_partial_folders_of_before_are_left_alone(
    make: Callable[..., PrepareConfig], tmp_path: Path, source: Path, made: list[int]
) -> None:
    settings: dict[str, Any] = {"sources": {"ko": [str(source)]}, "shard_bytes": 2000}
    with pytest.raises(BllossomError):
        prepare(make(**settings))
    [known] = tmp_path.glob("tokens.partial-*/work/decides.json")
    known.unlink()
    made.clear()
    repair(source)
    prepare(make(**settings))
    assert made[0] == 0
