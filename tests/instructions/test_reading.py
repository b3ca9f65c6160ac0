"""Every shape that people have, and every way to be wrong in one."""

import gzip
import json
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from bllossom.errors import BllossomError, ConfigError
from bllossom.instructions.messages import Message, is_blank
from bllossom.instructions.reading import Instructions, InstructionSource, read_instructions
from bllossom.text.normalise import normalise

SYSTEM = Message("system", "Be brief.")
ASKED = Message("user", "한국의 수도는?")
ANSWERED = Message("assistant", "서울입니다.")
Q, A = ASKED.content, ANSWERED.content


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf8")
    return path


def read(path: Path | str, **more: Any) -> Instructions:
    reading = {key: more.pop(key) for key in ("on_error", "ends") if key in more}
    return read_instructions([InstructionSource(path=str(path), **more)], **reading)


SHAPES: list[tuple[str, dict[str, Any], list[Message]]] = [
    ("alpaca", {"instruction": Q, "output": A}, [ASKED, ANSWERED]),
    ("alpaca", {"instruction": Q, "input": None, "output": A, "history": None}, [ASKED, ANSWERED]),
    ("alpaca", {"instruction": Q, "input": "", "output": A, "url": "x", "id": 7}, [ASKED, ANSWERED]),
    ("alpaca", {"instruction": Q, "input": "왜?", "output": A}, [Message("user", f"{Q}\n왜?"), ANSWERED]),
    ("alpaca", {"instruction": "", "input": Q, "output": A}, [ASKED, ANSWERED]),
    ("alpaca", {"system": "Be brief.", "instruction": Q, "output": A}, [SYSTEM, ASKED, ANSWERED]),
    ("alpaca", {"system": " ", "instruction": Q, "output": A}, [ASKED, ANSWERED]),
    ("alpaca", {"instruction": Q, "output": A, "history": [[Q, A]]}, [ASKED, ANSWERED] * 2),
    ("dolly", {"instruction": Q, "context": "", "response": A, "category": "qa"}, [ASKED, ANSWERED]),
    ("dolly", {"instruction": Q, "context": "왜?", "response": A}, [Message("user", f"{Q}\n왜?"), ANSWERED]),
    ("prompt", {"prompt": Q, "completion": A}, [ASKED, ANSWERED]),
    ("prompt", {"prompt": Q, "response": A, "system": "Be brief."}, [SYSTEM, ASKED, ANSWERED]),
    ("prompt", {"question": Q, "answer": A}, [ASKED, ANSWERED]),
    ("prompt", {"prompt": None, "question": Q, "completion": None, "response": A}, [ASKED, ANSWERED]),
    (
        "prompt",
        {"prompt": [{"role": "user", "content": Q}], "completion": [{"role": "assistant", "content": A}]},
        [ASKED, ANSWERED],
    ),
    ("lima", {"conversations": [Q, A], "source": "stackexchange"}, [ASKED, ANSWERED]),
    ("lima", {"conversations": [Q, A, Q, A]}, [ASKED, ANSWERED] * 2),
    ("sharegpt", {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]}, [ASKED, ANSWERED]),
    (
        "sharegpt",
        {
            "id": "x",
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "user", "value": Q},
                {"from": "assistant", "value": A},
            ],
        },
        [SYSTEM, ASKED, ANSWERED],
    ),
    (
        "sharegpt",
        {"system": "Be brief.", "conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]},
        [SYSTEM, ASKED, ANSWERED],
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": Q}, {"role": "assistant", "content": A, "name": "x"}]},
        [ASKED, ANSWERED],
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "user", "content": Q, "weight": 0},
                {"role": "assistant", "content": A, "weight": 1},
            ]
        },
        [ASKED, ANSWERED],
    ),
    (
        "prompt",
        {"prompt": [{"role": "user", "content": Q}], "completion": A, "system": "Be brief."},
        [SYSTEM, ASKED, ANSWERED],
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "system", "content": ""},
                {"role": "user", "content": [{"type": "text", "text": Q}]},
                {"role": "assistant", "content": A},
            ]
        },
        [ASKED, ANSWERED],
    ),
    (
        "messages",
        {"conversation": [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]},
        [ASKED, ANSWERED],
    ),
]


