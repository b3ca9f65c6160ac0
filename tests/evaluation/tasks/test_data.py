"""Rows are found, and checked before anything is scored."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bllossom.errors import BllossomError
from bllossom.evaluation.tasks.data import NoDataError, Rows, find_files, read_split
from bllossom.evaluation.tasks.definitions import Definition, choose
from bllossom.evaluation.tasks.hub_rows import go_offline_without_a_hub

ROW = {"premise": "비가 왔다.", "question": "결과 ", "alternative_1": "가", "alternative_2": "나", "label": 1}


def write(folder: Path, rows: list[Any], name: str = "kobest/copa_test.jsonl") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf8")


def task(name: str) -> Definition:
    return choose([name]).tasks[name]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"premise": None}, "row 2: premise: should be text .*reads the columns premise, question, alternative_1"),
        ({"label": 2}, r"row 2: label: should be one of 0, 1 \(it is 2\)"),
        ({"label": "1"}, "row 2: label: "),
        ({"label": True}, "row 2: label: "),
        ({"question": "이유"}, "row 2: question: should be one of 원인, 결과"),
    ],
)
def test_a_row_of_another_shape_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    write(tmp_path, [ROW, ROW | change])
    with pytest.raises(BllossomError, match=told):
        read_split(task("kobest_copa"), "test", tmp_path)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path, [{"premise": "비가 왔다.", "label": 1}])
    with pytest.raises(BllossomError, match=r"copa_test\.jsonl: row 1: question: is not there"):
        read_split(task("kobest_copa"), "test", tmp_path)
    write(tmp_path, [{"sentence1": "가", "sentence2": "나", "labels": {}}], "klue/sts_validation.jsonl")
    with pytest.raises(BllossomError, match=r"labels\.binary-label: is not there"):
        read_split(task("klue_sts"), "validation", tmp_path)
    write(tmp_path, [[1]])
    with pytest.raises(BllossomError, match="should be a mapping"):
        read_split(task("kobest_copa"), "test", tmp_path)


def test_a_row_that_lacks_what_the_first_has_is_named(tmp_path: Path) -> None:
    """lm-eval's definitions tell no columns; the question would be asked about None."""
    rows = [{"question": "?", "answerKey": "A"}, {"answerKey": "A"}]
    write(tmp_path, rows, "allenai/ai2_arc/ARC-Easy/test.jsonl")
    with pytest.raises(BllossomError, match=r"test\.jsonl: row 2: question: is not there, and is in row 1"):
        read_split(task("arc_easy"), "test", tmp_path)


def test_two_files_that_would_do_are_named(tmp_path: Path) -> None:
    kosbi = {"context": "가", "sentence": "나", "sentence_label": "safe"}
    for version in (1, 2):
        write(tmp_path, [kosbi], f"kosbi/kosbi_v{version}_test.jsonl")
    with pytest.raises(BllossomError, match=r"which of .*kosbi_v1.*kosbi_v2"):
        find_files(task("kosbi"), "test", tmp_path)


def test_a_file_is_read_anew_each_time_and_other_columns_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, [ROW | {"id": 7}])
    assert read_split(task("kobest_copa"), "test", tmp_path).rows == [ROW]
    write(tmp_path, [ROW | {"label": 0}])
    assert read_split(task("kobest_copa"), "test", tmp_path).rows[0]["label"] == 0


@pytest.mark.parametrize(
    "name",
    [
        "allenai/ai2_arc/ARC-Easy/test.jsonl",
        "ai2_arc/ARC-Easy/test.json",
        "allenai/ai2_arc/ARC-Easy/test-00000-of-00001.jsonl",
    ],
)
def test_a_data_set_lies_in_the_folder_as_the_hub_has_it(tmp_path: Path, name: str) -> None:
    write(tmp_path, [{"question": "?"}], name)
    write(tmp_path, [{"question": "another"}], "allenai/ai2_arc/ARC-Challenge/test.jsonl")
    found = read_split(task("arc_easy"), "test", tmp_path)
    assert (found.rows, found.files) == ([{"question": "?"}], [tmp_path / name])


def test_without_data_the_message_says_which_file_or_command_gives_them(tmp_path: Path) -> None:
    go_offline_without_a_hub()  # the imports
    started = time.monotonic()
    with pytest.raises(
        NoDataError, match=r"klue_nli: no data; put DATA/klue/nli_validation\.jsonl there, with data: D"
    ):
        read_split(task("klue_nli"), "validation", None)
    with pytest.raises(NoDataError) as missing:
        read_split(task("arc_easy"), "test", tmp_path)
    assert f"put {tmp_path}/allenai/ai2_arc/ARC-Easy/test.jsonl there" in str(missing.value)
    assert "hf download --repo-type dataset allenai/ai2_arc (the hub" in str(missing.value)
    assert time.monotonic() - started < 10


def test_the_fingerprint_is_of_the_rows_that_are_scored() -> None:
    rows = Rows([{"a": 1, "b": 2}, {"a": 3}], "file", [])
    other = Rows([{"b": 2, "a": 1}, {"a": 4}], "another", [])
    assert rows.fingerprint(1) == other.fingerprint(1)
    assert rows.fingerprint(2) != other.fingerprint(2)
