"""What the review page opens with: the flags of its translation and no others, and the translator's prompt."""

import json
import shutil

import pytest

from bllossom.errors import BllossomError
from bllossom.localize.flag import FlagConfig, flag
from bllossom.localize.review import LOG, ReviewConfig, open_desk, review
from bllossom.localize.translate import TranslateConfig, translate
from bllossom.serving.log import AppendLog
from tests.serving.stand_in import stand_in

PROMPT = "Translate the text of the user into German, whatever it asks."
RULES = {"language": "de"}  # without morphology: it is loaded in no time
ANSWERS = {"Where is it?": "Wo ist es?", "It is near.": "Es ist 5 Meilen entfernt."}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two translations with their flags; the answer of `echo` is what the translator was told."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "source.jsonl").write_text(json.dumps({"id": "a", "conversations": list(ANSWERS)}) + "\n")
    for name, wrong in (("plain", "It is far."), ("echo", "It is near.")):

        def answer(body, attempt, wrong=wrong):
            asked = body["messages"][-1]["content"]
            return PROMPT if asked == wrong or "not usable" in asked else ANSWERS[asked]

        with stand_in(answer) as server:
            endpoint = {"url": server.url, "model": "m", "key_variable": None}
            settings = {
                "source": [{"path": str(folder / "source.jsonl")}],
                "output": folder / name,
                "by_endpoint": {"endpoint": endpoint, "system_prompt": PROMPT},
            }
            translate(TranslateConfig.model_validate(settings))
        settings = {"output": folder / f"{name}-flags", "translation": folder / name, "rules": RULES}
        flag(FlagConfig.model_validate(settings))
    return folder


def config(translation, flags, folder):
    settings = {"translation": translation, "flags": flags, "rules": RULES, "folder": folder}
    return ReviewConfig.model_validate(settings)


def rules(flags):
    return [found["rule"] for found in flags]


def test_it_opens_with_the_flags_of_its_translation(work, tmp_path):
    moved = shutil.copytree(work / "plain", tmp_path / "moved")
    with AppendLog(tmp_path / LOG) as log:
        desk = open_desk(config(moved, work / "plain-flags", tmp_path), log)
        assert "unit" in rules(desk.open({"reviewer": "Ada", "id": "a"})["example"]["flags"])


def test_a_home_is_understood(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config(tmp_path, None, "~/review").folder == tmp_path / "review"


@pytest.mark.parametrize("flags", ["plain-flags/flags.jsonl", "plain"])
def test_a_path_without_flags_is_refused(work, tmp_path, flags):
    with pytest.raises(BllossomError, match=r"has no flags\.jsonl; name the output of `bllossom localize flag`"):
        review(config(work / "plain", work / flags, tmp_path))


def test_flags_of_another_translation_are_refused(work, tmp_path):
    with pytest.raises(BllossomError, match=r"echo-flags has the flags of another translation than .*plain; run"):
        review(config(work / "plain", work / "echo-flags", tmp_path))


def test_flags_that_somebody_wrote_are_of_its_examples(work, tmp_path):
    found = {"turn": 1, "rule": "unit", "severity": "warning", "start": 0, "end": 2, "reason": "r"}
    (tmp_path / "flags.jsonl").write_text(json.dumps({"id": "a", **found}) + "\n")
    with AppendLog(tmp_path / LOG) as log:
        desk = open_desk(config(work / "plain", tmp_path, tmp_path), log)
        assert rules(desk.open({"reviewer": "Ada", "id": "a"})["example"]["flags"]) == ["unit"]
    (tmp_path / "flags.jsonl").write_text(json.dumps({"id": "b", **found}) + "\n")
    with pytest.raises(BllossomError, match="the flags of another translation"):
        review(config(work / "plain", tmp_path, tmp_path))


@pytest.mark.parametrize("flags", ["echo-flags", None])
def test_a_prompt_that_came_back_is_flagged_until_it_is_gone(work, tmp_path, flags):
    def post(texts):
        version = desk.book.version("a", "Ada")
        return {"reviewer": "Ada", "id": "a", "version": version, "texts": texts, "action": "edit"}

    with AppendLog(tmp_path / LOG) as log:
        desk = open_desk(config(work / "echo", work / flags if flags else None, tmp_path), log)
        assert "refusal" in rules(desk.open({"reviewer": "Ada", "id": "a"})["example"]["flags"])
        still_there = post(["Wo liegt es?", PROMPT])
        assert "refusal" in rules(desk.flags(still_there))
        assert "refusal" in rules(desk.decide(still_there)["example"]["flags"])
        assert "refusal" not in rules(desk.decide(post(["Wo liegt es?", "Es ist nah."]))["example"]["flags"])
