import gzip
import json
import tracemalloc
from pathlib import Path

import huggingface_hub.constants
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from bllossom.errors import BllossomError
from bllossom.text.rows import read_rows
from bllossom.text.sources import locate, read_documents, read_records

TEXTS = ["하나\n둘", "three", "", "넷 \u2028 five"]
JSONL = "".join(json.dumps({"id": i, "text": text}, ensure_ascii=i % 2 == 0) + "\n" for i, text in enumerate(TEXTS))


def test_every_format_gives_the_same_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(JSONL, encoding="utf8")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(JSONL.encode()))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(JSONL.encode()))
    pyarrow.parquet.write_table(
        pyarrow.table({"text": TEXTS, "id": range(4)}), tmp_path / "d.parquet", row_group_size=3
    )
    for path in sorted(tmp_path.iterdir()):
        assert list(read_documents(str(path))) == TEXTS, path
    assert list(read_documents(str(tmp_path))) == TEXTS * 4
    assert list(read_documents(str(tmp_path / "*.jsonl*"))) == TEXTS * 3


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.parquet", "a.txt"])
def test_reading_goes_on_after_any_record(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    texts = [f"document {i}" for i in range(700)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=300)
    else:
        path.write_bytes(
            {"a.jsonl": lines, "a.jsonl.zst": zstandard.compress(lines), "a.txt": "\n\n".join(texts).encode()}[name]
        )
    for skip in (0, 1, 299, 300, 301, 699, 700):
        records = list(read_records(path, skip=skip))
        assert [text for record in records for text in record.texts] == texts[skip:]
        assert [record.number for record in records] == list(range(skip + 1, 701))


def test_several_zstd_frames_are_read_and_a_cut_one_is_noticed(tmp_path: Path) -> None:
    frames = zstandard.compress(b'{"text": "one"}\n') + zstandard.compress(b'{"text": "two"}\n')
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(frames)
    assert list(read_documents(str(path))) == ["one", "two"]
    for cut in (frames[:-3], frames[:40]):
        path.write_bytes(cut)
        with pytest.raises(BllossomError, match=r"a\.jsonl\.zst:\d: the compressed file is damaged or cut short"):
            list(read_documents(str(path)))


def test_a_small_zstd_file_of_much_text_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.compress((json.dumps({"text": "a" * 10_000}) + "\n").encode() * 12_000))
    assert path.stat().st_size < 20_000
    tracemalloc.start()
    try:
        assert sum(len(text) for text in read_documents(str(path))) == 120_000_000
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_cut_gzip_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(JSONL.encode() * 50)[:-20])
    with pytest.raises(BllossomError, match="damaged or cut short"):
        list(read_documents(str(path)))


def test_plain_text_splits_at_blank_lines_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff첫 줄\r\n둘째 줄\r\n\r\n \t\nthird\n\n\n".encode())
    assert list(read_documents(str(path))) == ["첫 줄\r\n둘째 줄", "third"]
    assert list(read_documents(str(path), split="file")) == ["첫 줄\r\n둘째 줄\r\n\r\n \t\nthird"]


