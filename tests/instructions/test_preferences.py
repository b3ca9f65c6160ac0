"""Pairs in the shapes that people have, and what is no pair."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bllossom.errors import BllossomError
from bllossom.instructions.formats.choose import chat_format
from bllossom.instructions.messages import UnusableError, conversation
from bllossom.instructions.preferences import Pair, PreferenceSource, encode_pair, read_pairs
from tests.fixtures.tiny_chat import tiny_tokenizer

ASKED = [{"role": "user", "content": "어디?"}]
GOOD, BAD = [{"role": "assistant", "content": "서울"}], [{"role": "assistant", "content": "부산"}]


def read(path: Path, *records: Any, **more: Any) -> list[Pair]:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf8")
    on_error = more.pop("on_error", "stop")
    return read_pairs([PreferenceSource(path=str(path), **more)], on_error)[0]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "어디?", "chosen": "서울", "rejected": "부산", "score": 1},
        {"prompt": ASKED, "chosen": GOOD, "rejected": BAD},
        {"prompt": "어디?", "chosen": [*ASKED, *GOOD], "rejected": [*ASKED, *BAD], "score_chosen": 9.0},
        {"chosen": [*ASKED, *GOOD], "rejected": [*ASKED, *BAD]},
    ],
)
def test_every_shape_gives_the_same_pair(tmp_path: Path, record: dict[str, Any]) -> None:
    [pair] = read(tmp_path / "a.jsonl", record)
    assert [(m.role, m.content) for m in pair.chosen.messages] == [("user", "어디?"), ("assistant", "서울")]
    assert [(m.role, m.content) for m in pair.rejected.messages] == [("user", "어디?"), ("assistant", "부산")]
    assert pair.chosen.source == f"{tmp_path / 'a.jsonl'}:1"


def test_columns_can_be_named_and_a_system_message_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"q": "어디?", "good": "서울", "bad": "부산", "system": "Be brief.", "n": 1}
    fields = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    [pair] = read(tmp_path / "a.jsonl", record, fields=fields)
    assert [message.role for message in pair.chosen.messages] == ["system", "user", "assistant"]
    assert "columns that are not read: n" in capsys.readouterr().err


SYSTEM = {"role": "system", "content": "Be brief."}
EARLIER = [{"role": "user", "content": "누구?"}, {"role": "assistant", "content": "나."}]


@pytest.mark.parametrize(
    "record",
    [
        {"system": "Be brief.", "chosen": [*ASKED, *GOOD], "rejected": [*ASKED, *BAD]},
        {"prompt": [SYSTEM, *ASKED], "chosen": [*ASKED, *GOOD], "rejected": [*ASKED, *BAD]},
        {"system": " ", "prompt": " 어디?\n", "chosen": [SYSTEM, *ASKED, *GOOD], "rejected": [SYSTEM, *ASKED, *BAD]},
        {"system": "Be brief.", "chosen": [SYSTEM, *ASKED, *GOOD], "rejected": [*ASKED, *BAD]},
    ],
)
def test_a_system_message_is_kept_wherever_it_stands(tmp_path: Path, record: dict[str, Any]) -> None:
    [pair] = read(tmp_path / "a.jsonl", record)
    for side, answer in ((pair.chosen, "서울"), (pair.rejected, "부산")):
        found = [(message.role, message.content) for message in side.messages]
        assert found == [("system", "Be brief."), ("user", "어디?"), ("assistant", answer)]


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"prompt": "어디?", "chosen": "서울", "rejected": "서울"}, "chosen and rejected are equal"),
        ({"prompt": "어디?", "chosen": "서울"}, r"has no rejected \(its keys are prompt, chosen\)"),
        ({"prompt": "어디?", "chosen": "", "rejected": "부산"}, "message 2, the assistant's, is empty"),
        ({"chosen": GOOD, "rejected": BAD}, "the first turn is the assistant's"),
        (
            {"chosen": [*ASKED, *GOOD], "rejected": [{"role": "user", "content": "뭐?"}, *BAD]},
            "answer different conversations",
        ),
        (
            {"prompt": [*EARLIER, *ASKED], "chosen": [*ASKED, *GOOD], "rejected": [*ASKED, *BAD]},
            "do not begin with the prompt",
        ),
        ({"prompt": "뭐?", "chosen": [*ASKED, *GOOD], "rejected": [*ASKED, *BAD]}, "do not begin with the prompt"),
        (
            {"system": "Be long.", "chosen": [SYSTEM, *ASKED, *GOOD], "rejected": [SYSTEM, *ASKED, *BAD]},
            "two system messages that differ",
        ),
        ("text", "is no object"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_line_or_skipped(tmp_path: Path, record: Any, why: str) -> None:
    good = {"prompt": "어디?", "chosen": "서울", "rejected": "부산"}
    with pytest.raises(BllossomError, match=rf"a\.jsonl:2: .*{why}.*; or set on_error: skip"):
        read(tmp_path / "a.jsonl", good, record)
    assert len(read(tmp_path / "a.jsonl", good, record, on_error="skip")) == 1
    with pytest.raises(BllossomError, match=rf"every record is broken, the first at .*{why}"):
        read(tmp_path / "a.jsonl", record, on_error="skip")


def test_ids_are_those_of_the_format_up_to_what_ends_an_answer() -> None:
    tokenizer = tiny_tokenizer()
    chat = chat_format("chatml", tokenizer)
    sides = [conversation([("user", "Count."), ("assistant", said)], source="a:1") for said in ("one two", "three ")]
    encoded = encode_pair(chat, Pair(*sides))
    assert encoded.prompt.tolist() == chat.prompt(sides[0].prompt())
    for ids, side in ((encoded.chosen, sides[0]), (encoded.rejected, sides[1])):
        assert tokenizer.decode(ids) == f"{side.messages[-1].content.strip()}<|im_end|>"
        whole = chat.encode(side).ids.tolist()
        assert whole[: len(encoded.prompt) + len(ids)] == encoded.prompt.tolist() + ids.tolist()
    assert encoded.longest() == len(encoded.prompt) + max(len(encoded.chosen), len(encoded.rejected))
    assert encoded.chosen.dtype == np.int64
    same = [conversation([("user", "Count."), ("assistant", said)]) for said in ("one", " one ")]
    with pytest.raises(UnusableError, match="the same tokens"):
        encode_pair(chat, Pair(*same))


def test_a_row_of_another_length_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,chosen,rejected\na,1,2\nb,1\nc,1,2\n")
    found, skipped = read_pairs([PreferenceSource(path=str(path))], "skip")
    assert [pair.chosen.source for pair in found] == [f"{path}:2", f"{path}:4"]
    assert [each.source for each in skipped] == [f"{path}:3"]


def test_a_file_without_pairs_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(BllossomError, match=r"a\.jsonl holds no record"):
        read_pairs([PreferenceSource(path=str(tmp_path / "a.jsonl"))])
