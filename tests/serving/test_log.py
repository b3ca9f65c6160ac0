"""An append-only log: cut anywhere, the whole lines before the cut are there, and it goes on."""

import errno
import os
import resource
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.errors import BllossomError
from bllossom.serving.log import AppendLog, read_log, write_records

RECORDS = [{"id": 1, "text": "백두산\n\u2028"}, {"id": 2, "text": "a"}, {"id": 3, "text": "\ud800"}]


@given(st.data())
def test_a_log_cut_at_any_byte_keeps_its_whole_lines_and_goes_on(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    with AppendLog(path) as log:
        for record in RECORDS:
            log.append(record)
    assert [record["id"] for record in read_log(path)] == [1, 2, 3]
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    complete = [record["id"] for record in read_log(path)]
    assert complete in ([1, 2, 3][: whole[:cut].count(b"\n")], [1, 2, 3][: whole[:cut].count(b"\n") + 1])
    with AppendLog(path) as log:
        assert [record["id"] for record in log.records] == complete
        log.append({"id": 4})
    assert [record["id"] for record in read_log(path)] == [*complete, 4]


def test_a_cut_is_told_with_its_line(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": 1}\n{"id": 2, "te')
    assert read_log(path) == [{"id": 1}]
    assert "line 2 is cut or broken (13 bytes)" in capsys.readouterr().err


def test_a_second_writer_is_refused_while_readers_are_not(tmp_path):
    path = tmp_path / "log.jsonl"
    with AppendLog(path) as log:
        log.append({"id": 1})
        assert read_log(path) == [{"id": 1}]
        with pytest.raises(BllossomError, match="another process is writing"), AppendLog(path):
            pass
    with AppendLog(path) as log:
        assert log.records == [{"id": 1}]


@contextmanager
def files_of_at_most(size):
    """A limit on the size of files, at which a write ends halfway, as it does on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_a_full_disk_cut_is_told_and_taken_back_and_the_next_record_is_kept(tmp_path, capsys):
    path = tmp_path / "log.jsonl"
    with AppendLog(path) as log:
        log.append({"id": 1})
        with files_of_at_most(30), pytest.raises(BllossomError, match="free some room"):
            log.append({"text": "longer than thirty bytes"})
        assert path.read_bytes() == b'{"id": 1}\n'
        log.append({"id": 2})
    assert read_log(path) == [{"id": 1}, {"id": 2}]
    assert capsys.readouterr().err == ""


def test_the_next_record_starts_anew_where_the_cut_line_could_not_be_taken_back(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with AppendLog(tmp_path / "log.jsonl") as log:
        with monkeypatch.context() as patched, files_of_at_most(20):
            patched.setattr("os.ftruncate", refused)
            with pytest.raises(BllossomError, match="File too large"):
                log.append({"text": "longer than twenty bytes"})
        log.append({"id": 2})
    assert read_log(tmp_path / "log.jsonl") == [{"id": 2}]


def test_a_log_with_a_cut_line_opens_on_a_full_disk(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": 1}\n{"id": 2, "te')
    with files_of_at_most(path.stat().st_size), AppendLog(path) as log:
        assert log.records == [{"id": 1}]
        with pytest.raises(BllossomError, match="free some room"):
            log.append({"id": 2})


def test_records_take_the_place_of_a_file_whole(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": 9}\n{"cut')
    write_records(path, RECORDS)
    assert read_log(path) == RECORDS
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]