def test_nested_json_is_reached_by_a_field_path(tmp_path: Path) -> None:
    news = {"documents": [{"text": [[{"sentence": "가"}, {"sentence": "나"}], [{"sentence": "다"}]]}, {"text": []}]}
    (tmp_path / "news.json").write_text(json.dumps(news), encoding="utf8")
    assert list(read_documents(str(tmp_path / "news.json"), "documents[].text[+][+].sentence")) == ["가\n나\n다", ""]
    qa = {"data": [{"paragraphs": [{"context": "하나"}, {"context": "둘"}]}, {"paragraphs": [{"context": None}]}]}
    (tmp_path / "qa.json").write_text(json.dumps(qa), encoding="utf8")
    assert list(read_documents(str(tmp_path / "qa.json"), "data[].paragraphs[].context")) == ["하나", "둘", ""]


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        (b'{"id": 1, "body": "x"}', "text", "no field 'text'; there are: id, body; set field to one of them"),
        (b'{"text": 3}', "text", "the field holds a number, not text"),
        (b'{"text": [1]}', "text[]", "the field holds a number, not text"),
        (b'{"text": "a"}', "text[]", "the field path has [] where there is a text, not a list"),
        (b'[{"text": "a"}]', "text", "'text' cannot be looked up in a list; set field to a path like list[].text"),
        (
            b'{"text": "\xff"}',
            "text",
            "byte 11 of the record is not UTF-8; convert the file with iconv",
        ),
        (
            b'{"text": "a',
            "text",
            "is not JSON (Invalid control character at column 12); repair it",
        ),
        (
            b'{"text": "\\ud800"}',
            "text",
            "an escaped half of a surrogate pair is no character; repair it",
        ),
        (
            b"[" * 200_000,
            "text",
            "lists or objects are nested too deeply in it to be read; repair it",
        ),
        (
            b'{"a":' * 100_000,
            "text",
            "lists or objects are nested too deeply in it to be read; repair it",
        ),
        (
            b'{"text": "a", "n": ' + b"7" * 5000 + b"}",
            "text",
            "a number in it has more than 4,300 digits; shorten it, or put it in quotes",
        ),
    ],
)
def test_a_broken_record_is_told_with_its_place(tmp_path: Path, line: bytes, field: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n" + line + b"\n")
    with pytest.raises(BllossomError) as told:
        list(read_documents(str(path), field))
    assert str(told.value) == f"{path}:2: {message}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 200_000, "lists or objects are nested too deeply in it to be read"),
        ('{"a":' * 100_000, "lists or objects are nested too deeply in it to be read"),
        ('{"text": ' + "7" * 5000 + "}", "a number in it has more than 4,300 digits"),
    ],
)
def test_json_that_python_cannot_hold_is_a_broken_file(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    [record] = read_records(path)
    assert record.error.startswith(f"{why}; ")
    with pytest.raises(BllossomError) as told:
        list(read_rows(path))
    assert str(told.value) == f"{path}:1: cannot be read ({why}); repair it, or name another file"


def test_reading_goes_on_after_a_broken_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text"\n{"text": "c"}\n')
    assert [(record.texts, bool(record.error)) for record in read_records(path)] == [
        (("a",), False),
        ((), True),
        (("c",), False),
    ]


def test_parquet_lists_the_columns_there_are(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(BllossomError, match="no field 'text'; there are: id, body; set field to one of them"):
        list(read_documents(str(tmp_path / "a.parquet")))


def test_behind_a_damaged_row_group_reading_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"document {i} {i * i}" for i in range(900)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=300, use_dictionary=False)
    chunk = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0)
    damaged = bytearray(path.read_bytes())
    at = chunk.data_page_offset + chunk.total_compressed_size // 2
    damaged[at : at + 40] = b"\xff" * 40
    path.write_bytes(damaged)
    records = list(read_records(path))
    [broken] = [record for record in records if record.error]
    assert 301 <= broken.number <= 600
    assert "the row group is damaged from here on" in broken.error
    assert [text for record in records for text in record.texts] == texts[: broken.number - 1] + texts[600:]
    for skip in (1, 299, 300, 301, broken.number - 1, broken.number, 600, 601):
        assert list(read_records(path, skip=skip)) == [record for record in records if record.number > skip]
    with pytest.raises(BllossomError, match="cannot be read"):
        list(read_rows(path))


def test_what_is_not_there_or_of_no_known_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"")
    for source in (str(tmp_path), str(tmp_path / "no.jsonl"), str(tmp_path / "*.jsonl")):
        with pytest.raises(BllossomError, match="name a file, a folder, a glob or a hub data set"):
            locate(source)
    with pytest.raises(BllossomError, match="unknown format; rename it"):
        locate(str(tmp_path / "a.docx"))


def test_what_is_left_out_of_a_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "more").mkdir()
    for name in ("a.jsonl", ".git/HEAD"):
        (tmp_path / name).write_text(JSONL)
    assert locate(str(tmp_path)) == [tmp_path / "a.jsonl"]
    assert capsys.readouterr().err == ""
    for name in ("b.jsonl.xz", "C.JSONL", "more/d.tsv", "more/e.tsv"):
        (tmp_path / name).write_text(JSONL)
    assert locate(str(tmp_path)) == [tmp_path / "a.jsonl"]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path}: 4 file(s) left out: C.JSONL, b.jsonl.xz, more/d.tsv, …; what is text must end")
    assert locate(str(tmp_path), quiet=True) == [tmp_path / "a.jsonl"]
    assert capsys.readouterr().err == ""


def test_a_bad_field_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(BllossomError, match="is not a field path"):
        list(read_documents(str(tmp_path), "text[0]"))


def test_rows_of_every_format(tmp_path: Path) -> None:
    rows = [{"a": "x", "b": 1}, {"a": "y", "b": 2}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        assert list(read_rows(path)) == rows


@pytest.mark.parametrize("source", ["owner/name", "hf://datasets/owner/name/20231101.ko"])
def test_a_hub_data_set_that_cannot_be_had_is_named(source: str) -> None:
    with pytest.raises(BllossomError, match=f"{source}: not here and not from the hub .*; name a path, or go online"):
        locate(source)


def test_the_json_files_of_a_hub_data_set_are_read_but_not_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "datasets--me--two"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    files = folder / "snapshots" / ("0" * 40)
    (files / "ko").mkdir(parents=True)
    settings = ["dataset_infos.json", "ko/dataset_info.json", "ko/state.json", "dataset_dict.json"]
    for name in settings:
        (files / name).write_text("{}")
    with pytest.raises(BllossomError, match="no file of a known format in me/two; name a file"):
        locate("me/two")
    for name in ("a.json", "ko/b.json", "ko/c.jsonl"):
        (files / name).write_text(json.dumps({"text": name}))
    assert list(read_documents("me/two")) == ["a.json", "ko/b.json", "ko/c.jsonl"]
    assert list(read_documents("hf://datasets/me/two/ko")) == ["ko/b.json", "ko/c.jsonl"]
