"""Files of answers that do not fit each other are refused, with what to do."""

import json

import pytest

from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.judge.pairs import choose_pairs, find_files, lay_together, read_answers

QUESTION = [{"role": "user", "content": "Where?"}]


def written(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def laid(tmp_path, one, other):
    files = {"a": written(tmp_path / "a.jsonl", *one), "b": written(tmp_path / "b.jsonl", *other)}
    return lay_together("a", "b", {name: read_answers(path) for name, path in files.items()})


def test_questions_come_from_either_file_and_order_from_the_first(tmp_path):
    pair = laid(
        tmp_path,
        [{"id": 2, "answer": "x"}, {"id": "1", "answer": "y", "extra": True}],
        [
            {"id": "1", "answer": "z", "messages": QUESTION, "category": "c"},
            {"id": "2", "answer": "", "messages": QUESTION},
        ],
    )
    assert [(item.id, item.answer_a, item.answer_b, item.category) for item in pair.items] == [
        ("2", "x", "", None),
        ("1", "y", "z", "c"),
    ]


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ([{"id": "1", "answer": "x"}], [{"id": "2", "answer": "y"}], r"1 only in a \(1\), 1 only in b \(2\)"),
        ([{"id": "1", "answer": "x"}] * 2, [{"id": "1", "answer": "y"}], "a.jsonl:2: the id 1 stood in line 1 already"),
        ([{"id": "1", "answer": "x"}], [{"id": "1", "answer": "y"}], "no messages in either file"),
        ([{"id": "1"}], [{"id": "1", "answer": "y"}], "a.jsonl:1: answer: Field required"),
        (
            [{"id": "1", "answer": None}],
            [{"id": "1", "answer": "y"}],
            "a.jsonl:1: answer: Input should be a valid string",
        ),
        ([], [{"id": "1", "answer": "y"}], "holds no answer"),
        (
            [{"id": "1", "answer": "x", "messages": QUESTION}],
            [{"id": "1", "answer": "x", "messages": QUESTION}],
            "it is one model",
        ),
        (
            [{"id": "1", "answer": "x", "messages": QUESTION}],
            [{"id": "1", "answer": "y", "messages": [{"role": "user", "content": "Who?"}]}],
            "another question in each",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, one, other, message):
    with pytest.raises(BllossomError, match=message):
        laid(tmp_path, one, other)


def test_a_line_that_is_no_json_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1, "answer": "x"}\n{"id": 2, "ans')
    with pytest.raises(BllossomError, match=r"a.jsonl:2: the line: Invalid JSON"):
        read_answers(tmp_path / "a.jsonl")


def test_the_same_model_twice_is_refused(tmp_path):
    file = written(tmp_path / "a.jsonl", {"id": "1", "answer": "x"})
    with pytest.raises(ConfigError, match="not judged against itself"):
        find_files([file, tmp_path])
    with pytest.raises(ConfigError, match="two models' answers are needed"):
        find_files([file])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"there is no \*.jsonl in it"):
        find_files([file, tmp_path / "empty"])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([("x", "x")], "against itself"),
        ([("x", "q")], "no answers of q; there are x, y, z"),
        ([("x", "y"), ("y", "x")], "stands twice"),
    ],
)
def test_pairs_that_make_no_sense(wanted, message):
    with pytest.raises(ConfigError, match=message):
        choose_pairs(["x", "y", "z"], wanted)


def test_without_a_choice_each_meets_each_once():
    assert choose_pairs(["x", "y", "z"], []) == [("x", "y"), ("x", "z"), ("y", "z")]
    assert choose_pairs(["x", "y", "z"], [("z", "x")]) == [("z", "x")]


def test_messages_are_read_as_prompts_are(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "answer": "x", "messages": [{"from": "human", "value": "?"}]}\n', encoding="utf8")
    assert read_answers(path)["1"].messages == [{"role": "user", "content": "?"}]
    for message, told in (
        ('{"content": "?"}', "messages: Value error, the message .* has no role"),
        ('{"role": "user"}', r"messages\.0\.content: Input should be a valid string"),
    ):
        path.write_text(f'{{"id": 1, "answer": "x", "messages": [{message}]}}\n', encoding="utf8")
        with pytest.raises(BllossomError, match=rf"a\.jsonl:1: {told}"):
            read_answers(path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BllossomError, match=r"missing\.jsonl cannot be read \(No such file.*name a file of answers"):
        read_answers(tmp_path / "missing.jsonl")
