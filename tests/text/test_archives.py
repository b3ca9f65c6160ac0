"""Archives: their files are read as if they lay in a folder."""

import bz2
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from bllossom.text.archives import members
from bllossom.text.rows import read_rows
from bllossom.text.sources import ReadOptions, line_of, place, read_documents, read_records


def jsonl(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()


def parquet(*texts: str) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": list(texts)}), buffer)
    return buffer.getvalue()


FILES = {
    "TL1/a.jsonl": jsonl("하나", "둘"),
    "TL1/._a.jsonl": b"\x00\x05\x16\x07",
    "__MACOSX/a.jsonl": b"\x00",
    "TL1/b.json": json.dumps({"text": "셋"}).encode(),
    "TL1/picture.png": b"\x89PNG",
    "TL2/c.JSONL.bz2": bz2.compress(jsonl("넷")),
    "TL2/d.parquet": parquet("다섯", "여섯"),
    "TL2/wiki_00": jsonl("일곱", "여덟"),
}
TEXTS = ["하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟"]


def pack(path: Path, files: dict[str, bytes] = FILES) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_where_a_file_in_an_archive_is_not_of_its_encoding_is_told(tmp_path: Path) -> None:
    # Recoded in parts: some records have come before what is broken is met.
    bad = jsonl("a" * 40_000, "b" * 40_000, "c", "d" * 80_000) + b'{"text": "\xff\xff"}\n'
    path = pack(tmp_path / "a.zip", {"a.jsonl": bad, "b.jsonl": jsonl("e")})
    records = list(read_records(path, ReadOptions(encoding="cp949")))
    assert [place(path, record) for record in records if record.errors] == [f"{path}/a.jsonl:4"]
    assert [record.number for record in records] == sorted({record.number for record in records})
    assert records[-1].texts == ("e",)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "A.TGZ", "a.tar.bz2", "a.tar.xz"])
def test_the_files_of_an_archive_are_read_in_their_order(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / name.lower()).rename(tmp_path / name)
    assert list(read_documents(str(path))) == TEXTS
    assert list(read_documents(str(tmp_path))) == TEXTS
    assert [row["text"] for row in read_rows(path)] == TEXTS
    records = list(read_records(path))
    assert [record.note for record in records if record.note] == [
        "1 file(s) in it are not read, as they are hidden, links or of no known format: TL1/picture.png"
    ]
    read = [record for record in records if record.texts]
    assert [place(path, record) for record in read][1] == f"{path}/TL1/a.jsonl:2"
    assert [line_of(record.number) for record in read] == [1, 2, 1, 1, 1, 2, 1, 2]
    for at, record in enumerate(read):
        rest = [text for later in read_records(path, skip=record.number) for text in later.texts]
        assert rest == TEXTS[at + 1 :]


def test_what_is_not_read_of_an_archive_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = pack(tmp_path / "a.tar", {"../up.jsonl": jsonl("a"), ".hidden.jsonl": jsonl("b"), ".DS_Store": b"x"})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("link.jsonl")
        link.type, link.linkname = tarfile.LNKTYPE, "../up.jsonl"
        archive.addfile(link)
    told = "2 file(s) in it are not read, as they are hidden, links or of no known format: .hidden.jsonl, link.jsonl"
    assert list(read_documents(str(path))) == ["a"], "that a name leads upwards does not make it hidden"
    assert told in capsys.readouterr().err
    assert [row["text"] for row in read_rows(path)] == ["a"]
    assert told in capsys.readouterr().err


def test_a_broken_file_of_an_archive_is_told_and_reading_goes_on(tmp_path: Path) -> None:
    files = {"a.jsonl": jsonl("a") + b"{\n" + jsonl("b"), "b.parquet": b"x", "c.jsonl": jsonl("c")}
    path = pack(tmp_path / "a.zip", files)
    records = list(read_records(path))
    assert [text for record in records for text in record.texts] == ["a", "b", "c"]
    assert [place(path, record) for record in records if record.errors] == [f"{path}/a.jsonl:2", f"{path}/b.parquet:1"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_cut_archive_is_damaged(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-200])
    assert "the archive is damaged or cut short from here on" in list(read_records(path))[-1].errors[0]


def test_an_encrypted_archive_is_told(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"a.jsonl": jsonl("a")})
    data = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # APPNOTE.TXT 4.3: bit 0 of the general flags
        data[data.index(header) + flags] |= 1
    path.write_bytes(data)
    [record] = read_records(path)
    assert record.errors == ("the archive is encrypted; unpack it",)


def test_xz_and_bz2_are_read_and_their_damage_is_noticed(tmp_path: Path) -> None:
    for name, data in (
        ("a.jsonl.xz", lzma.compress(jsonl(*TEXTS) * 99)),
        ("b.jsonl.bz2", bz2.compress(jsonl(*TEXTS) * 99)),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        assert list(read_documents(str(path))) == TEXTS * 99
        path.write_bytes(data[: len(data) // 2])
        assert "the compressed file is damaged or cut short" in list(read_records(path))[-1].errors[0]
        path.write_bytes(data[:30] + b"\xff" * 30 + data[60:])
        assert "the compressed file is damaged or cut short" in list(read_records(path))[-1].errors[0]


def test_a_format_of_the_source_is_that_of_all_files(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"x.dat": jsonl("a"), "y.log": jsonl("b")})
    assert list(read_documents(str(path), ReadOptions(format="jsonl"))) == ["a", "b"]


def zip_named(path: Path, *names: bytes) -> Path:
    """A zip whose names are these bytes, of no named code page: as Korean Windows, and AI Hub, packs them."""
    pack(path, {f"{number:0{len(name) - 6}d}.jsonl": jsonl(str(number)) for number, name in enumerate(names)})
    raw = path.read_bytes()
    for number, name in enumerate(names):
        raw = raw.replace(f"{number:0{len(name) - 6}d}.jsonl".encode(), name)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("raw", "encoding", "shown"),
    [
        ("라벨링데이터/법률_1.jsonl".encode("cp949"), "utf-8", "라벨링데이터/법률_1.jsonl"),
        ("라벨링데이터/법률_1.jsonl".encode("cp949"), "cp949", "라벨링데이터/법률_1.jsonl"),
        ("라벨링데이터/법률_1.jsonl".encode(), "utf-8", "라벨링데이터/법률_1.jsonl"),
        ("日本語データ.jsonl".encode("cp932"), "cp932", "日本語データ.jsonl"),
        ("résumé_1.jsonl".encode("cp437"), "utf-8", "résumé_1.jsonl"),
        ("라벨링데이터.jsonl".encode("cp949"), "utf-16", "라벨링데이터.jsonl"),
    ],
)
def test_names_of_no_named_code_page_are_read_as_what_they_are(
    tmp_path: Path, raw: bytes, encoding: str, shown: str
) -> None:
    path = zip_named(tmp_path / "a.zip", raw)
    assert [member.name for member in members("a.zip", path.open("rb"), None, encoding)] == [shown]
    if encoding != "utf-16":  # which the text is not in
        (record,) = read_records(path, ReadOptions(encoding=encoding))
        assert (record.texts, place(path, record)) == (("0",), f"{path}/{shown}:1")


def test_a_tar_of_names_in_cp949(tmp_path: Path) -> None:
    info = tarfile.TarInfo("법률.jsonl")
    info.size = len(jsonl("가"))
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="cp949") as archive:
        archive.addfile(info, io.BytesIO(jsonl("가")))
    (record,) = read_records(tmp_path / "a.tar")
    assert (record.texts, record.member) == (("가",), "법률.jsonl")
