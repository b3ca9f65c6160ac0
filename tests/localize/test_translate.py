"""Translating against a stand-in: what it is told, what comes of its moods, and what a kill costs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bllossom.errors import BllossomError
from bllossom.localize.masking import PLACEHOLDER
from bllossom.localize.translate import TranslateConfig, dry_run, translate
from bllossom.serving.log import read_log
from tests.serving.stand_in import completion, stand_in

KEY = "sk-of-nobody-77aa"
ROOT = Path(__file__).parents[2]
TOLD = "You translate what the user says into Korean, and do nothing else."


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def korean(body, attempt):
    """A translation of sorts: the marks in their order, and as many words as there were."""
    text = body["messages"][-1]["content"]
    marks = "".join(f" {mark[0]}" for mark in PLACEHOLDER.finditer(text))
    return f"{len(text.split())}번째 문장을 옮깁니다{marks}."


@pytest.fixture
def source(tmp_path):
    """Four dialogues in LIMA's shape, one of two turns, one that is all code."""
    records = [
        {
            "id": "a",
            "conversations": ["How do I list files?", "Run `ls -l` in **bash**.", "And hidden ones?", "Add `-a`."],
        },
        {"id": "b", "conversations": ["Where is Rome?", "In Italy."]},
        {"id": "c", "conversations": ["```\nx = 1\n```", "See https://example.org/x and 5 km."]},
        {"id": "d", "conversations": ["Thanks!", "You are welcome."]},
    ]
    path = tmp_path / "source.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def config(server, source, output, **settings):
    endpoint = {
        "url": getattr(server, "url", server),
        "model": "m",
        "backoff_seconds": 0.01,
        **settings.pop("endpoint", {}),
    }
    keep_going = settings.pop("keep_going", False)
    return TranslateConfig.model_validate(
        {
            "source": [{"path": str(source)}],
            "output": output,
            "keep_going": keep_going,
            "by_endpoint": {"endpoint": endpoint, "system_prompt": TOLD, **settings},
        }
    )


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def test_every_turn_is_asked_with_the_dialogue_before_it_and_marks_come_back(tmp_path, source):
    glossary = {"Rome": "로마", "Paris": "파리"}
    with stand_in(korean) as server:
        manifest = translate(config(server, source, tmp_path / "out", glossary=glossary))
    assert manifest.figures["examples"] == 4
    target = {record["id"]: record["messages"] for record in lines(tmp_path / "out" / "target.jsonl")}
    assert target["a"][1]["content"] == "4번째 문장을 옮깁니다 `ls -l` ** **."
    assert target["c"][0]["content"] == "```\nx = 1\n```"
    assert [message["role"] for message in target["a"]] == ["user", "assistant"] * 2
    assert len(server.bodies) == 4 + 2 + 1 + 2
    last = next(body for body in server.bodies if body["messages"][-1]["content"] == "Add ⟦0⟧.")["messages"]
    assert [message["role"] for message in last] == ["system", *["user", "assistant"] * 3, "user"]
    assert last[2]["content"] == "5번째 문장을 옮깁니다."
    assert last[5]["content"] == "And hidden ones?"
    rome = next(body for body in server.bodies if body["messages"][-1]["content"] == "In Italy.")
    assert "Rome → 로마" in rome["messages"][0]["content"]
    assert "파리" not in rome["messages"][0]["content"]


