"""Rows of files, each with the line it begins at."""

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from bllossom.errors import BllossomError
from bllossom.text.rows import locate_rows, read_entries
from bllossom.text.sources import ReadOptions, read_documents

ROWS = [{"a": "x\ny", "b": "한"}, {"a": "separator\u2028inside", "b": ""}]


def found(path: Path) -> list[tuple[int, object]]:
    return [(entry.number, entry.error or entry.value) for entry in read_entries(path)]


def test_marks_where_json_files_were_joined_are_passed_over(tmp_path: Path) -> None:
    whole = [json.dumps(row, ensure_ascii=False, indent=2).encode("utf-8-sig") for row in ROWS]
    (tmp_path / "a.json").write_bytes(b"\n".join(whole))
    assert [row for _, row in found(tmp_path / "a.json")] == ROWS


def test_each_row_has_the_line_it_begins_at(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    pretty = json.dumps(ROWS, ensure_ascii=False, indent=2)
    csv = 'a,b\n"x\ny",한\n\nseparator\u2028inside,\n'
    for name, text, places in [
        ("a.jsonl", lines, (1, 2)),
        ("list.jsonl", pretty, (2, 6)),  # JSONL by name alone
        ("a.json", pretty, (2, 6)),
        ("lines.json", "\n" + lines, (2, 3)),
        ("a.csv", csv, (2, 5)),
    ]:
        for path, data in [
            (tmp_path / name, text.encode("utf-8-sig")),
            (tmp_path / f"{name}.gz", gzip.compress(text.encode())),
        ]:
            path.write_bytes(data)
            assert found(path) == list(zip(places, ROWS, strict=True)), path
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert found(tmp_path / "a.parquet") == [(1, ROWS[0]), (2, ROWS[1])]


@pytest.mark.parametrize(
    ("name", "data", "last"),
    [
        ("a.jsonl", b'{"a"\n{"a": 1}\n', (2, {"a": 1})),
        ("a.json", b'[{"a": 1}\n{"a": 2}]', (2, "a comma or the end of the list is missing before it")),
        ("a.json", b'[{"a": 1},\n{"a": 2]', (2, "is not JSON")),
        ("a.json", b'[\n{"a": 1},\n{"a": 2},\n', (4, "the end of the list is missing")),
        ("a.json", b'[\n{"a": 1},\n{"a": 2}\n', (4, "the end of the list is missing")),
        ("a.json", b"[", (1, "the end of the list is missing")),
        ("a.json", b'[{"a": 1}]\n[{"a": 2},\n', (3, "the end of the list is missing")),
        ("a.jsonl", b'[\n{"a": 1},\n{"a": 2},\n', (4, "the end of the list is missing")),
        (
            "a.json",
            b'[{"a": 1}]\nrubbish\n',
            (2, "is not JSON (Expecting value at column 1); repair it, nothing behind"),
        ),
        ("a.json", b'[{"a": 1}],\n[{"a": 2}]', (2, "is not JSON (Expecting value")),
        ("a.jsonl", b'[\n{"a": 1}\n] rubbish\n', (3, "is not JSON (Expecting value at column 3)")),
        ("a.jsonl", b'[{"a": 1}] rubbish\n', (2, "is not JSON (Expecting value")),
        ("a.json", b'[{"a": 1},\n{"a": "\xff"}]', (2, "is not UTF-8")),
        ("a.csv", b'a,b\n1,2\n"1,2\n3,4\n', (3, "nothing behind it can be read")),
        ("a.csv", b'a,b\n1,2\n"1"1,2\n3,4\n', (3, "nothing behind it can be read")),
        ("a.csv", b"a,b\n1,2\n1\n", (3, "has 1 columns where the first line names 2")),
        ("a.csv", b"a,a\n1,2\n", (1, "has one twice")),
        (
            "a.csv",
            b"a,b\n1,\xff\n",
            (1, "is not UTF-8 from here on (convert it with iconv); repair the file, nothing be"),
        ),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:-9], (10, "cannot be read from here on")),
    ],
)
def test_what_is_broken_is_told_with_its_line(tmp_path: Path, name: str, data: bytes, last: tuple[int, object]) -> None:
    (tmp_path / name).write_bytes(data)
    number, what = found(tmp_path / name)[-1]
    assert number == last[0]
    assert str(what).startswith(str(last[1])) or str(last[1]) in str(what)


