"""The whole chain on 40 examples: translated by a stand-in, flagged, reviewed, exported, read by sft's readers."""

import json
import re
from collections import Counter

import pytest
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.instructions.reading import InstructionSource, read_instructions
from bllossom.localize.flag import RuleSettings, make_checker
from bllossom.localize.records import load_pairs
from bllossom.localize.review import LOG, book_of
from bllossom.localize.reviewing.desk import Desk
from bllossom.serving.log import AppendLog
from tests.conftest import ROOT
from tests.serving.stand_in import stand_in

CONFIGS = ROOT / "configs" / "localize"
COUNT = 40
QUESTION = {"Where is mount Stuart?": "스튜어트산은 어디에 있습니까?", "How far is it?": "얼마나 멉니까?"}
ANSWER = {
    "It is far away, 5 miles.": "스튜어트산은 5마일 떨어져 있어요. 멉니다. 아주 멉니다.",
    "It is near.": "가깝습니다.",
}


def translator(body, attempt):
    return (QUESTION | ANSWER)[body["messages"][-1]["content"]]


def command(*arguments):
    return CliRunner().invoke(make_app(), ["localize", *map(str, arguments)])


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The work folder after translate and flag, and the number of requests."""
    work = tmp_path_factory.mktemp("chain")
    questions, answers = list(QUESTION), list(ANSWER)
    records = [{"id": f"x{n}", "instruction": questions[n % 2], "output": answers[n % 2]} for n in range(COUNT)]
    (work / "source.json").write_text(json.dumps(records))
    with stand_in(translator) as server:
        settings = (
            f"source=[{{path: {work / 'source.json'}}}]",
            f"by_endpoint.endpoint.url={server.url}",
            "by_endpoint.endpoint.key_variable=null",
            f"output={work / 'train'}",
        )
        done = command("translate", "--config", CONFIGS / "localize-translate.yaml", *settings)
        assert done.exit_code == 0, done.output
        requests = len(server.bodies)
    done = command(
        "flag", "--config", CONFIGS / "localize-flag.yaml", f"translation={work / 'train'}", f"output={work / 'flags'}"
    )
    assert done.exit_code == 0, done.output
    return work, requests


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def test_equal_requests_are_sent_once_and_flags_have_their_places(chain):
    work, requests = chain
    assert requests == 4
    flags = lines(work / "flags" / "flags.jsonl")
    assert list(flags[0]) == ["id", "turn", "rule", "severity", "start", "end", "reason"]
    target = {record["id"]: record["messages"] for record in lines(work / "train" / "target.jsonl")}
    found = {
        (flag["rule"], target[flag["id"]][flag["turn"]]["content"][flag["start"] : flag["end"]])
        for flag in flags
        if flag["id"] == "x0"
    }
    assert found == {("entity_foreign", "스튜어트산"), ("unit", "5마일"), ("register_mixed", "있어요")}
    assert not any(flag["id"] == "x1" for flag in flags)


def review(work, name, act):
    """Let `act(desk)` decide in a folder of its own."""
    pairs = load_pairs(work / "train")
    checker = make_checker(RuleSettings(language="ko"), pairs)
    with AppendLog(work / name / LOG) as log:
        act(Desk(pairs, checker, {}, book_of(pairs, 4), log))


def decide(desk, identity, action, texts=None, reviewer="하나"):
    texts = texts or list(desk.book.state(identity, reviewer).texts)
    version = desk.book.version(identity, reviewer)
    desk.decide({"reviewer": reviewer, "id": identity, "version": version, "action": action, "texts": texts})


def test_what_was_reviewed_is_exported_and_the_rest_is_refused_or_left_apart(chain):
    work, _ = chain

    def act(desk):
        texts = desk.open({"reviewer": "하나", "id": "x0"})["example"]["turns"]
        posted = {"reviewer": "하나", "id": "x0", "version": 0, "texts": [turn["text"] for turn in texts]}
        desk.entity({**posted, "old": "스튜어트산", "new": "북한산"})
        decide(desk, "x0", "accept", ["북한산은 어디에 있습니까?", "북한산은 8킬로미터 떨어져 있습니다. 멉니다."])
        desk.topic(
            {
                "reviewer": "하나",
                "id": "x1",
                "version": 0,
                "texts": ["얼마나 멉니까?", "가깝습니다."],
                "turn": 0,
                "question": "한강은 깁니까?",
            }
        )
        decide(desk, "x1", "accept", ["한강은 깁니까?", "한강은 494킬로미터입니다."])
        decide(
            desk,
            "x2",
            "accept",
            ["스튜어트산은 어디에 있습니까?", "스튜어트산은 5마일 떨어져 있습니다. 멉니다. 아주 멉니다."],
        )
        decide(desk, "x3", "drop")
        decide(desk, "x5", "accept")
        decide(desk, "x0", "accept", reviewer="두리")

    review(work, "review", act)
    arguments = ("export", "--config", CONFIGS / "localize-export.yaml", f"translation={work / 'train'}")
    arguments += (f"reviews={work / 'review'}", f"output={work / 'export'}")
    refused = command(*arguments)
    assert refused.exit_code == 1
    assert "35 of 40 examples are open; review them, or export with --partial" in refused.stderr
    done = command(*arguments, "--partial")
    assert done.exit_code == 0, done.output
    counts = {name: len(lines(work / "export" / f"{name}.jsonl")) for name in ("accepted", "dropped", "open")}
    assert counts == {"accepted": 4, "dropped": 1, "open": 35}
    report = json.loads((work / "export" / "report.json").read_text())
    assert {name: found["examples"] for name, found in report["changes"].items()} == {
        "topic": 1, "entity": 1, "style": 1, "none": 1,
    }  # fmt: skip
    assert report["flags"]["register_mixed"] == {"before": 2, "after": 0}
    assert report["flags"]["entity_foreign"] == {"before": 4, "after": 2}
    assert report["agreement"]["examples"] == 1
    assert report["shown"]["topic"][0]["machine"] in ("얼마나 멉니까?", "가깝습니다.")
    assert report["changes"]["style"]["characters_changed"] == 3
    card = (work / "export" / "README.md").read_text()
    assert "license: cc-by-nc-sa-4.0" in card
    assert "| reviewers | 2 |" in card
    read = read_instructions([InstructionSource(path=str(work / "export" / "accepted.jsonl"))])
    assert read.conversations[0].messages[1].content == "북한산은 8킬로미터 떨어져 있습니다. 멉니다."
    again = command(*arguments, "--partial", f"output={work / 'again'}")
    assert again.exit_code == 0, again.output
    prints = [json.loads((work / name / "manifest.json").read_text())["fingerprint"] for name in ("export", "again")]
    assert prints[0] == prints[1]


def test_an_example_is_given_to_one_person_at_a_time_and_freed_in_the_end(chain):
    work, _ = chain
    now = [1000.0]

    def act(desk):
        desk.clock = lambda: now[0]
        given = Counter(desk.next({"reviewer": name})["example"]["id"] for name in ("하나", "두리", "세찬"))
        assert given == {"x0": 2, "x1": 1}  # x0 is judged twice, and with two people
        for name in ("하나", "두리", "세찬"):
            desk.next({"reviewer": name, "after": "x0"})
        held = {identity: who for who, (identity, _) in desk._held.items()}
        assert len(held) == 3
        first = next(iter(held))
        other = next(name for name in ("하나", "두리") if name != held[first])
        with pytest.raises(Exception, match="is with"):
            decide(desk, first, "accept", reviewer=other)
        now[0] += 10_000
        decide(desk, first, "accept", reviewer=other)

    review(work, "leases", act)


def test_the_recipe_runs_as_its_first_lines_tell(tmp_path, monkeypatch):
    """Translated and flagged, then reviewed by people, then exported: each part before the next one's inputs are."""
    recipe = CONFIGS / "recipe.yaml"
    typed = re.findall(r"^# +bllossom (run) \S+ (.*)$", recipe.read_text(encoding="utf8"), re.MULTILINE)
    (tmp_path / "instructions").mkdir()
    for name, turns in (("train.json", ["How far is it?", "It is near."]), ("test.jsonl", ["How far is it?"])):
        (tmp_path / f"instructions/lima_en_{name}").write_text(json.dumps({"conversations": turns}) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLLOSSOM_SHARED", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "none")

    def run(part):
        done = CliRunner().invoke(make_app(), ["run", str(recipe), *part.split()])
        assert done.exit_code == 0, done.output

    with stand_in(translator) as server:
        monkeypatch.setenv("BLLOSSOM_ENDPOINT", server.url)
        run(typed[0][1])
        for name in ("train", "test"):
            pairs = load_pairs(tmp_path / "runs/localize" / name)
            with AppendLog(tmp_path / f"runs/localize/{name}-review" / LOG) as log:
                desk = Desk(pairs, make_checker(RuleSettings(language="ko"), pairs), {}, book_of(pairs), log)
                decide(desk, pairs[0].id, "accept")
        run(typed[1][1])
    for name in ("train", "test"):
        assert len(lines(tmp_path / f"runs/localize/{name}-export/accepted.jsonl")) == 1


def test_answers_in_another_language_are_kept_and_flagged_as_untranslated(tmp_path):
    said = {
        "Where is it?": "それはどこにありますか。",  # Japanese
        "It is on the left side of the hill.": "Es steht auf der linken Seite des Hügels.",
        "How far is it?": "How far is it from the old bridge?",
        "It is near.": "가깝습니다.",
    }
    source = tmp_path / "source.jsonl"
    dialogues = [list(said)[:2], list(said)[2:]]
    source.write_text("".join(json.dumps({"conversations": turns}) + "\n" for turns in dialogues))
    with stand_in(lambda body, attempt: said[body["messages"][-1]["content"]]) as server:
        asked = f"endpoint: {{url: '{server.url}', model: m, key_variable: null}}, system_prompt: Into Korean."
        settings = f"by_endpoint={{{asked}}}"
        done = command("translate", f"source=[{{path: {source}}}]", settings, f"output={tmp_path / 'train'}")
        assert done.exit_code == 0, done.output
    done = command("flag", f"translation={tmp_path / 'train'}", "rules.language=ko", f"output={tmp_path / 'flags'}")
    assert done.exit_code == 0, done.output
    flags = lines(tmp_path / "flags" / "flags.jsonl")
    found = [(flag["id"], flag["turn"], flag["severity"]) for flag in flags if flag["rule"] == "untranslated"]
    assert found == [("1", 0, "error"), ("1", 1, "error"), ("2", 0, "error")]
    kept = [
        message["content"] for record in lines(tmp_path / "train" / "target.jsonl") for message in record["messages"]
    ]
    assert kept == list(said.values())
