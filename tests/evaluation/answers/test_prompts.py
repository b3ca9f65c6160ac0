"""Prompts of every documented shape are read alike, their ids are stable, and what is none is refused by line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bllossom.errors import BllossomError
from bllossom.evaluation.answers.prompts import read_prompts


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    return path


def test_every_shape_is_read_as_messages(tmp_path):
    question = [{"role": "user", "content": "어디?"}]
    dialogue = [*question, {"role": "assistant", "content": "서울."}, {"role": "user", "content": "언제?"}]
    shapes = [
        {"prompt": "어디?"},
        {"conversations": "어디?"},
        {"messages": question},
        {"conversations": ["어디?", "서울.", "언제?"]},
        {"conversations": [{"from": "human", "value": "어디?"}, {"from": "gpt", "value": "서울."}, *dialogue[2:]]},
        {"messages": [*dialogue, {"role": "assistant", "content": "내일."}]},
        {"messages": [{"role": "system", "content": "짧게."}, *question], "id": 7, "category": "x", "language": "ko"},
    ]
    found = read_prompts(written(tmp_path / "p.jsonl", *map(json.dumps, shapes)))
    assert [prompt.messages for prompt in found[:6]] == [question] * 3 + [dialogue] * 3
    assert [prompt.cut for prompt in found] == [False] * 5 + [True, False]
    last = found[6]
    assert (last.id, last.category, last.language) == ("7", "x", "ko")
    assert last.messages[0] == {"role": "system", "content": "짧게."}


def test_ids_are_the_line_and_a_hash_of_the_text(tmp_path):
    one = read_prompts(written(tmp_path / "p.jsonl", '{"prompt": "a"}', "", '{"prompt": "b"}'))
    other = read_prompts(written(tmp_path / "p.jsonl", '{"conversations": "a", "x": 1}', "", '{"prompt": "c"}'))
    assert [prompt.id.split("-")[0] for prompt in one] == ["1", "3"]
    assert one[0].id == other[0].id
    assert one[1].id != other[1].id


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "a"}', "has the keys question; a prompt is an object with messages or conversations or prompt"),
        ("[1]", "is no object"),
        ('{"prompt": "a"', "p.jsonl:2"),
        ('{"prompt": ""}', "has the keys prompt"),
        ('{"prompt": "  "}', "is empty"),
        ('{"prompt": 3}', "neither text nor a list"),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "no question in it"),
        ('{"messages": [{"role": "user", "content": null}]}', "not text"),
        ('{"messages": ["a", {"role": "user"}]}', "is no object"),
        ('{"conversations": []}', "has the keys conversations"),
        ('{"prompt": "a", "id": 1.5}', "neither a text nor a number"),
        ('{"prompt": "a", "category": 1}', "category: 1 is no text"),
        ('{"prompt": "a", "id": "x"}', "the id x stood in line 1 already"),
    ],
)
def test_what_is_no_prompt_is_refused_by_line(tmp_path, line, message):
    path = written(tmp_path / "p.jsonl", '{"prompt": "first", "id": "x"}', line)
    with pytest.raises(BllossomError, match=message) as raised:
        read_prompts(path)
    assert "p.jsonl:2:" in str(raised.value)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(BllossomError, match="holds no prompt"):
        read_prompts(written(tmp_path / "p.jsonl"))


@pytest.mark.real_data
def test_limas_300_test_prompts(shared: Callable[[str], Path]):
    found = read_prompts(shared("instructions/lima_en_test.jsonl"))
    assert len(found) == 300
    assert len({prompt.id for prompt in found}) == 300
    assert all(len(prompt.messages) == 1 for prompt in found)
