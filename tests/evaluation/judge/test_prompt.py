"""Prompts in both languages ask for a verdict; one's own may, and one that could not be answered is refused."""

from pathlib import Path

import pytest
import yaml

from bllossom.errors import ConfigError
from bllossom.evaluation.judge.pairs import Item
from bllossom.evaluation.judge.prompt import load_prompt
from bllossom.evaluation.judge.verdicts import parse

ITEM = Item("1", [{"role": "user", "content": "Where {first}?"}], "Here, {second}.", "There [[A]].", None, None)
OWN = {
    "version": "own-1",
    "user": "Q {question} 1 {first} 2 {second}: write <1>, <2> or <=>",
    "again": "Only <1>, <2> or <=>",
    "tags": {"first": "<1>", "second": "<2>", "tie": "<=>"},
}


@pytest.mark.parametrize("name", ["en", "ko"])
def test_the_prompts_that_come_along(name):
    prompt = load_prompt(name)
    system, user = prompt.messages(ITEM, "ab")
    assert system["role"] == "system"
    assert all(tag in system["content"] for tag in ("[[A]]", "[[B]]", "[[C]]"))
    assert all(tag in prompt.again for tag in ("[[A]]", "[[B]]", "[[C]]"))
    places = [user["content"].index(text) for text in ("Where {first}?", "Here, {second}.", "There [[A]].")]
    assert places == sorted(places)  # what looks like a place of the prompt's in an answer is left alone
    turned = prompt.messages(ITEM, "ba")[1]["content"]
    assert turned.index("There [[A]].") < turned.index("Here, {second}.")
    # A judge that answers with the question "again" as it stands has named no one verdict: its last tag would be a tie.
    assert parse(prompt.again, prompt.tags.by_place()) == "tie"


def test_a_dialogue_is_written_down_with_its_roles():
    messages = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "In Rome."},
        {"role": "user", "content": "And when?"},
    ]
    item = Item("1", messages, "a", "b", None, None)
    assert (
        "User: Where?\n\nAssistant: In Rome.\n\nUser: And when?" in load_prompt("en").messages(item, "ab")[1]["content"]
    )
    assert "도우미: In Rome." in load_prompt("ko").messages(item, "ab")[1]["content"]


def test_ones_own_prompt_names_its_own_tags(tmp_path: Path):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN))
    prompt = load_prompt(str(tmp_path / "own.yaml"))
    assert [message["role"] for message in prompt.messages(ITEM, "ab")] == ["user"]
    assert parse("[[A]] <2>", prompt.tags.by_place()) == "second"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": "{question} {first} {second}"}, "<1> stands nowhere in system or user"),
        ({"user": OWN["user"].replace("{second}", "")}, "user: has no {second}"),
        ({"tags": {"first": "[[a]]", "second": "[[A]]", "tie": "<=>"}}, "two are the same"),
        ({"tags": {"first": "<1>", "second": "<2>"}}, "tags.tie: is missing"),
        ({"again": ""}, "again"),
        ({"versoin": "x"}, "versoin: unknown key"),
    ],
)
def test_a_prompt_that_could_not_be_answered_is_refused(tmp_path, change, message):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN | change))
    with pytest.raises(ConfigError, match=message):
        load_prompt(str(tmp_path / "own.yaml"))


def test_a_prompt_that_is_not_there():
    with pytest.raises(ConfigError, match="there is no fr; name en or ko, or a YAML file of your own"):
        load_prompt("fr")
