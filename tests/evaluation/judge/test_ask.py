"""A local judge is asked as an endpoint is: again once without a tag, and never twice for the same."""

import json

import huggingface_hub
import pytest

from bllossom.artifacts import read_manifest
from bllossom.errors import BllossomError
from bllossom.evaluation.judge.ask import LocalJudge, ask_endpoint, ask_local
from bllossom.evaluation.judge.judge import JudgeConfig, judge
from bllossom.evaluation.judge.pairs import Item
from bllossom.evaluation.judge.prompt import JudgePrompt
from bllossom.serving.endpoint import Endpoint
from bllossom.serving.log import read_log
from tests.evaluation.answers.conftest import TEMPLATE, save_adapter, save_model
from tests.evaluation.judge.conftest import write_answers
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


@pytest.fixture
def judge_by(tmp_path):
    """`judge_by(model, …)`: two answers before this judge; the manifest, and how many replies are filed then."""
    answers = [write_answers(tmp_path / f"{name}.jsonl", [name] * 2) for name in ("x", "y")]
    wording = {"version": "t", "user": "{question}{first}{second}[[A]][[B]][[C]]", "again": "Tag!"}
    tags = {"first": "[[A]]", "second": "[[B]]", "tie": "[[C]]"}
    (tmp_path / "prompt.yaml").write_text(json.dumps(wording | {"tags": tags}))

    def run(model, force=False, **local):
        settings = {
            "output": tmp_path / "judged",
            "answers": answers,
            "prompt": str(tmp_path / "prompt.yaml"),
            "languages": [],
            "draws": 50,
            "local": {"model": str(model), "max_tokens": 8, **local},
        }
        manifest = judge(JudgeConfig.model_validate(settings), force=force)
        return manifest, len(read_log(tmp_path / "judged.replies.jsonl"))

    return run


ASKED = 2 * 2 * 2  # two prompts in two orders, each asked again


def test_a_judge_that_was_trained_anew_at_its_path_is_another_one(judge_by, tmp_path):
    model = save_model(tmp_path / "mine", 0, TEMPLATE)
    first, filed = judge_by(model)
    assert filed == ASKED
    model = model.rename(tmp_path / "moved")
    assert judge_by(model) == (first, ASKED), "a folder that was moved is the same judge"
    save_model(model, 1, TEMPLATE)
    with pytest.raises(BllossomError, match=r"holds another result \(input local\.model: \w+… there, \w+… here\)"):
        judge_by(model)
    second, filed = judge_by(model, force=True)
    assert filed == 2 * ASKED
    assert second.files["verdicts.jsonl"] != first.files["verdicts.jsonl"]


def test_an_adapter_is_another_judge_once_its_base_was_trained_anew(judge_by, tmp_path):
    base = save_model(tmp_path / "base", 0, TEMPLATE)
    adapter = save_adapter(tmp_path / "adapter", base)
    first, filed = judge_by(adapter)
    assert filed == ASKED
    assert "local.model.base" in first.inputs
    save_model(base, 1, TEMPLATE)
    with pytest.raises(BllossomError, match=r"another result \(input local\.model\.base: "):
        judge_by(adapter)
    assert judge_by(adapter, force=True)[1] == 2 * ASKED


def test_an_edited_template_is_another_one_at_the_same_path(judge_by, local, tmp_path):
    template = tmp_path / "judge.jinja"
    template.write_text(TEMPLATE)
    first, _ = judge_by(local.model, template=str(template))
    renamed = template.rename(tmp_path / "renamed.jinja")
    assert judge_by(local.model, template=str(renamed)) == (first, ASKED)
    renamed.write_text(TEMPLATE.replace(": ", "> "))
    with pytest.raises(BllossomError, match=r"holds another result \(input local\.template: \w+… there"):
        judge_by(local.model, template=str(renamed))
    second, filed = judge_by(local.model, force=True, template=str(renamed))
    assert filed == 2 * ASKED
    assert second.files["verdicts.jsonl"] != first.files["verdicts.jsonl"]


def test_a_template_by_name_is_no_input_and_finds_the_replies_of_before(judge_by, local):
    manifest, filed = judge_by(local.model, template="plain")
    assert sorted(manifest.inputs) == ["answers.x", "answers.y", "local.model", "prompt"]
    assert manifest.config["local"]["template"] == "plain"
    assert judge_by(local.model, force=True, template="plain")[1] == filed


def test_verdicts_that_do_not_say_which_model_judged_are_read_and_made_again(judge_by, local, tmp_path):
    manifest, _ = judge_by(local.model)
    path = tmp_path / "judged" / "manifest.json"
    before = json.loads(path.read_text())
    del before["inputs"]["local.model"]  # as it was published before the model was an input
    path.write_text(json.dumps(before))
    assert read_manifest(path.parent).figures == manifest.figures
    with pytest.raises(BllossomError, match=r"\(input local\.model: not recorded there, \w+… here\)"):
        judge_by(local.model)
    again, filed = judge_by(local.model, force=True)
    assert (again.fingerprint, filed) == (manifest.fingerprint, ASKED)


def test_a_judge_from_the_hub_is_recorded_and_asked_by_its_commit(judge_by, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository, commits = tmp_path / "hub" / "models--owner--judge", ["01" * 20, "23" * 20]
    for seed, commit in enumerate(commits):
        save_model(repository / "snapshots" / commit, seed, TEMPLATE)
    main = repository / "refs" / "main"
    main.parent.mkdir()
    main.write_text(commits[0])
    first, _ = judge_by("owner/judge")
    assert first.inputs["local.model"] == f"owner/judge@{commits[0]}"
    main.write_text(commits[1])
    assert judge_by(f"owner/judge@{commits[0]}") == (first, ASKED)
    with pytest.raises(BllossomError, match=rf"\(input local\.model: owner/judge@{commits[0]} there"):
        judge_by("owner/judge")
    second, filed = judge_by("owner/judge", force=True)
    assert filed == 2 * ASKED
    assert second.files["verdicts.jsonl"] != first.files["verdicts.jsonl"]
