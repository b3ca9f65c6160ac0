"""Chatting: history, commands, a pipe, and Ctrl-C."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.errors import BllossomError
from bllossom.evaluation import chat as chat_module
from bllossom.evaluation.chat import ChatSettings, Talk, answer_lines, converse, load_talks
from bllossom.instructions.formats.choose import chat_format
from bllossom.tokenizer.load import load_tokenizer
from tests.fixtures.tiny_chat import write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_model(tmp_path_factory.mktemp("chat") / "model")
    template = chat_format("chatml", load_tokenizer(folder)).template
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture
def talk(model: Path) -> Talk:
    [made] = load_talks([str(model)], ChatSettings(temperature=1, top_p=1, max_tokens=8, seed=1))
    made.begin("")
    return made


def typed(talks: list[Talk], *lines: str) -> str:
    """What is on the screen after these lines; the end of input ends it."""
    script: Iterator[str] = iter(lines)

    def read(_: str) -> str:
        try:
            return next(script)
        except StopIteration:
            raise EOFError from None

    screen = io.StringIO()
    converse(talks, "", read, Console(file=screen, width=200, highlight=False))
    return screen.getvalue()


def test_answers_are_remembered_and_saved_in_the_shape_that_sft_reads(talk: Talk, tmp_path: Path) -> None:
    typed([talk], "/system Be brief.", "Hi", "And </s><|im_end|>?", f"/save {tmp_path / 'a.jsonl'}", "/quit", "never")
    assert [message["role"] for message in talk.messages] == ["system", *["user", "assistant"] * 2]
    assert talk.messages[3]["content"] == "And </s><|im_end|>?"
    saved = json.loads((tmp_path / "a.jsonl").read_text())
    assert saved["messages"] == talk.messages
    ids = talk.model.encode([*talk.messages, {"role": "user", "content": "</s>"}])
    end = talk.model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ids.count(end) == 6  # what was typed made none
    typed([talk], "/reset")
    assert talk.messages == []


def test_ctrl_c_ends_the_answer_and_not_the_program(talk: Talk) -> None:
    heard: list[str] = []

    def interrupt(text: str) -> None:
        heard.append(text)
        if len(heard) == 3:
            raise KeyboardInterrupt

    answer = talk.ask("Hi", interrupt)
    assert len(heard) == 3
    assert answer == heard[-1]
    assert talk.messages[-1] == {"role": "assistant", "content": answer}
    assert len(talk.ask("And?")) > 0


def test_wrong_commands_and_full_windows_are_said_and_the_talk_goes_on(talk: Talk) -> None:
    screen = typed([talk], "/what", "/save", "x" * 600, "Hi")
    assert screen.count("there is no command") == 2
    assert "the conversation has" in screen
    assert [message["content"] for message in talk.messages[:1]] == ["Hi"]


def test_two_models_answer_side_by_side(talk: Talk, model: Path) -> None:
    [other] = load_talks([str(model)], ChatSettings(temperature=0, top_p=1, max_tokens=8, seed=0))
    screen = typed([talk, other], "Hi")
    assert str(model) in screen
    assert [len(each.messages) for each in (talk, other)] == [2, 2]


def test_a_pipe_has_one_json_for_each_line(model: Path) -> None:
    arguments = ["chat", str(model), "--max-tokens", "4", "--seed", "3"]
    once, again = (CliRunner().invoke(make_app(), arguments, input="Hi\n\nHi\nCount.\n") for _ in range(2))
    assert once.exit_code == 0, once.stderr
    records: list[dict[str, Any]] = [json.loads(line) for line in once.stdout.splitlines()]
    assert [record["prompt"] for record in records] == ["Hi", "Hi", "Count."]
    assert records[0] == records[1]  # each question stands alone
    assert once.stdout == again.stdout


def test_a_line_that_cannot_be_asked_leaves_the_others_their_answers(model: Path) -> None:
    lines = b"Hi\n" + b"x" * 600 + b"\nno \xff UTF-8\n\xe2\x80\x8b\nCount.\n"
    result = CliRunner().invoke(make_app(), ["chat", str(model), "--max-tokens", "4"], input=lines)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert ["answer" in record for record in records] == [True, False, False, False, True]
    assert "a window of 256" in records[1]["error"]
    assert "surrogate" in records[2]["error"]
    assert result.exit_code == 1
    assert "3 questions have no answer" in result.stderr


def test_ctrl_c_in_a_pipe_ends_the_program(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(chat_module, "generate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        answer_lines(["Hi"], [talk], "", print)


def test_an_answer_that_nobody_sees_is_none(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Talk, "_text", lambda self, ids: "\u200b")
    talk.ask("Hi")
    assert talk.messages == []
    talk.ask("And?")


def test_a_home_is_known_where_the_talk_is_saved(talk: Talk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    typed([talk], "Hi", "/save ~/a.jsonl")
    assert (tmp_path / "a.jsonl").is_file()


def test_a_format_can_be_named_and_top_p_of_nothing_takes_the_likeliest(tmp_path: Path) -> None:
    bare = write_tiny_model(tmp_path / "bare")
    arguments = ["chat", str(bare), "--template", "lima", "--max-tokens", "3"]
    drawn, likeliest = (
        CliRunner().invoke(make_app(), [*arguments, *more], input="Hi\n")
        for more in (["--top-p", "0"], ["--temperature", "0"])
    )
    assert drawn.exit_code == 0, drawn.stderr
    assert drawn.stdout == likeliest.stdout


def test_a_model_without_a_format_and_three_models_are_refused(model: Path, tmp_path: Path) -> None:
    bare = write_tiny_model(tmp_path / "bare")
    with pytest.raises(BllossomError, match="no chat template of its own"):
        load_talks([str(bare)], ChatSettings(0, 1, 4, 0))
    result = CliRunner().invoke(make_app(), ["chat", *[str(model)] * 3], input="")
    assert result.exit_code == 1
