"""A local judge is asked as an endpoint is: again once without a tag, and never twice for the same."""

import json

import pytest

from bllossom.evaluation.judge.ask import LocalJudge, ask_endpoint, ask_local
from bllossom.evaluation.judge.pairs import Item
from bllossom.evaluation.judge.prompt import JudgePrompt
from bllossom.serving.endpoint import Endpoint
from bllossom.serving.log import read_log
from tests.evaluation.answers.conftest import TEMPLATE, save_model
from tests.serving.stand_in import stand_in


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A judge with random weights, which writes bytes without sense."""
    model = save_model(tmp_path_factory.mktemp("judges") / "senseless", 0, TEMPLATE)
    return LocalJudge(model=str(model), max_tokens=8, batch_size=3)


def prompt(tie: str = "[[C]]") -> JudgePrompt:
    tags = {"first": "[[A]]", "second": "[[B]]", "tie": tie}
    return JudgePrompt(version="t", user=f"{{question}}|{{first}}|{{second}}|[[A]][[B]]{tie}", again="Tag!", tags=tags)


def questions(asked: JudgePrompt, answers: list[str]) -> list[list[dict[str, str]]]:
    items = [Item(str(n), [{"role": "user", "content": "?"}], text, "b", None, None) for n, text in enumerate(answers)]
    return [asked.messages(item, "ab") for item in items]


def test_a_judge_without_sense_is_asked_twice_and_gives_errors(local, tmp_path):
    asked = questions(prompt(), ["x", "y", "a" * 200])
    found = ask_local(local, tmp_path / "replies.jsonl", prompt(), asked)
    assert [reply.place for reply in found] == [None] * 3
    assert [reply.asked for reply in found] == [2, 2, 1]
    assert found[2].failure == "it does not fit the judge's window"
    assert len(read_log(tmp_path / "replies.jsonl")) == 5


def test_replies_that_are_filed_need_no_model(local, tmp_path, monkeypatch):
    asked = questions(prompt(), ["x", "y"])
    found = ask_local(local, tmp_path / "replies.jsonl", prompt(), asked)
    from bllossom.evaluation.answers.model import AnswerModel

    monkeypatch.setattr(AnswerModel, "load", None)
    assert ask_local(local, tmp_path / "replies.jsonl", prompt(), asked) == found


def test_a_tag_is_a_verdict(local, tmp_path):
    asked = questions(prompt(), ["x"])
    ask_local(local, tmp_path / "one.jsonl", prompt(), asked)
    first = read_log(tmp_path / "one.jsonl")[0]["text"]
    tagged = prompt(tie=first.strip()[:3])  # whatever it writes first is taken for the tag of a tie
    [found] = ask_local(local, tmp_path / "two.jsonl", tagged, asked)
    assert (found.place, found.raw, found.asked) == ("tie", first, 1)


@pytest.mark.parametrize("nothing", ["", " \n", "\u200b"], ids=["empty", "white space", "zero width"])
def test_after_a_reply_that_nobody_sees_the_question_holds_the_reminder(local, tmp_path, nothing):
    asked = questions(prompt(), ["x"])
    ask_local(local, tmp_path / "replies.jsonl", prompt(), asked)
    first = read_log(tmp_path / "replies.jsonl")[0] | {"text": nothing}
    (tmp_path / "replies.jsonl").write_text(json.dumps(first) + "\n")  # what a run before was given, and kept
    [found] = ask_local(local, tmp_path / "replies.jsonl", prompt(), asked)
    assert (found.place, found.asked, found.failure) == (None, 2, "")
    assert found.raw == read_log(tmp_path / "replies.jsonl")[1]["text"]
    [again] = prompt().messages_again(asked[0], nothing)
    assert again == {"role": "user", "content": asked[0][0]["content"] + "\n\nTag!"}


@pytest.mark.parametrize("first", ["local", "endpoint"])
def test_another_kind_of_judge_asks_anew_and_leaves_the_replies_of_the_first(local, tmp_path, first):
    replies, asked = tmp_path / "replies.jsonl", questions(prompt(), ["x", "y", "a" * 200])
    with stand_in(lambda body, attempt: "[[A]]") as server:
        endpoint = Endpoint(url=server.url, model="m", key_variable=None)
        judges = {
            "local": lambda: [reply.place for reply in ask_local(local, replies, prompt(), asked)],
            "endpoint": lambda: [reply.place for reply in ask_endpoint(endpoint, replies, prompt(), asked)],
        }
        places = {"local": [None] * 3, "endpoint": ["first"] * 3}
        other = {"local": "endpoint", "endpoint": "local"}[first]
        for name in (first, other, first, other):
            assert judges[name]() == places[name]
        assert len(server.bodies) == 3
    assert len(read_log(replies)) == 5 + 3, "each was asked once"
