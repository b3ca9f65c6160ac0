"""What a source's config says of its files, through to what becomes of their documents."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bllossom.artifacts import verify
from bllossom.corpus.planning import estimate
from bllossom.corpus.prepare import dry_run, prepare
from bllossom.corpus.readings import SourceConfig
from bllossom.errors import BllossomError, ConfigError


def dropped(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "dropped.jsonl").read_text(encoding="utf8").splitlines()]


def test_several_paths_and_fields_are_one_source(make: Any, tmp_path: Path, write_jsonl: Any) -> None:
    (tmp_path / "b.jsonl").write_text('{"title": "제목", "text": "글"}\n{"title": "또", "text": "하나"}\n')
    (tmp_path / "a.json").write_text('{"title": "셋", "text": "째"}')
    paths = [str(tmp_path / name) for name in ("b.jsonl", "a.json", "b.jsonl")]
    config = make(sources={"ko": [{"path": paths, "field": ["title", "text"]}]}, holdout=0)
    figures = prepare(config).figures["sources"]["ko/b"]
    assert figures["read"] == {"documents": 3, "bytes": len("제목\n글또\n하나셋\n째".encode())}


def test_skipped_records_are_told_and_the_documents_beside_them_kept(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entities = [{"content": [{"sentence": f"문장 {i}"}, {"sentence": "끝"}]} for i in range(20)]
    entities[7]["content"][1]["sentence"] = 3  # type: ignore[assignment]
    (tmp_path / "news.json").write_text(json.dumps({"named_entity": entities}))
    source = {"path": str(tmp_path / "news.json"), "field": "named_entity[].content[+].sentence"}
    with pytest.raises(BllossomError, match=r"news\.json:1: the field holds a number, not text, or set on_error: skip"):
        prepare(make(sources={"ko": [source]}))
    config = make(sources={"ko": [source]}, on_error="skip", holdout=0)
    figures = prepare(config).figures["sources"]["ko/news"]
    assert (figures["documents"], figures["broken_records"]) == (19, 1)
    said = capsys.readouterr().err
    assert "ko/news: 1 broken record(s) skipped, the first news.json:1: the field holds a number, not text;" in said
    assert [row["reason"] for row in dropped(config.output)] == ["broken"]


def test_what_is_missing_is_no_error_where_that_is_said(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "나무"}\n{"text": null}\n{"id": 3}\n{"text": 4}\n{"text": "바다"}\n')
    sources = {"ko": [str(path)]}
    config = make(sources=sources, missing="skip", on_error="skip", holdout=0)
    figures = prepare(config).figures["sources"]["ko/a"]
    assert (figures["documents"], figures["broken_records"], figures["read"]["documents"]) == (2, 1, 4)
    assert figures["dropped"] == {"missing": {"documents": 2, "bytes": 0}}
    assert "ko/a: 2 document(s) without the field, or with null there, left out" in capsys.readouterr().err
    with pytest.raises(BllossomError, match="no field 'text'"):
        prepare(make(sources=sources, output=tmp_path / "other"))
    path.write_text('{"id": 3}\n')
    with pytest.raises(BllossomError, match="ko/a holds no text; leave the source out"):
        prepare(make(sources=sources, missing="skip", output=tmp_path / "none"))


def test_names_that_are_no_utf8_are_read_told_and_published(make: Any, tmp_path: Path, write_jsonl: Any) -> None:
    folder = tmp_path / os.fsdecode("원천".encode("cp949"))
    folder.mkdir()
    name = os.fsdecode("라벨".encode("cp949") + b".jsonl")
    write_jsonl(folder / name, ["나무", "나무", "바다"])
    config = make(sources={"ko": [str(tmp_path / "*/*.jsonl")]}, holdout=0)
    manifest = prepare(config)
    assert [row["file"] for row in dropped(config.output)] == [r"\xb6\xf3\xba\xa7.jsonl"]
    assert any(r"\xb6\xf3\xba\xa7.jsonl" in name for name in manifest.inputs)
    assert verify(config.output) == []


def test_a_split_of_a_data_set_is_one_of_its_own(make: Any, tmp_path: Path, write_jsonl: Any) -> None:
    (tmp_path / "set").mkdir()
    for split, text in (("train", "나무"), ("validation", "바다")):
        write_jsonl(tmp_path / "set" / f"{split}.jsonl", [text, f"{text} 하나"])
    source = {"path": str(tmp_path / "set"), "split": "validation"}
    figures = prepare(make(sources={"ko": [source]}, holdout=0)).figures["sources"]["ko/set"]
    assert figures["read"]["bytes"] == len("바다바다 하나".encode())
    with pytest.raises(ConfigError, match=r"sources\.ko: .* has no split 'lines'; set split to one it has"):
        dry_run(make(sources={"ko": [source | {"split": "lines"}]}))


def test_plain_text_that_is_a_table_is_refused(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "ratings.txt"
    rows = "".join(f"{number}\t나무 {number}\t{number % 2}\n" for number in range(60))
    path.write_text(f"id\tdocument\tlabel\n{rows}", encoding="utf8")
    with pytest.raises(ConfigError, match="looks like a table, its columns are id, document, label; set format: tsv"):
        prepare(make(sources={"ko": [str(path)]}))
    source = {"path": str(path), "format": "tsv", "field": "document"}
    assert prepare(make(sources={"ko": [source]}, holdout=0)).figures["documents"] == rows.count("\n")
    as_text = make(sources={"ko": [{"path": str(path), "format": "text"}]}, holdout=0, output=tmp_path / "text")
    assert prepare(as_text).figures["documents"] == 1
    path.write_text("one\ttab\n\nno tab\n\nand\tone\n", encoding="utf8")
    prepare(make(sources={"ko": [str(path)]}, holdout=0, output=tmp_path / "prose"))


def test_a_large_text_that_is_one_document_is_told(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "LARGE_BYTES", 1000)
    (tmp_path / "a.txt").write_text("나무 바다\n" * 200, encoding="utf8")
    prepare(make(sources={"ko": [str(tmp_path / "a.txt")]}, holdout=0))
    said = capsys.readouterr().err
    assert "of plain text without a blank line are one document; set split: line where each line is one" in said
    lines = make(sources={"ko": [{"path": str(tmp_path / "a.txt"), "split": "line"}]}, holdout=0, deduplicate=False)
    assert prepare(lines.model_copy(update={"output": tmp_path / "lines"})).figures["documents"] == 200
    assert "one document" not in capsys.readouterr().err
    with pytest.raises(BllossomError, match=r"a\.txt:1: is one document of more than 1,000 bytes; set split: line"):
        prepare(make(sources={"ko": [str(tmp_path / "a.txt")]}, max_document_bytes=1000, output=tmp_path / "refused"))


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValidationError, match="no encoding 'hex'; name one as utf-8"):  # which gives no text
        SourceConfig(path="a", encoding="hex")
    with pytest.raises(ValidationError, match="no encoding 'hangeul'; name one as utf-8, cp949, euc-kr or utf-16"):
        SourceConfig(path="a.jsonl", encoding="hangeul")


@pytest.mark.parametrize("change", ["grown", "replaced", "removed"])
def test_a_file_that_changes_while_it_is_read_is_not_published(
    make: Any, corpus: dict[str, Path], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bllossom.corpus import prepare as stage

    path = corpus["wiki"]
    whole = path.read_bytes()
    choose = stage.run_local

    def meanwhile(*arguments: Any) -> Any:
        if change == "removed":
            path.unlink()
        else:
            path.write_bytes(whole + b'{"text": "more"}\n' if change == "grown" else whole)
            os.utime(path, ns=(1, 1))
        return choose(*arguments)

    monkeypatch.setattr(stage, "run_local", meanwhile)
    config = make()
    with pytest.raises(BllossomError, match=r"wiki\.jsonl was changed or removed while it was read; let whatever"):
        prepare(config)
    assert not config.output.exists()
    monkeypatch.setattr(stage, "run_local", choose)
    path.write_bytes(whole)
    assert prepare(config).figures["sources"]["ko/wiki"]["read"]["documents"] == whole.count(b"\n")
