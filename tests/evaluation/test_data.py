"""Rows are checked before anything is scored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bllossom.errors import BllossomError
from bllossom.evaluation.data import TASK_DATA, evaluated_rows, train_rows
from bllossom.evaluation.metrics import accuracy, binary_f1, floor, macro_f1
from bllossom.evaluation.prompts import klue_sts_label, kosbi_label

ROW = {"premise": "비가 왔다.", "question": "결과 ", "alternative_1": "가", "alternative_2": "나", "label": 1}


def write(folder: Path, rows: list[dict[str, Any]], name: str = "kobest/copa_test.jsonl") -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf8")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"premise": None}, "row 2: premise: .*reads the columns premise, question, alternative_1"),
        ({"label": 2}, "row 2: label: "),
        ({"label": "1"}, "row 2: label: "),
        ({"question": "이유"}, "row 2: question: "),
    ],
)
def test_a_row_of_another_shape_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    write(tmp_path, [ROW, ROW | change])
    with pytest.raises(BllossomError, match=told):
        evaluated_rows("kobest_copa", tmp_path)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path, [{"premise": "비가 왔다.", "label": 1}])
    with pytest.raises(BllossomError, match=r"copa_test\.jsonl: row 1: question: Field required"):
        evaluated_rows("kobest_copa", tmp_path)


def test_missing_and_doubled_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match=r"kobest_copa: there is no .*kobest/copa_test\.jsonl; put it there"):
        evaluated_rows("kobest_copa", tmp_path)
    kosbi = {"context": "가", "sentence": "나", "sentence_label": "safe"}
    for version in (1, 2):
        write(tmp_path, [kosbi], f"kosbi/kosbi_v{version}_test.jsonl")
    with pytest.raises(BllossomError, match=r"which of .*kosbi_v1.*kosbi_v2"):
        evaluated_rows("kosbi", tmp_path)


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    write(tmp_path, [ROW])
    assert evaluated_rows("kobest_copa", tmp_path) == [ROW | {"question": "결과"}]
    write(tmp_path, [ROW | {"label": 0}])
    assert evaluated_rows("kobest_copa", tmp_path)[0]["label"] == 0
    assert train_rows("kobest_copa", tmp_path) is None


def test_without_the_hub_the_message_says_what_to_do() -> None:
    with pytest.raises(BllossomError, match="set data to a local folder"):
        evaluated_rows("klue_nli", None)


@pytest.mark.real_data
def test_the_real_sets_have_their_rows_and_floors(shared: Callable[[str], Path]) -> None:
    folder = shared("benchmarks")
    golds: dict[str, list[int]] = {}
    for task in TASK_DATA:
        label = {"klue_sts": klue_sts_label, "kosbi": kosbi_label}.get(task, lambda row: row["label"])
        golds[task] = [label(row) for row in evaluated_rows(task, folder)]
    assert {task: len(rows) for task, rows in golds.items()} == {
        "klue_nli": 3000,
        "klue_sts": 519,
        "klue_ynat": 9107,
        "kosbi": 3423,
        "kobest_boolq": 1404,
        "kobest_copa": 1000,
        "kobest_hellaswag": 500,
        "kobest_sentineg": 397,
    }
    floors = {
        "NLI": floor(golds["klue_nli"], accuracy),
        "STS": floor(golds["klue_sts"], accuracy),
        "YNAT": floor(golds["klue_ynat"], accuracy),
        "YNAT F1": floor(golds["klue_ynat"], macro_f1),
        "BoolQ": floor(golds["kobest_boolq"], macro_f1),
        "COPA": floor(golds["kobest_copa"], macro_f1),
        "HellaSwag": floor(golds["kobest_hellaswag"], macro_f1),
        "SentiNeg": floor(golds["kobest_sentineg"], macro_f1),
        "SBI": floor(golds["kosbi"], binary_f1),
        "SBI macro": floor(golds["kosbi"], macro_f1),
    }
    assert {name: round(100 * value, 1) for name, value in floors.items()} == {
        "NLI": 33.3,
        "STS": 57.6,
        "YNAT": 40.6,
        "YNAT F1": 8.3,
        "BoolQ": 33.4,
        "COPA": 34.1,
        "HellaSwag": 10.8,
        "SentiNeg": 33.5,
        "SBI": 66.5,  # always "safe": more than any model of Table 6 has
        "SBI macro": 33.4,
    }
