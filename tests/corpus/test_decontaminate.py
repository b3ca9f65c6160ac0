import json
from pathlib import Path

import pytest

from bllossom.corpus.decontaminate import DecontaminationConfig, Decontaminator
from bllossom.errors import BllossomError

QUESTION = "로마에서 열린 국제 회의에서 대표들은 새로운 무역 협정에 합의했다"
PARAGRAPH = "The committee met on the first Tuesday of every month, and its minutes were kept in the county archive."


@pytest.fixture
def tests_file(tmp_path: Path) -> Path:
    rows = [{"question": QUESTION, "label": 1}, {"paragraph": PARAGRAPH, "choices": ["yes", "no"]}]
    path = tmp_path / "boolq.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf8")
    return path


def test_a_test_row_is_found_whatever_its_spacing_and_case(tests_file: Path) -> None:
    found = Decontaminator(DecontaminationConfig(paths=[str(tests_file)]))
    spaced = QUESTION.replace(" ", "") + "!"
    assert found.find(f"앞의 글. {spaced} 뒤의 글.".encode()) == "boolq.jsonl:1 question"
    assert found.find(("x " * 500 + PARAGRAPH.upper().replace(",", " -")).encode()) == "boolq.jsonl:2 paragraph"
    assert found.too_short == 2


def test_a_shared_phrase_is_not_enough(tests_file: Path) -> None:
    found = Decontaminator(DecontaminationConfig(paths=[str(tests_file)], overlap=0.5))
    phrase = PARAGRAPH[:70]
    assert found.find(f"Nothing else here agrees. {phrase} but not the rest".encode()) == ""
    strict = Decontaminator(DecontaminationConfig(paths=[str(tests_file)], overlap=0.01))
    assert strict.find(f"Nothing else here agrees. {phrase} but not the rest".encode()) == "boolq.jsonl:2 paragraph"
    assert strict.find("국제 회의에서 대표들은 다른 이야기를 했다".encode()) == ""


def test_rows_too_short_to_be_found_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": "short"}\n')
    with pytest.raises(BllossomError, match="no text of 50 bytes or more"):
        Decontaminator(DecontaminationConfig(paths=[str(tmp_path / "a.jsonl")]))


@pytest.mark.real_data
def test_every_long_test_row_finds_itself(shared) -> None:  # type: ignore[no-untyped-def]
    path = shared("benchmarks/kobest/boolq_test.jsonl")
    found = Decontaminator(DecontaminationConfig(paths=[str(path)]))
    rows = [json.loads(line)["paragraph"] for line in path.read_text(encoding="utf8").splitlines()]
    hits = [found.find(f"먼저 온 글 {row} 나중 글".encode()) for row in rows[:300]]
    assert all(hit.startswith("boolq_test.jsonl:") and hit.endswith("paragraph") for hit in hits)