@pytest.mark.parametrize(("name", "record", "messages"), SHAPES)
def test_every_shape_is_recognised_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, record: dict[str, Any], messages: list[Message]
) -> None:
    path = write(tmp_path / "a.jsonl", record, record)
    instructions = read(path)
    assert [list(found.messages) for found in instructions.conversations] == [messages] * 2
    assert [found.source for found in instructions.conversations] == [f"{path}:1", f"{path}:2"]
    assert instructions.conversations[0].id == str(record.get("id", ""))
    assert instructions.duplicates == 1
    said = capsys.readouterr().err
    assert f"{path}: read as {name}," in said
    assert "1 of 2 conversations came before" in said
    assert said.count("columns that are not read") == bool({"url", "category", "source"} & record.keys())
    assert read(path, format=name).conversations == instructions.conversations


def test_every_kind_of_file(tmp_path: Path) -> None:
    record = {"instruction": Q, "input": "", "output": A}
    line = json.dumps(record, ensure_ascii=False).encode()
    files = {
        "a.jsonl": line,
        "bom.jsonl": b"\xef\xbb\xbf" + line,
        "crlf.jsonl": line + b"\r\n",
        "a.json": b"[" + line + b"]",
        "bom.json": b"\xef\xbb\xbf[" + line + b"]",
        "lines.json": line + b"\n",
        "a.ndjson": line,
        "a.jsonl.gz": gzip.compress(line),
        "a.json.zst": zstandard.compress(b"[" + line + b"]"),
        "a.csv": f"instruction,output\n{Q},{A}\n".encode("utf-8-sig"),
        "a.csv.gz": gzip.compress(f"instruction,input,output\n{Q},,{A}\n".encode()),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    table = pyarrow.Table.from_pylist(
        [{"messages": [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]}]
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for source, count in [
        *((tmp_path / name, 1) for name in (*files, "a.parquet")),
        (tmp_path, len(files) + 1),
        (tmp_path / "*.jsonl", 3),
    ]:
        found = read(source).conversations
        assert [list(each.messages) for each in found] == [[ASKED, ANSWERED]] * count, source


def test_a_row_of_another_length_costs_no_other_and_what_ends_a_file_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{Q} {number},{A}" for number in range(1000)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["instruction,output", rows[0], Q, *rows[1:]]), encoding="utf8")
    found = read(path, on_error="skip")
    assert [each.messages[0].content for each in found.conversations] == [f"{Q} {number}" for number in range(1000)]
    assert [each.source for each in found.skipped] == [f"{path}:3"]
    with pytest.raises(BllossomError, match=r"a\.csv:3: has 1 columns .*; or set on_error: skip"):
        read(path, on_error="stop")
    path.write_text("\n".join(["instruction,output", rows[0], f'"{Q}', *rows[1:]]), encoding="utf8")
    assert len(read(path, on_error="skip").conversations) == 1
    assert "nothing behind it can be read" in capsys.readouterr().err


def test_files_that_were_joined_are_read_to_the_end(tmp_path: Path) -> None:
    records = [{"instruction": f"{Q} {number}", "output": A} for number in range(4)]
    for name, indent in [("a.json", None), ("b.json", 1), ("a.jsonl", None), ("b.jsonl", 1)]:
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(part, indent=indent) for part in (records[:2], records[2:])))
        asked = [each.messages[0].content for each in read(path).conversations]
        assert asked == [record["instruction"] for record in records], name


def test_files_in_another_encoding_and_in_an_archive(tmp_path: Path) -> None:
    line = json.dumps({"instruction": Q, "output": A}, ensure_ascii=False) + "\n"
    table = f"instruction,output\n{Q},{A}\n"
    for name, text, encoding in [
        *(
            ("a.csv", table, "cp949"),
            ("a.csv", table, "utf-16"),
            ("a.json", line, "euc-kr"),
            ("a.jsonl", line, "utf-16"),
        )
    ]:
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        [found] = read(path, encoding=encoding).conversations
        assert list(found.messages) == [ASKED, ANSWERED]
        with pytest.raises(BllossomError, match="UTF-"):
            read(path)
    (tmp_path / "b.jsonl").write_bytes(line.encode() + b"\xff")
    with pytest.raises(BllossomError, match=r"b.jsonl:\d: is not cp949 from here on; set encoding"):
        read(tmp_path / "b.jsonl", encoding="cp949")
    with pytest.raises(ValueError, match="no encoding 'klingon'; name one as utf-8, cp949"):
        InstructionSource(path="a.csv", encoding="klingon")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.jsonl", line)
        archive.writestr("y.jsonl", line + json.dumps({"instruction": Q, "output": ""}))
    with pytest.raises(BllossomError, match=r"a.zip/y.jsonl:2: message 2"):
        read(tmp_path / "a.zip")