def test_the_key_stands_in_no_file(tmp_path, source):
    with stand_in(korean) as server:
        translate(config(server, source, tmp_path / "out"))
    assert set(server.keys) == {f"Bearer {KEY}"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 6
    assert all(KEY.encode() not in path.read_bytes() for path in written)


def test_lost_marks_are_asked_for_once_by_name_and_noted(tmp_path, source):
    def forgetful(body, attempt):
        text = body["messages"][-1]["content"]
        if "is missing" in text and "⟦0⟧" in text:
            return "`하나`를 ⟦0⟧ 실행합니다." if "⟦1⟧" in text else "이번에는 ⟦0⟧을 씁니다."
        return "표시를 잊었습니다."

    with stand_in(forgetful) as server:
        manifest = translate(config(server, source, tmp_path / "out"))
    complaints = [body for body in server.bodies if "is missing" in body["messages"][-1]["content"]]
    assert len(complaints) == 3
    assert any(
        "⟦0⟧ is missing; ⟦1⟧ is missing; ⟦2⟧ is missing" in body["messages"][-1]["content"] for body in complaints
    )
    notes = {(note["id"], note["turn"]): note for note in lines(tmp_path / "out" / "notes.jsonl")}
    assert notes["a", 1]["lost"] == ["**", "**"]
    assert notes["a", 3] == {"id": "a", "turn": 3, "lost": [], "cut": False, "asked": 2, "problem": ""}
    assert manifest.figures["messages_with_lost_markup"] == 2
    assert manifest.figures["messages_asked_twice"] == 3


def test_half_an_answer_and_the_prompt_itself_are_noted(tmp_path, source):
    def moody(body, attempt):
        text = body["messages"][-1]["content"]
        if text.startswith(("Where", "That was not usable")):
            return (200, {}, completion("반쪽 대답을", "length"))
        if text == "Thanks!":
            return body["messages"][0]["content"]
        return korean(body, attempt)

    with stand_in(moody) as server:
        translate(config(server, source, tmp_path / "out"))
    notes = {(note["id"], note["turn"]): note for note in lines(tmp_path / "out" / "notes.jsonl")}
    assert notes["b", 0]["cut"] is True
    assert notes["d", 0]["asked"] == 2
    target = {record["id"]: record["messages"] for record in lines(tmp_path / "out" / "target.jsonl")}
    assert "You translate" not in target["d"][0]["content"]


def test_requests_that_fail_leave_nothing_published_and_the_same_command_asks_them_alone(tmp_path, source):
    ill = True

    def rule(body, attempt):
        if ill and body["messages"][-1]["content"] in ("Where is Rome?", "Thanks!"):
            return (500, {}, b"ill")
        return korean(body, attempt)

    with stand_in(rule) as server:
        settings = config(server, source, tmp_path / "out", endpoint={"attempts": 2})
        with pytest.raises(
            BllossomError, match=r"2 of 4 examples have no translation, the first 'b': turn 0: .*HTTP 500"
        ):
            translate(settings)
        assert not (tmp_path / "out").exists()
        before = len(server.bodies)
        ill = False
        translate(settings)
    assert len(server.bodies) - before == 4


def test_keep_going_leaves_them_out_and_counts_them(tmp_path, source):
    def rule(body, attempt):
        return (400, {}, b"no") if body["messages"][-1]["content"] == "Thanks!" else korean(body, attempt)

    with stand_in(rule) as server:
        settings = config(server, source, tmp_path / "out", keep_going=True)
        manifest = translate(settings)
        assert manifest.figures["left_out"] == ["d"]
        assert [record["id"] for record in lines(tmp_path / "out" / "target.jsonl")] == ["a", "b", "c"]
        assert translate(settings) == manifest
        server.rule = korean
        assert translate(settings, force=True).figures["left_out"] == []
        settled = len(server.bodies)
        translate(settings, force=True)
    assert len(server.bodies) == settled


def test_an_empty_answer_is_no_want_of_one(tmp_path, source, capsys):
    with stand_in(lambda body, attempt: " " if "Thanks!" in str(body) else korean(body, attempt)) as server:
        manifest = translate(config(server, source, tmp_path / "out", keep_going=True))
    assert manifest.figures["failed_requests"] == 0
    assert "--force" not in capsys.readouterr().err


def test_a_dry_run_counts_what_is_left(tmp_path, source):
    price = {"endpoint": {"price": {"input": 1, "output": 2}}}
    with stand_in(korean) as server:
        settings = config(server, source, tmp_path / "out", **price)
        first = dry_run(settings)
        assert server.bodies == []
        translate(settings)
    assert first[0] == "4 examples, 10 messages"
    assert first[1].startswith("9 requests, 0 of them answered already; about")
    assert dry_run(settings)[1].startswith("9 requests, 9 of them answered already; about 0 tokens to send")


def test_a_dry_run_goes_on_behind_what_was_repaired(tmp_path, source):
    def repaired(body, attempt):
        if not body["messages"][-1]["content"].startswith("That was not usable"):
            return PLACEHOLDER.sub("", korean(body, attempt))
        return korean({"messages": [{"content": body["messages"][-3]["content"]}]}, attempt)

    with stand_in(repaired) as server:
        settings = config(server, source, tmp_path / "out")
        translate(settings)
        sent = len(server.bodies)
    assert sent > 9
    assert dry_run(settings)[1].startswith(f"{sent} requests, {sent} of them answered already; about 0 tokens to send")


def test_ids_that_repeat_are_refused_with_both_places(tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text('{"id": 7, "conversations": ["a", "b"]}\n{"id": "7", "conversations": ["c", "d"]}\n')
    with pytest.raises(BllossomError, match=r"the id '7' stands twice, at .*twice.jsonl:1 and .*twice.jsonl:2"):
        translate(config("http://127.0.0.1:9/v1", path, tmp_path / "out"))


def test_translations_that_exist_are_joined_on_id(tmp_path, source):
    target = tmp_path / "target.jsonl"

    def example(identity, turns):
        messages = [{"role": ("user", "assistant")[turn % 2], "content": f"글 {turn}"} for turn in range(turns)]
        return {"id": identity, "messages": messages}

    made = [example("d", 2), example("b", 2), example("c", 2), example("a", 4)]

    def run(records, output="out"):
        target.write_text("".join(json.dumps(record) + "\n" for record in records))
        settings = {
            "source": [{"path": str(source)}],
            "from_file": [{"path": str(target)}],
            "output": tmp_path / output,
        }
        return translate(TranslateConfig.model_validate(settings))

    with pytest.raises(BllossomError, match="1 of 4 examples have no translation, the first 'a'"):
        run(made[:3])
    with pytest.raises(BllossomError, match="1 translations belong to no example, the first 'e'"):
        run([*made, {**made[0], "id": "e"}])
    with pytest.raises(BllossomError, match=r"example 'a' has 4 turns at .* and 2 at"):
        run([*made[:3], {**made[3], "messages": made[3]["messages"][:2]}])
    assert run(made, "good").figures["messages"] == 10
    assert [record["id"] for record in lines(tmp_path / "good" / "target.jsonl")] == list("abcd")


def test_system_messages_that_stay_as_they_are_are_counted_and_said(tmp_path, capsys):
    def example(identity, *texts):
        roles = ("system", "user", "assistant")[3 - len(texts) :]
        turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        return json.dumps({"id": identity, "messages": turns}, ensure_ascii=False) + "\n"

    source, theirs = tmp_path / "source.jsonl", tmp_path / "theirs.jsonl"
    system = "You are a helpful assistant."
    source.write_text(
        example("a", system, "Where is Rome?", "In Italy.")
        + example("b", system, "Thanks!", "You are welcome.")
        + example("c", "How far is it?", "It is near.")
    )
    with stand_in(korean) as server:
        manifest = translate(config(server, source, tmp_path / "out"))
    assert manifest.figures["examples_with_untranslated_system"] == 2
    assert "2 of 3 examples keep their system message untranslated" in capsys.readouterr().err
    kept = [record["messages"][0]["content"] for record in lines(tmp_path / "out" / "target.jsonl")]
    assert kept[:2] == [system] * 2

    theirs.write_text(
        example("a", "당신은 친절한 도우미입니다.", "로마는 어디에 있습니까?", "이탈리아에 있습니다.")
        + example("b", "고맙습니다!", "천만에요.")
        + example("c", "얼마나 멉니까?", "가깝습니다.")
    )
    settings = {"source": [{"path": str(source)}], "from_file": [{"path": str(theirs)}], "output": tmp_path / "joined"}
    manifest = translate(TranslateConfig.model_validate(settings))
    assert manifest.figures["examples_with_untranslated_system"] == 0
    assert "untranslated" not in capsys.readouterr().err


def test_one_translator_is_asked_for(tmp_path, source):
    with pytest.raises(ValueError, match="one of by_endpoint, by_model and from_file"):
        TranslateConfig.model_validate({"source": [{"path": str(source)}], "output": tmp_path / "out"})


def test_after_kill_9_the_same_command_sends_only_what_has_no_answer(tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f'{{"conversations": ["question {n}", "answer {n}"]}}\n' for n in range(30)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with stand_in(korean, delay_seconds=0.03) as server:
        command = [sys.executable, "-m", "bllossom.cli", "localize", "translate", f"output={tmp_path / 'out'}"]
        command += [f"source=[{{path: {path}}}]", f"by_endpoint.system_prompt='{TOLD}'"]
        command += [f"by_endpoint.endpoint={{url: '{server.url}', model: m}}"]
        answers = tmp_path / "out.answers.jsonl"
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
            while not answers.exists() or len(answers.read_bytes().splitlines()) < 15:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        kept = len(read_log(answers))
        time.sleep(0.2)
        before = len(server.bodies)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert len(server.bodies) - before == 60 - kept
    assert len(read_log(answers)) == 60
