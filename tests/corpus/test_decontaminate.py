import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bllossom.corpus.decontaminate import DecontaminationConfig, Decontaminator
from bllossom.corpus.ngrams import normalised
from bllossom.errors import BllossomError

QUESTION = "로마에서 열린 국제 회의에서 대표들은 새로운 무역 협정에 합의했다"
PARAGRAPH = "The committee met on the first Tuesday of every month, and its minutes were kept in the county archive."


def decontaminator(folder: Path, texts: list[str], **keys: float) -> Decontaminator:
    """Of one test row for each text."""
    path = folder / "test.jsonl"
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf8")
    return Decontaminator(DecontaminationConfig.model_validate({"paths": [str(path)]} | keys))


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


def test_a_shared_phrase_is_not_enough(tests_file: Path) -> None:
    found = Decontaminator(DecontaminationConfig(paths=[str(tests_file)], overlap=0.5))
    phrase = PARAGRAPH[:70]
    assert found.find(f"Nothing else here agrees. {phrase} but not the rest".encode()) == ""
    strict = Decontaminator(DecontaminationConfig(paths=[str(tests_file)], overlap=0.01))
    assert strict.find(f"Nothing else here agrees. {phrase} but not the rest".encode()) == "boolq.jsonl:2 paragraph"
    assert strict.find("국제 회의에서 대표들은 다른 이야기를 했다".encode()) == ""


def characters(count: int, seed: int) -> str:
    """Hangul in which no window occurs twice."""
    return "".join(map(chr, np.random.default_rng(seed).integers(0xAC00, 0xD7A4, count)))


def test_a_text_within_another_is_found_by_itself(tmp_path: Path) -> None:
    long = characters(1500, 0)
    found = decontaminator(tmp_path, [long, long[300:420]])
    assert found.find(f"앞 {long[300:420]} 뒤".encode()) == "test.jsonl:2 text"
    assert found.find(f"앞 {long} 뒤".encode()) == "test.jsonl:1 text"


def test_a_text_is_not_known_by_the_little_that_is_its_own(tmp_path: Path) -> None:
    long = characters(1500, 0)
    longer = long + characters(17, 1)
    found = decontaminator(tmp_path, [long, longer])
    assert found.find(longer[-57:].encode()) == ""
    assert found.find(longer[700:].encode()) == "test.jsonl:2 text"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(range(3)), min_size=2, max_size=8), min_size=1, max_size=6),
    document=st.lists(st.sampled_from(range(3)), max_size=12),
    overlap=st.sampled_from([0.1, 0.5, 0.9, 1]),
)
def test_shares_are_those_of_each_text_by_itself(
    tmp_path: Path, texts: list[list[int]], document: list[int], overlap: float
) -> None:
    parts = [characters(10, seed) for seed in range(3)]  # texts that share parts share windows
    rows = ["".join(parts[number] for number in text) for text in texts]
    held = "".join(parts[number] for number in document)

    def windows(text: str) -> set[bytes]:
        data = normalised(text)  # three bytes a syllable
        return {data[start : start + 50] for start in range(0, len(data) - 49, 3)}

    shares = [len(windows(row) & windows(held)) / len(windows(row)) for row in rows]
    best = max(shares)
    expected = f"test.jsonl:{shares.index(best) + 1} text" if best >= overlap else ""
    assert decontaminator(tmp_path, rows, overlap=overlap).find(held.encode()) == expected


def test_the_short_texts_of_a_row_are_looked_for_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"premise": "바지의 허리가 컸다.", "alternatives": ["밑단을 잘랐다.", "벨트를 바지에 끼웠다."], "label": 1},
        {"premise": "비가 왔다.", "alternatives": ["", "땅이 젖었다."], "label": 0},
        {"premise": QUESTION, "alternatives": ["예", "아니오"], "label": 0},
        {"label": 0},
    ]
    path = tmp_path / "copa.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf8")
    found = Decontaminator(DecontaminationConfig(paths=[str(path)]))
    told = capsys.readouterr().err
    assert "2 of 4 test rows have less than 50 bytes" in told
    assert "copa.jsonl (2)" in told
    as_table = "1\t바지의 허리가 컸다.\t밑단을 잘랐다.\t벨트를 바지에 끼웠다.\t1\n2\t비가 왔다.\t\t땅이 젖었다.\t0"
    assert found.find(as_table.encode()) == "copa.jsonl:1 premise + alternatives"
    assert found.find("바지의 허리가 컸다. 다른 글이 이어진다. 비가 왔다. 땅이 젖었다.".encode()) == ""
    # A row with a text that is long enough is known by that alone.
    assert found.find(f"{QUESTION} 다른 글".encode()) == "copa.jsonl:3 premise"


def test_nothing_is_said_of_rows_that_are_all_looked_for(tests_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Decontaminator(DecontaminationConfig(paths=[str(tests_file)]))
    assert capsys.readouterr().err == ""


def test_rows_too_short_to_be_found_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": "short"}\n')
    with pytest.raises(BllossomError, match="no text of 50 bytes or more"):
        Decontaminator(DecontaminationConfig(paths=[str(tmp_path / "a.jsonl")]))


@pytest.mark.real_data
def test_every_long_text_of_the_test_rows_is_found(shared) -> None:  # type: ignore[no-untyped-def]
    paths = [path for path in sorted(shared("benchmarks").rglob("*.jsonl")) if "train" not in path.name]
    found = Decontaminator(DecontaminationConfig(paths=list(map(str, paths))))
    rows = [json.loads(line) for path in paths for line in path.read_text(encoding="utf8").splitlines()]
    texts = [value for row in rows for value in row.values() if isinstance(value, str) and len(normalised(value)) >= 50]
    assert len(texts) > 33_000
    assert [text for text in texts if not found.find(f"먼저 온 글 {text} 나중 글".encode())] == []