def test_a_config_maps_what_no_shape_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", {"질문": Q, "data": {"a": A}, "rules": "Be brief.", "n": 1})
    fields = {"question": "질문", "answer": "data.a", "system": "rules"}
    [found] = read(path, fields=fields).conversations
    assert list(found.messages) == [SYSTEM, ASKED, ANSWERED]
    assert "columns that are not read: n" in capsys.readouterr().err
    turns = [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]
    [found] = read(
        write(tmp_path / "b.jsonl", {"chat": {"turns": turns}}), fields={"messages": "chat.turns"}
    ).conversations
    assert list(found.messages) == [ASKED, ANSWERED]
    lists = ([Q, A], [{"from": "human", "value": Q}, {"from": "gpt", "value": A}], turns)
    for listed in lists:
        [found] = read(write(tmp_path / "c.jsonl", {"a.b": listed}), fields={"messages": "a\\.b"}).conversations
        assert list(found.messages) == [ASKED, ANSWERED]
    with pytest.raises(BllossomError, match=r"a.jsonl:1: .*no field 'prompt'.*질문.*; set fields to one of them"):
        read(path, fields={"question": "prompt", "answer": "data.a"})
    with pytest.raises(ValueError, match="leave one of them out"):
        InstructionSource(path="a.jsonl", format="lima", fields={"question": "q"})
    with pytest.raises(ConfigError, match="either question"):
        read(path, fields={"answer": "data.a"})


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


UNUSABLE: list[tuple[Any, str]] = [
    ({"instruction": Q}, "no answer at its end"),
    ({"instruction": Q, "output": ""}, "message 2, the assistant's, is empty"),
    ({"instruction": Q, "output": " \u200b\u3164\ufe0f\n"}, "nothing in it can be seen"),
    ({"instruction": Q, "output": "\ufffc"}, "nothing in it can be seen"),  # stood for a picture, say
    ({"instruction": Q, "output": None}, "message 2, the assistant's, is null"),
    ({"instruction": Q, "output": 42}, "is a number, not text"),
    ({"instruction": 42, "output": A}, "message 1, the user's, is a number"),
    ({"instruction": " ", "output": A}, "message 1, the user's, is empty"),
    ({"instruction": Q, "output": A, "history": [["q", ""]]}, "message 2, the assistant's, is empty"),
    ({"instruction": Q, "output": A, "history": [["q"]]}, "history is no list of pairs"),
    ({"instruction": Q, "output": A, "history": 5}, "history is no list of pairs"),
    (chat(("user", Q), ("user", Q), ("assistant", A)), "two user messages in a row"),
    (chat(("user", Q), ("assistant", A), ("assistant", A)), "two assistant messages in a row"),
    (chat(("assistant", A)), "the first turn is the assistant's"),
    (chat(("user", Q), ("assistant", A), ("user", Q)), "no answer at its end"),
    (chat(("user", Q), ("system", "x"), ("assistant", A)), "a system message stands after another"),
    (chat(("user", Q), ("tool", "x"), ("assistant", A)), "unknown role 'tool'"),
    (chat(("user", [{"type": "image"}]), ("assistant", A)), "holds a part that is no text"),
    (
        {"messages": [{"role": "user", "content": Q}, {"role": "assistant", "content": A, "weight": 0}]},
        "message 2 has weight 0, but no answer of an example is left out of the loss",
    ),
    (
        {"prompt": Q, "completion": [{"role": "assistant", "content": A, "weight": 0.5}]},
        r"message 1 has weight 0\.5, which is neither 0 nor 1; set it to 1",
    ),
    (
        {"prompt": [{"role": "system", "content": "x"}, {"role": "user", "content": Q}], "answer": A, "system": "y"},
        "a system message stands after another",
    ),
    ({"messages": [{"role": "user"}]}, "message 1 has no role and content"),
    ({"conversations": [{"from": "bard", "value": Q}]}, "unknown role 'bard'"),
    ({"conversations": []}, "is of no known shape"),
    ({"text": "a document"}, r"is of no known shape \(its keys are text\); write it as one of messages"),
    ([Q, A], "is of no known shape"),
    ("text", r"is of no known shape \(no object\)"),
]