JOINED = [{"a": 1}, {"a": 2}, {"a": 3}, {"a": [4]}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    ("data", "places"),
    [
        ('[{"a": 1}, {"a": 2}][{"a": 3}, {"a": [4]}]', (1, 2, 3, 4)),
        ('[\n {"a": 1},\n {"a": 2}\n]\n[\n {"a": 3},\n {"a": [4]}\n]\n', (2, 3, 6, 7)),
        ('[\n {"a": 1},\n {"a": 2}\n][\n {"a": 3},\n {"a": [4]}\n]', (2, 3, 5, 6)),
        ('[]\ufeff[\n{"a": 1},\n{"a": 2}]\n{"a": 3}\n[{"a": [4]}]', (2, 3, 4, 5)),
    ],
)
def test_lists_that_were_joined_are_read_to_the_end(
    tmp_path: Path, name: str, data: str, places: tuple[int, ...]
) -> None:
    (tmp_path / name).write_text(data, encoding="utf8")
    assert found(tmp_path / name) == list(zip(places, JOINED, strict=True))


def test_lists_of_a_line_each_are_read_to_the_end(tmp_path: Path) -> None:
    for name, places in [("a.json", (1, 2, 3, 4)), ("a.jsonl", (1, 1, 2, 2))]:
        (tmp_path / name).write_text('[{"a": 1}, {"a": 2}]\n[{"a": 3}, {"a": [4]}]\n')
        assert found(tmp_path / name) == list(zip(places, JOINED, strict=True))


@pytest.mark.parametrize(("name", "tab"), [("a.csv", ","), ("a.tsv", "\t")])
def test_reading_goes_on_behind_a_row_of_another_length(tmp_path: Path, name: str, tab: str) -> None:
    rows = [["a", "b"], ["1", "2"], ["3"], ["4", "5"], ["6", "7", "8"], ["9", "0"]]
    (tmp_path / name).write_text("".join(tab.join(row) + "\n" for row in rows))
    assert found(tmp_path / name) == [
        (2, {"a": "1", "b": "2"}),
        (3, "has 1 columns where the first line names 2; repair the row"),
        (4, {"a": "4", "b": "5"}),
        (5, "has 3 columns where the first line names 2; repair the row"),
        (6, {"a": "9", "b": "0"}),
    ]


def test_rows_that_an_open_quote_took_in_are_told_by_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n1,"2\n3,4\n5,6",7\n8,9\n')
    assert found(tmp_path / "a.csv") == [
        (2, "has 3 columns over 3 lines where the first line names 2; repair the row"),
        (5, {"a": "8", "b": "9"}),
    ]


def test_plain_text_has_no_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.txt").write_text("hello")
    with pytest.raises(BllossomError, match="plain text has no rows"):
        locate_rows(str(tmp_path))
    with pytest.raises(BllossomError, match="plain text has no rows"):
        list(read_entries(tmp_path / "README.txt"))
    (tmp_path / "a.csv").write_text("a\n1\n")
    assert locate_rows(str(tmp_path)) == [tmp_path / "a.csv"]
    assert "1 file(s) of plain text left out" in capsys.readouterr().err


def test_documents_of_a_csv_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,"one, two"\n2,"three\nfour"\n')
    assert list(read_documents(str(tmp_path / "a.csv"))) == ["one, two", "three\nfour"]
    with pytest.raises(BllossomError, match=r"a.csv:2: no field 'body'.*id, text"):
        list(read_documents(str(tmp_path / "a.csv"), ReadOptions(fields=("body",))))
