import json
import tracemalloc
from pathlib import Path

import pytest

from bllossom.corpus import near_duplicates
from bllossom.corpus.clean import CleaningConfig
from bllossom.corpus.near_duplicates import NearDuplicatesConfig, bands, find_near_duplicates
from bllossom.corpus.readings import Reading
from bllossom.text.sources import ReadOptions


def reading(path: Path) -> Reading:
    field = "data[].text" if path.suffix == ".json" else "text"
    return Reading("ko", "a", [path], ReadOptions(fields=(field,)), CleaningConfig(), 0)


def peak_bytes(path: Path) -> int:
    """Memory that finding near duplicates takes at most at one time."""
    tracemalloc.start()
    try:
        find_near_duplicates([reading(path)], NearDuplicatesConfig(), lambda _: None)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_first_of_nearly_equal_documents_stays(tmp_path: Path, write_jsonl, documents) -> None:  # type: ignore[no-untyped-def]
    texts = [text + " " + other for text, other in zip(documents("ko", 60, 1), documents("en", 60, 2), strict=True)]
    long = " ".join(texts[:20])
    near = long.replace("ko 1 7:", "ko 1 일곱:") + "."
    first = write_jsonl(tmp_path / "a.jsonl", [*texts[20:40], long, "", *texts[40:60]])
    second = write_jsonl(tmp_path / "b.jsonl", ["something else altogether", near, texts[25]])
    drops = find_near_duplicates([reading(first), reading(second)], NearDuplicatesConfig(), lambda _: None)
    assert [part.tolist() for part in drops] == [[], [1, 2]]


def test_half_of_the_pairs_at_the_threshold_are_found() -> None:
    for threshold in (0.5, 0.7, 0.8, 0.9):
        count, rows = bands(NearDuplicatesConfig(threshold=threshold))
        assert count * rows <= 128
        assert abs(1 - (1 - threshold**rows) ** count - 0.5) < 0.12


def test_similarity_decides(tmp_path: Path, write_jsonl, documents) -> None:  # type: ignore[no-untyped-def]
    words = " ".join(documents("en", 300, 5)).split()
    base = " ".join(words)
    half = " ".join(words[: len(words) // 2] + " ".join(documents("en", 200, 6)).split()[: len(words) // 2])
    path = write_jsonl(tmp_path / "a.jsonl", [base, half, base.replace("village", "VILLAGE,")])
    [drops] = find_near_duplicates([reading(path)], NearDuplicatesConfig(), lambda _: None)
    assert drops.tolist() == [2]


def test_memory_does_not_grow_with_the_number_of_long_documents(tmp_path: Path, write_jsonl, documents) -> None:  # type: ignore[no-untyped-def]
    texts = [" ".join(documents("en", 8000, seed)) for seed in range(8)]
    few, many = write_jsonl(tmp_path / "few.jsonl", texts), write_jsonl(tmp_path / "many.jsonl", 3 * texts)
    assert few.stat().st_size > 2 * near_duplicates.BATCH_BYTES
    peak_bytes(few)  # the tables that are made once
    assert peak_bytes(many) < 1.1 * peak_bytes(few)


@pytest.mark.parametrize("limits", [(1, 10**9), (7, 10**9), (256, 1), (256, 3000), (10**9, 10**9)])
def test_the_size_of_a_batch_changes_nothing(
    tmp_path: Path,
    write_jsonl,  # type: ignore[no-untyped-def]
    documents,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[int, int],
) -> None:
    texts = [" ".join(documents("ko", 5, seed)) for seed in range(60)]
    # Near duplicates of neighbours, of far ones, of each other, and across files; and documents that cleaning drops.
    texts = [
        *texts[:30],
        "",
        texts[29] + " 끝.",
        texts[3] + " 끝.",
        texts[3] + " 끝!",
        *texts[30:],
        " ",
        texts[50] + "?",
    ]
    first = write_jsonl(tmp_path / "a.jsonl", texts)
    second = tmp_path / "b.json"
    nested = [{"text": text} for text in [*documents("en", 40, 9), texts[7] + "~", *texts[20:22]]]
    second.write_text(json.dumps({"data": nested}, ensure_ascii=False), encoding="utf8")
    monkeypatch.setattr(near_duplicates, "BATCH_DOCUMENTS", limits[0])
    monkeypatch.setattr(near_duplicates, "BATCH_BYTES", limits[1])
    drops = find_near_duplicates([reading(first), reading(second)], NearDuplicatesConfig(), lambda _: None)
    assert [part.tolist() for part in drops] == [[31, 32, 33, 65], [40, 41, 42]]
