from pathlib import Path

from bllossom.corpus.clean import CleaningConfig
from bllossom.corpus.near_duplicates import NearDuplicatesConfig, bands, find_near_duplicates
from bllossom.corpus.slices import Reading


def reading(path: Path) -> Reading:
    return Reading("ko", "a", [path], "text", "blank-line", CleaningConfig(), 0)


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
