"""What a path or glob names, with names that are bytes and spelled in either way."""

import os
import unicodedata
from pathlib import Path

import pytest

from bllossom.paths import expand, once, shown, stamps, there, walk

NFC, NFD = (unicodedata.normalize(form, "한국어") for form in ("NFC", "NFD"))


def test_a_name_is_found_in_the_other_way_of_composing_it(tmp_path: Path) -> None:
    (tmp_path / NFD).mkdir()
    (tmp_path / NFD / f"{NFD}.jsonl").touch()
    for source in (f"{NFC}/{NFC}.jsonl", f"{NFC}/*.jsonl", f"{NFC}/{NFC[0]}*"):
        assert expand(str(tmp_path / source)).found == [tmp_path / NFD / f"{NFD}.jsonl"]
    (tmp_path / NFC).mkdir()
    (tmp_path / NFC / "b.jsonl").touch()
    assert expand(str(tmp_path / NFC / "*")).found == [tmp_path / NFC / "b.jsonl"]  # its very name comes first
    assert expand(str(tmp_path / unicodedata.normalize("NFKD", NFC) / "*")).found == [tmp_path / NFD / f"{NFD}.jsonl"]


def test_of_two_names_that_would_do_neither_is_taken(tmp_path: Path) -> None:
    both = "한국"
    (tmp_path / unicodedata.normalize("NFD", both)).mkdir()
    mixed = unicodedata.normalize("NFD", both[0]) + both[1]
    (tmp_path / mixed).mkdir()
    assert not there(str(tmp_path / both))


def test_brackets_are_a_glob_only_where_no_name_has_them(tmp_path: Path) -> None:
    for name in ("[라벨]TL1/a.jsonl", "라/b.jsonl", "x[1].jsonl", "x1.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert expand(str(tmp_path / "[라벨]TL1/*.jsonl")).found == [tmp_path / "[라벨]TL1/a.jsonl"]
    assert expand(str(tmp_path / "x[1].jsonl")).found == [tmp_path / "x[1].jsonl"]
    assert expand(str(tmp_path / "[라벨]/*.jsonl")).found == [tmp_path / "라/b.jsonl"]
    (tmp_path / "x[1].jsonl").unlink()
    assert expand(str(tmp_path / "x[1].jsonl")).found == [tmp_path / "x1.jsonl"]


@pytest.mark.parametrize("pattern", ["**/*.jsonl", "a/**/*.jsonl", "**/b/*.jsonl", "**/**/*.jsonl"])
def test_two_stars_are_folders_at_any_depth(tmp_path: Path, pattern: str) -> None:
    for name in ("a/b/c/x.jsonl", "a/b/y.jsonl", "a/z.jsonl", "a/.hidden/h.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = [path for path in tmp_path.glob(pattern) if ".hidden" not in path.parts]
    assert sorted(expand(str(tmp_path / pattern)).found) == sorted(expected)
    assert len(expected) == (1 if "/b/" in pattern else 3)


def test_a_name_that_is_not_utf8_is_found_and_shown(tmp_path: Path) -> None:
    name = os.fsdecode("라벨".encode("cp949") + b".jsonl")
    (tmp_path / name).touch()
    [found] = walk(tmp_path).found
    assert found.name == name
    assert expand(str(tmp_path / "*.jsonl")).found == [found]
    assert shown(found.name) == r"\xb6\xf3\xba\xa7.jsonl"
    shown(found).encode()


def test_a_file_with_several_names_is_taken_by_the_one_that_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "z").touch()
    (tmp_path / "a").symlink_to("z")
    os.link(tmp_path / "z", tmp_path / "y")
    assert once([tmp_path / name for name in "azy"]) == [tmp_path / "y", tmp_path / "z"]


def test_a_stamp_changes_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("a")
    before = stamps([path])
    assert stamps([path]) == before
    path.write_text("ab")
    assert stamps([path]) != before
    path.unlink()
    assert stamps([path]) == {path: None}
