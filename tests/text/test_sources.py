import bz2
import gzip
import json
import lzma
import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from bllossom.errors import BllossomError
from bllossom.text.rows import read_rows
from bllossom.text.sources import ReadOptions, read_documents, read_records

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


@pytest.mark.parametrize("packed", [".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize("kind", [".parquet", ".stream.arrow", ".file.arrow"])
def test_packed_tables_are_read_from_any_row_on(tmp_path: Path, kind: str, packed: str) -> None:
    table, plain = pyarrow.table({"text": [f"document {i}" for i in range(700)]}), tmp_path / f"a{kind}"
    if kind == ".parquet":
        pyarrow.parquet.write_table(table, plain, row_group_size=300)
    else:
        make = pyarrow.ipc.new_stream if kind == ".stream.arrow" else pyarrow.ipc.new_file
        with make(plain, table.schema) as writer:
            writer.write_table(table, max_chunksize=300)
    pack = {".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[packed]
    path = tmp_path / f"a{kind}{packed}"
    path.write_bytes(pack(plain.read_bytes()))
    for skip in (0, 299, 300, 699):
        assert list(read_records(path, skip=skip)) == list(read_records(plain, skip=skip))
    assert list(read_rows(path)) == table.to_pylist()


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
    assert list(read_documents(str(path), ReadOptions(split="file"))) == ["첫 줄\r\n둘째 줄\r\n\r\n \t\nthird"]


def test_nested_json_is_reached_by_a_field_path(tmp_path: Path) -> None:
    news = {"documents": [{"text": [[{"sentence": "가"}, {"sentence": "나"}], [{"sentence": "다"}]]}, {"text": []}]}
    (tmp_path / "news.json").write_text(json.dumps(news), encoding="utf8")
    assert list(
        read_documents(str(tmp_path / "news.json"), ReadOptions(fields=("documents[].text[+][+].sentence",)))
    ) == ["가\n나\n다", ""]
    qa = {"data": [{"paragraphs": [{"context": "하나"}, {"context": "둘"}]}, {"paragraphs": [{"context": None}]}]}
    (tmp_path / "qa.json").write_text(json.dumps(qa), encoding="utf8")
    assert list(read_documents(str(tmp_path / "qa.json"), ReadOptions(fields=("data[].paragraphs[].context",)))) == [
        "하나",
        "둘",
        "",
    ]


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        (b'{"id": 1, "body": "x"}', "text", "no field 'text'; there are: id, body; set field to one of them"),
        (b'{"text": 3}', "text", "the field holds a number, not text"),
        (b'{"text": [1]}', "text[]", "the field holds a number, not text"),
        (b'{"text": "a"}', "text[]", "the field path has [] where there is a text, not a list"),
        (b'[{"text": "a"}]', "text", "'text' cannot be looked up in a list; set field to [].text"),
        (b'[{"text": "a"}]', "list[].text", "'list' cannot be looked up in a list; set field to [].text"),
        (b'[{"a": {"text": "a"}}]', "list.a.text", "'list' cannot be looked up in a list; set field to [].a.text"),
        (
            b'[{"body": "a"}]',
            "text",
            "'text' cannot be looked up in a list; its elements have: body; set field to [], and behind it where the "
            "text is",
        ),
        (
            b'{"text": "\xff"}',
            "text",
            "byte 11 of the record is not UTF-8; convert the file with iconv, or give prepare its encoding",
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
        list(read_documents(str(path), ReadOptions(fields=(field,))))
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
    assert record.errors[0].startswith(f"{why}; ")
    with pytest.raises(BllossomError) as told:
        list(read_rows(path))
    assert str(told.value) == f"{path}:1: cannot be read ({why}); repair it, or name another file"


def test_reading_goes_on_after_a_broken_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text"\n{"text": "c"}\n')
    assert [(record.texts, bool(record.errors)) for record in read_records(path)] == [
        (("a",), False),
        ((), True),
        (("c",), False),
    ]


ROWS = [{"text": text} for text in "abcd"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", json.dumps(ROWS[:2]) + json.dumps(ROWS[2:])),
        ("a.json", json.dumps(ROWS[:2], indent=1) + "\n" + json.dumps(ROWS[2:], indent=1) + "\n"),
        ("a.jsonl", json.dumps(ROWS[:2]) + json.dumps(ROWS[2:])),
        ("a.jsonl", json.dumps(ROWS[:2], indent=1) + "\n" + json.dumps(ROWS[2:], indent=1) + "\n"),
        ("a.json", "".join(map(json.dumps, ROWS))),
    ],
)
def test_joined_json_is_read_to_the_end_and_from_any_record_on(tmp_path: Path, name: str, data: str) -> None:
    path = tmp_path / name
    path.write_text(data)
    records = list(read_records(path))
    assert [(record.texts, record.errors) for record in records] == [((text,), ()) for text in "abcd"]
    for at, record in enumerate(records, 1):
        assert list(read_records(path, skip=record.number)) == records[at:]


def test_a_list_that_was_cut_or_has_rubbish_behind_it_is_no_whole_file(tmp_path: Path) -> None:
    for name, data, numbers in [
        ("a.json", json.dumps(ROWS[:2]) + " rubbish", [1, 2, 3]),
        ("a.jsonl", '[\n{"text": "a"},\n{"text": "b"},\n', [2, 3, 4]),
        ("a.jsonl", '[\n{"text": "a"},\n{"text": "b"}\n]\nrubbish\n', [2, 3, 5]),
    ]:
        (tmp_path / name).write_text(data)
        records = list(read_records(tmp_path / name))
        assert [record.texts for record in records] == [("a",), ("b",), ()]
        assert [bool(record.errors) for record in records] == [False, False, True]
        assert [record.number for record in records] == numbers


@pytest.mark.parametrize(("name", "tab"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_row_of_another_length_leaves_the_others(tmp_path: Path, name: str, tab: str) -> None:
    path = tmp_path / name
    path.write_text("\n".join(f"{tab}".join(row) for row in (["id", "text"], ["1", "a"], ["2"], ["3", "c"])))
    records = list(read_records(path))
    assert [(record.number, record.texts) for record in records] == [(2, ("a",)), (3, ()), (4, ("c",))]
    assert records[1].errors == ("has 1 columns where the first line names 2; repair the row",)
    for skip in range(5):
        assert list(read_records(path, skip=skip)) == [record for record in records if record.number > skip]
    with pytest.raises(BllossomError, match=rf"{name}:3: cannot be read \(has 1 columns"):
        list(read_rows(path))


def test_parquet_lists_the_columns_there_are(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(BllossomError, match="no field 'text'; there are: id, body; set field to one of them"):
        list(read_documents(str(tmp_path / "a.parquet")))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(("field", "texts"), [("{}", ["x", "b"]), ("{+}", ["x\nb"])])
def test_a_path_may_begin_with_all_columns(tmp_path: Path, field: str, texts: list[str], missing: bool) -> None:
    rows = [{"title": "x", "body": "b"}]
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        records = read_records(tmp_path / name, ReadOptions(fields=(field,), skip_missing=missing))
        assert [text for record in records for text in record.texts] == texts


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
    [broken] = [record for record in records if record.errors]
    assert 301 <= broken.number <= 600
    assert "the row group is damaged from here on" in broken.errors[0]
    assert [text for record in records for text in record.texts] == texts[: broken.number - 1] + texts[600:]
    for skip in (1, 299, 300, 301, broken.number - 1, broken.number, 600, 601):
        assert list(read_records(path, skip=skip)) == [record for record in records if record.number > skip]
    with pytest.raises(BllossomError, match="cannot be read"):
        list(read_rows(path))


def test_a_bad_field_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(BllossomError, match="is not a field path"):
        list(read_documents(str(tmp_path), ReadOptions(fields=("text[0]",))))


def test_rows_of_every_format(tmp_path: Path) -> None:
    rows = [{"a": "x", "b": 1}, {"a": "y", "b": 2}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        assert list(read_rows(path)) == rows


@pytest.mark.parametrize("encoding", ["cp949", "utf-16", "utf-8-sig", "euc-kr"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz"])
def test_another_encoding_is_read(tmp_path: Path, encoding: str, name: str) -> None:
    texts = ["나무 바다", "하늘 사람"]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    table = "text\n나무 바다\n하늘 사람\n"
    content = {"a.csv": table, "a.tsv": table, "a.txt": "나무 바다\n\n하늘 사람\n"}.get(name, lines).encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    options = ReadOptions(encoding=encoding)
    assert list(read_documents(str(path), options)) == texts
    if encoding != "utf-8-sig":
        with pytest.raises(BllossomError, match=r"encoding|iconv"):
            list(read_documents(str(path), ReadOptions(encoding="utf-16" if encoding == "cp949" else "utf-8")))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt"])
def test_where_an_encoding_ends_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    line = '{"text": "나무"}\n' if name == "a.jsonl" else "text\n\n"
    path.write_bytes(line.encode("cp949") * 3 + b'{"text": "\xff\xff"}\n')
    *_, last = read_records(path, ReadOptions(encoding="cp949"))
    assert last.errors == ("is not cp949 from here on; set encoding to what the file is in",)


def test_marks_of_utf8_in_the_middle_are_of_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"text": "a"}\n\ufeff{"text": "b"}\n\ufeff\n'.encode())
    assert list(read_documents(str(path))) == ["a", "b"]


def test_json_lines_in_a_json_file_and_a_list_in_a_jsonl_file(tmp_path: Path) -> None:
    rows = [{"text": text} for text in TEXTS]
    (tmp_path / "a.json").write_text("\n" + JSONL, encoding="utf8")
    (tmp_path / "b.json").write_text("".join(json.dumps(row, indent=1) for row in rows), encoding="utf8")
    (tmp_path / "c.jsonl").write_text(json.dumps(rows, indent=1), encoding="utf8")
    (tmp_path / "d.jsonl").write_text("[" + ",\n".join(map(json.dumps, rows)) + "]", encoding="utf8")
    for path in sorted(tmp_path.iterdir()):
        records = list(read_records(path))
        assert [text for record in records for text in record.texts] == TEXTS, path
        numbers = [record.number for record in records]
        assert numbers == sorted(set(numbers))
        for at, number in enumerate(numbers):
            assert [text for record in read_records(path, skip=number) for text in record.texts] == TEXTS[at + 1 :]
    assert [record.number for record in read_records(tmp_path / "a.json")] == [2, 3, 4, 5]


def test_a_list_in_one_line_of_a_jsonl_file_is_reached_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('[{"text": "a"}, {"text": "b"}]\n[{"text": "c"}]\n')
    assert list(read_documents(str(tmp_path / "a.jsonl"), ReadOptions(fields=("[].text",)))) == ["a", "b", "c"]


def test_a_tsv_file_has_columns_and_no_quotes(tmp_path: Path) -> None:
    path = tmp_path / "ratings.tsv"
    path.write_text('id\tdocument\tlabel\n1\t"아 더빙\t0\n2\t\t1\n3\t재미"있다"\t1\n', encoding="utf8")
    assert list(read_documents(str(path), ReadOptions(fields=("document",)))) == ['"아 더빙', "", '재미"있다"']


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_files_are_read_row_by_row(tmp_path: Path, stream: bool) -> None:
    table = pyarrow.table({"text": [f"document {i}" for i in range(700)], "id": list(range(700))})
    path = tmp_path / "data-00000-of-00001.arrow"
    make = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with make(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)
    for skip in (0, 1, 299, 300, 600, 700):
        records = list(read_records(path, skip=skip))
        assert [text for record in records for text in record.texts] == table["text"].to_pylist()[skip:]
        assert [record.ids for record in records][:1] == [(str(skip),)][: 700 - skip]
    path.write_bytes(path.read_bytes()[:-900])
    assert "is not Arrow that can be read" in list(read_records(path))[-1].errors[0]


def test_a_data_set_that_was_saved_to_disk_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"text": TEXTS}).save_to_disk(tmp_path / "saved")
    assert list(read_documents(str(tmp_path / "saved"))) == TEXTS
    assert "2 file(s) with settings of a data set left out" in capsys.readouterr().err


def test_a_line_of_plain_text_may_be_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\r\n \nzwei 나무\nthree".encode())
    assert list(read_documents(str(path), ReadOptions(split="line"))) == ["one", "zwei 나무", "three"]
    assert [record.texts for record in read_records(path, ReadOptions(split="line"), skip=1)] == [
        ("zwei 나무",),
        ("three",),
    ]


@pytest.mark.parametrize("split", ["blank-line", "line", "file"])
def test_a_document_that_is_too_long_is_refused_without_being_held(tmp_path: Path, split: str) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.writelines(b"x" * 99 + b"\n" for _ in range(20_000))
        file.write(b"y" * 3_000_000)
    options = ReadOptions(split=split, max_document_bytes=100_000)  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        errors = [error for record in read_records(path, options) for error in record.errors]
        assert tracemalloc.get_traced_memory()[1] < 1_500_000
    finally:
        tracemalloc.stop()
    [error] = errors
    assert error.startswith("is one document of more than 100,000 bytes; set split: line")
    assert "raise max_document_bytes" in error


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv"])
def test_a_document_of_any_format_may_be_too_long(tmp_path: Path, name: str) -> None:
    texts = ["short", "나" * 400, "다" * 300]
    table = pyarrow.table({"text": texts})
    path = tmp_path / name
    if name == "a.parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        path.write_text(lines if name == "a.jsonl" else "\n".join(["text", *texts]), encoding="utf8")
    records = list(read_records(path, ReadOptions(max_document_bytes=1000)))
    assert [(record.texts, len(record.errors)) for record in records] == [
        (("short",), 0),
        ((), 1),
        (("다" * 300,), 0),
    ]


def test_missing_columns_are_counted_where_that_is_asked_for(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a", "b"]}), tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None]}), tmp_path / "b.parquet")
    options = ReadOptions(skip_missing=True)
    assert [(r.texts, r.missing) for r in read_records(tmp_path / "a.parquet", options)] == [((), 1), ((), 1)]
    assert [(r.texts, r.missing) for r in read_records(tmp_path / "b.parquet", options)] == [(("a",), 0), ((), 1)]


def test_long_windows_of_zstd_are_read(tmp_path: Path) -> None:
    # Without the size in its header: with it, the window is cut down to that.
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True, write_content_size=False)
    path = tmp_path / "a.jsonl.zst"
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path.write_bytes(packer.compress(JSONL.encode()) + packer.flush())
    assert zstandard.get_frame_parameters(path.read_bytes()).window_size == 1 << 28
    assert list(read_documents(str(path))) == TEXTS