@pytest.mark.parametrize(("record", "why"), UNUSABLE)
def test_what_cannot_be_used_is_refused_with_its_line_or_skipped(tmp_path: Path, record: Any, why: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([record], indent=1))
    with pytest.raises(BllossomError, match=rf"a\.json:2: .*{why}.*; or set on_error: skip"):
        read(path, on_error="stop")
    with pytest.raises(BllossomError, match=rf"a\.json:2: .*{why}") as caught:
        read(path)
    assert "on_error" not in str(caught.value)  # for those whose config has no such key
    with pytest.raises(BllossomError, match=rf"every record is broken, the first at .*a\.json:2: .*{why}"):
        read(path, on_error="skip")
    more = write(tmp_path / "b.jsonl", {"instruction": Q, "output": A})
    both = read_instructions([InstructionSource(path=str(p)) for p in (path, more)], on_error="skip")
    assert len(both.conversations) == 1
    assert [skipped.source for skipped in both.skipped] == [f"{path}:2"]


def test_what_normalising_leaves_nothing_of_is_blank(tmp_path: Path) -> None:
    assert all(is_blank(chr(code)) for code in range(0x10000) if not normalise(chr(code)))
    record = {"instruction": Q, "input": "\ufffc", "output": A, "system": "\ufffc"}
    [found] = read(write(tmp_path / "a.jsonl", record)).conversations
    assert list(found.messages) == [ASKED, ANSWERED]


def test_half_of_a_surrogate_pair_is_refused_and_a_broken_line_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps({"instruction": Q, "output": A})
    path.write_text('{"instruction": "a", "output": "\\ud800"}\n{"instruction"\n' + good + "\n")
    with pytest.raises(BllossomError, match=r"a\.jsonl:1: message 2.*half of a surrogate pair"):
        read(path)
    instructions = read(path, on_error="skip")
    assert len(instructions.conversations) == 1
    assert [skipped.source.rpartition(":")[2] for skipped in instructions.skipped] == ["1", "2"]


def test_a_record_of_another_shape_than_the_first_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"instruction": Q, "output": A}, {"prompt": Q, "completion": A})
    with pytest.raises(BllossomError, match=r"a\.jsonl:2: is not of the shape alpaca.*its keys are prompt, completion"):
        read(path)


def test_a_file_without_records_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(BllossomError, match=r"a\.jsonl holds no record"):
        read(tmp_path / "a.jsonl")


def test_text_is_normalised_as_prepare_does(tmp_path: Path) -> None:
    record = {"instruction": unicodedata.normalize("NFD", Q), "output": f"{A}\x00\r\n끝\ufeff"}
    [found] = read(write(tmp_path / "a.jsonl", record)).conversations
    assert [message.content for message in found.messages] == [Q, f"{A}\n끝"]


def test_questions_alone_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"conversations": Q}, {"conversations": [Q]}, {"conversations": [Q, A, Q]})
    found = read(path, ends="user").conversations
    assert [len(each.messages) for each in found] == [1, 1, 3]
    with pytest.raises(BllossomError, match="no question at its end"):
        read(write(tmp_path / "b.jsonl", {"conversations": [Q, A]}), ends="user")


@pytest.mark.real_data
def test_lima_is_read_whole(shared: Callable[[str], Path]) -> None:
    train = read(shared("instructions/lima_en_train.json")).conversations
    assert len(train) == 1029
    assert sum(len(each.messages) > 2 for each in train) == 29
    assert len(read(shared("instructions/lima_en_test.jsonl"), ends="user").conversations) == 300
