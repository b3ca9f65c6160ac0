"""Which files a source names: folders, globs and hub data sets, all by one rule."""

import gzip
import json
import os
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import filter_repo_objects

from bllossom.errors import BllossomError
from bllossom.text.locate import locate, splits_of
from bllossom.text.sources import read_documents

LINE = '{"text": "a"}\n'


def put(folder: Path, *names: str) -> list[Path]:
    """Write a file of one document for each name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(LINE)
    return [folder / name for name in names]


def test_what_is_not_there_or_of_no_known_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"")
    for source in (str(tmp_path), str(tmp_path / "no.jsonl"), str(tmp_path / "*.jsonl")):
        with pytest.raises(BllossomError, match="name a file, a folder, a glob or a hub data set"):
            locate(source)
    with pytest.raises(BllossomError, match=r"unknown format; rename it .* or give prepare its format"):
        locate(str(tmp_path / "a.docx"))
    assert locate(str(tmp_path / "a.docx"), kind="text") == [tmp_path / "a.docx"]


@pytest.mark.parametrize("pattern", ["", "/**", "/**/*"])
def test_what_is_left_out_is_said(tmp_path: Path, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, ".git/HEAD", "a.jsonl")
    source = f"{tmp_path}{pattern}"
    assert locate(source) == [tmp_path / "a.jsonl"]
    assert capsys.readouterr().err == ""
    put(tmp_path, "b.docx", "C.PDF", "more/d.html", "more/e.html")
    assert locate(source) == [tmp_path / "a.jsonl"]
    [line] = capsys.readouterr().err.splitlines()
    assert "4 file(s) left out: " in line
    assert "what is text must end in one of .jsonl" in line
    assert locate(source, quiet=True) == [tmp_path / "a.jsonl"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("pattern", ["", "/**", "/**/*.jsonl"])
def test_links_are_followed_once_and_those_that_lead_nowhere_are_said(
    tmp_path: Path, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, disk = tmp_path / "data", tmp_path / "disk"
    put(data, "z.jsonl")
    put(disk, "b.jsonl", "c.jsonl")
    (data / "disk").symlink_to(disk)
    (data / "again").symlink_to(disk)
    (data / "itself").symlink_to(data)
    (data / "a.jsonl").symlink_to(data / "z.jsonl")
    (data / "gone.jsonl").symlink_to(tmp_path / "not mounted")
    found = locate(f"{data}{pattern}")
    assert [path.resolve() for path in found] == [disk / "b.jsonl", disk / "c.jsonl", data / "z.jsonl"]
    assert "1 link(s) lead nowhere: " in capsys.readouterr().err


@pytest.mark.parametrize("pattern", ["", "/**/*.jsonl"])
def test_hidden_files_are_not_read_and_said(tmp_path: Path, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a.jsonl", "._a.jsonl", ".ipynb_checkpoints/a-checkpoint.jsonl")
    assert locate(f"{tmp_path}{pattern}") == [tmp_path / "a.jsonl"]
    said = capsys.readouterr().err
    assert "hidden file(s) not read: " in said
    assert "._a.jsonl" in said
    assert locate(str(tmp_path / ".ipynb_checkpoints" / "*.jsonl")) == [
        tmp_path / ".ipynb_checkpoints/a-checkpoint.jsonl"
    ]


@pytest.mark.parametrize("pattern", ["", "/**/*.jsonl"])
def test_folders_without_permission_are_said(
    tmp_path: Path, pattern: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.jsonl", "closed/b.jsonl")
    real = Path.iterdir

    def refused(folder: Path):  # type: ignore[no-untyped-def]  # whoever runs the tests may be root, who may read all
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", refused)
    assert locate(f"{tmp_path}{pattern}") == [tmp_path / "a.jsonl"]
    assert "1 folder(s) may not be read: " in capsys.readouterr().err


def test_a_folder_that_a_glob_names_is_said_and_not_searched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a.jsonl", "more/b.jsonl")
    assert locate(str(tmp_path / "*")) == [tmp_path / "a.jsonl"]
    assert "1 folder(s) not searched: " in capsys.readouterr().err
    assert locate(str(tmp_path / "**")) == [tmp_path / "a.jsonl", tmp_path / "more/b.jsonl"]


def test_files_without_ending_are_told_by_how_they_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "AA").mkdir()
    (tmp_path / "AA/wiki_00").write_text('{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n')
    (tmp_path / "AA/wiki_01.gz").write_bytes(gzip.compress(b'{"text": "c"}\n'))
    (tmp_path / "LICENSE").write_text("You may read this.")
    assert list(read_documents(str(tmp_path))) == ["a", "b", "c"]
    assert "1 file(s) left out: LICENSE;" in capsys.readouterr().err


def test_the_settings_of_a_data_set_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "dataset_infos.json", "data/a.jsonl", "data/state.json", "people_info.json")
    assert locate(str(tmp_path)) == [tmp_path / "data/a.jsonl", tmp_path / "people_info.json"]
    assert "2 file(s) with settings of a data set left out: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("data/validation.jsonl", "validation"),
        ("ko_dev.json", "validation"),
        ("test/a.jsonl", "test"),
        ("train/test-case.txt", "test"),
        ("contest.jsonl", ""),
        ("valence.jsonl", ""),
    ],
)
def test_splits_are_told_by_names(name: str, split: str) -> None:
    assert splits_of(Path(name)) == split


def test_a_folder_of_several_splits_is_read_whole_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = put(tmp_path, "train.jsonl", "test.jsonl")
    assert locate(str(tmp_path)) == [test, train]
    assert "1 file(s) are by their names for validation or tests, and read too: test.jsonl" in capsys.readouterr().err
    assert locate(str(tmp_path), split="train") == [train]
    assert "1 of others left out: test.jsonl" in capsys.readouterr().err
    with pytest.raises(BllossomError, match="has no split 'validation'; set split to one it has: test, train"):
        locate(str(tmp_path), split="validation")


@pytest.mark.parametrize(
    ("name", "split", "told"),
    [
        ("a.txt", "lines", r" \(names .* tell of none\); leave split out, or set it to blank-line, line or file, .*"),
        ("a.jsonl", "train", r" \(names .* tell of none\); leave split out"),
        ("dev.jsonl", "train", "; set split to one it has: validation, or leave split out"),
    ],
)
def test_a_file_that_is_of_no_such_split_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, split: str, told: str
) -> None:
    folder = tmp_path_factory.mktemp("one")  # a test's own folder is called test_…, which names a split
    [path] = put(folder, name)
    with pytest.raises(BllossomError, match=f"has no split '{split}'{told}$"):
        locate(str(path), split=split)
    with pytest.raises(BllossomError, match="no such file: "):
        locate(str(folder / "other.jsonl"), split=split)
    assert locate(str(path)) == [path]
    assert locate(str(path.rename(folder / f"train-{name}")), split="train") == [folder / f"train-{name}"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a hub data set me/two in a cache of its own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "datasets--me--two"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    files = folder / "snapshots" / ("0" * 40)
    files.mkdir(parents=True)
    return files


def test_of_a_hub_data_set_one_split_is_read(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = put(hub, "data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl")
    assert locate("me/two") == [train]
    said = capsys.readouterr().err
    assert "read are 1 file(s) of one split, data/train-00000-of-00001.jsonl; 1 of others left out: data/test-" in said
    assert "test-00000-of-00001.jsonl; split names another" in said
    assert locate("me/two", split="test") == [test]
    train.unlink()
    assert locate("me/two") == [test]  # all there is
    put(hub, "data/dev-00000-of-00001.jsonl")
    with pytest.raises(BllossomError, match=r"two has no split 'train'; set split to one it has: test, validation$"):
        locate("me/two")


@pytest.mark.parametrize("name", ["typo", "data/a.jsonl"])
def test_a_folder_that_a_hub_data_set_does_not_have_is_named(hub: Path, name: str) -> None:
    [path] = put(hub, "data/a.jsonl")
    assert locate("hf://datasets/me/two/data") == [path]
    with pytest.raises(BllossomError, match=f"two/{name}: the data set has no folder {name} with files of a known"):
        locate(f"hf://datasets/me/two/{name}")


def test_of_a_hub_data_set_names_in_upper_case_are_fetched_too(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["A.JSONL", "b.Txt.GZ", "c.parquet", "D.TAR.GZ", "README.md", "other/e.csv"]
    fetched: list[str] = []

    def snapshot(*_: str, allow_patterns: list[str], **__: str) -> str:
        fetched[:] = filter_repo_objects(names, allow_patterns=allow_patterns)
        return str(hub)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    put(hub, "A.JSONL")
    assert locate("me/two") == [hub / "A.JSONL"]
    assert fetched == [*names[:4], "other/e.csv"]


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


@pytest.mark.parametrize("pattern", ["", "/**", "/**/*.jsonl"])
def test_results_below_a_searched_folder_are_not_read_and_said(
    tmp_path: Path, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = '{"stage": "prepare", "config": {}, "inputs": {}}'
    data = tmp_path / "data"
    put(data, "a.jsonl", "tokens/heldout/ko.jsonl", "tokens.partial-0/dropped.jsonl", "other/c.jsonl")
    (data / "tokens/manifest.json").write_text(origin)
    (data / "tokens.partial-0/unfinished.json").write_text(origin)
    (data / "other/manifest.json").write_text('{"name": "somebody else\'s"}')
    found = locate(f"{data}{pattern}", kind="jsonl" if pattern.endswith("jsonl") else None)
    assert data / "a.jsonl" in found
    assert data / "other/c.jsonl" in found
    assert not [path for path in found if "tokens" in str(path)]
    assert "2 folder(s) of results not read: " in capsys.readouterr().err
    assert locate(str(data / "tokens/heldout")) == [data / "tokens/heldout/ko.jsonl"]


def test_pipes_are_said_and_one_that_is_named_itself_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a.jsonl")
    os.mkfifo(tmp_path / "b.jsonl")
    for source in (str(tmp_path), f"{tmp_path}/*"):
        assert locate(source) == [tmp_path / "a.jsonl"]
        assert "1 pipe(s), socket(s) or device(s) not read: " in capsys.readouterr().err
    with pytest.raises(BllossomError, match=r"b.jsonl is a pipe, .* cannot be read twice; write it to a file first"):
        locate(str(tmp_path / "b.jsonl"))
