"""Judges of known character before two models: the statistics say what they are, and nothing is asked twice."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.judge.judge import JudgeConfig, dry_run, judge
from tests.evaluation.judge.characters import CHARACTERS, PROSE, longer
from tests.evaluation.judge.conftest import PROMPTS, write_answers
from tests.serving.stand_in import stand_in

pytest.importorskip("lingua", reason="lingua is not installed (pip install 'bllossom[judge]')")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def figures_of(config, character, **changes):
    with stand_in(CHARACTERS[character]) as server:
        manifest = judge(config(server.url, **changes))
    [pair] = manifest.figures["pairs"]
    return pair, manifest.figures, server


def test_a_judge_of_length_wins_by_length_alone(config):
    pair, _figures, server = figures_of(config, "longer")
    assert pair["win_rate"]["value"] > 0.6
    assert pair["sign_test_p"] < 0.05
    assert pair["by_length"]["a longer"]["win_rate"] == 1
    assert pair["by_length"]["a shorter"]["win_rate"] == 0
    low, high = pair["length_controlled_win_rate"]["interval"]
    assert low < 0.5 < high
    assert (pair["inconsistent"], pair["error"], pair["flip_rate"]) == (0, 0, 0)
    assert pair["first_position_rate"] == 0.5
    assert len(server.bodies) == 2 * PROMPTS
    assert {body["temperature"] for body in server.bodies} == {0}


def test_a_judge_of_the_first_place_has_no_winner(config, capsys):
    pair, figures, _ = figures_of(config, "first")
    told = f"wordy against terse: win 0, tie 0, lose 0, inconsistent {PROMPTS}, error 0; win rate 50.0 % [50.0, 50.0]"
    assert told in capsys.readouterr().err
    assert pair["first_position_rate"] == 1
    assert pair["flip_rate"] == 1
    assert pair["inconsistent"] == PROMPTS
    assert pair["tie"] == 0
    assert pair["win_rate"]["value"] == 0.5
    assert pair["consistent_win_rate"]["value"] is None
    assert pair["sign_test_p"] == 1
    assert figures["preferences"] == 0


def test_prose_without_a_verdict_is_asked_once_more_and_then_an_error_not_a_tie(config, tmp_path):
    pair, figures, server = figures_of(config, "nonsense")
    assert (pair["error"], pair["tie"], pair["win_rate"]["value"], pair["reliable"]) == (PROMPTS, 0, None, False)
    assert len(server.bodies) == 2 * 2 * PROMPTS
    assert figures["asked_again"] == 2 * PROMPTS
    again = [body["messages"] for body in server.bodies if len(body["messages"]) > 2]
    assert all(messages[-2] == {"role": "assistant", "content": PROSE} for messages in again)
    assert "**" not in (tmp_path / "judged" / "report.md").read_text(encoding="utf8")
    assert {record["verdict"] for record in lines(tmp_path / "judged" / "verdicts.jsonl")} == {"error"}


@pytest.mark.parametrize(("character", "attempts"), [("busy", 3), ("cut", 2)])
def test_a_judge_that_stumbles_says_the_same_in_the_end(config, character, attempts, tmp_path):
    pair, _, server = figures_of(config, character)
    assert len(server.bodies) == attempts * 2 * PROMPTS
    smooth, _, _ = figures_of(config, "longer", output=tmp_path / "smooth")
    assert pair == smooth


def test_a_second_try_counts(config):
    with stand_in(lambda body, attempt: longer(body, 0) if len(body["messages"]) > 2 else PROSE) as server:
        figures = judge(config(server.url)).figures
    assert figures["pairs"][0]["error"] == 0
    assert figures["asked_again"] == 2 * PROMPTS


def test_verdicts_and_preferences_are_files_that_others_read(config, tmp_path, two_models):
    price = {"price": {"input": 1.0, "output": 2.0}}
    with stand_in(longer) as server:
        manifest = judge(config(server.url, endpoint=price))
    verdicts = lines(tmp_path / "judged" / "verdicts.jsonl")
    assert list(verdicts[0]) == ["id", "a", "b", "order", "verdict", "raw", "prompt_version", "cost"]
    assert [record["order"] for record in verdicts[:4]] == ["ab", "ba", "ab", "ba"]
    assert verdicts[0]["prompt_version"] == "en-1"
    assert verdicts[0]["cost"] == pytest.approx((10 * 1 + 5 * 2) / 1e6)  # what the stand-in says it used
    assert manifest.figures["cost"] == pytest.approx(2 * PROMPTS * 20 / 1e6)
    wordy, terse = ({record["id"]: record for record in lines(path)} for path in two_models)
    preferences = lines(tmp_path / "judged" / "preferences.jsonl")
    assert len(preferences) == PROMPTS - manifest.figures["pairs"][0]["tie"]
    for one in preferences:
        [id_] = [key for key, record in wordy.items() if record["messages"] == one["prompt"]]
        both = [wordy[id_]["answer"], terse[id_]["answer"]]
        assert one["chosen"] == [{"role": "assistant", "content": max(both, key=len)}]
        assert one["rejected"] == [{"role": "assistant", "content": min(both, key=len)}]
    svg = (tmp_path / "judged" / "pictures" / "terse.svg").read_text(encoding="utf8")
    assert "against wordy" in svg
    assert "prefers-color-scheme:dark" in svg


def test_no_name_of_a_model_reaches_the_judge(config):
    with stand_in(longer) as server:
        judge(config(server.url))
    sent = json.dumps([body["messages"] for body in server.bodies])
    assert "wordy" not in sent
    assert "terse" not in sent


def test_what_was_answered_is_not_asked_again_for_another_wording_of_the_config(config, tmp_path):
    with stand_in(longer) as server:
        first = judge(config(server.url))
        again = judge(
            config(server.url, draws=200, output=tmp_path / "again", replies=tmp_path / "judged.replies.jsonl")
        )
        assert len(server.bodies) == 2 * PROMPTS
        judge(config(server.url, prompt="ko", output=tmp_path / "ko", replies=tmp_path / "judged.replies.jsonl"))
    assert len(server.bodies) == 4 * PROMPTS
    assert again.figures["pairs"][0]["win"] == first.figures["pairs"][0]["win"]


def test_after_kill_9_only_what_has_no_reply_is_asked(config, tmp_path):
    replies = tmp_path / "judged.replies.jsonl"
    with stand_in(longer, delay_seconds=0.03) as server:
        settings = config(server.url, endpoint={"concurrency": 4})
        (tmp_path / "judge.yaml").write_text(settings.model_dump_json(exclude={"replies"}), encoding="utf8")
        command = [sys.executable, "-m", "bllossom.cli", "judge", "--config", str(tmp_path / "judge.yaml")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while not replies.exists() or replies.read_bytes().count(b"\n") < 15:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        kept = replies.read_bytes().count(b"\n")
        time.sleep(0.1)  # what was under way arrives
        before = len(server.bodies)
        judge(settings)
    assert len(server.bodies) - before == 2 * PROMPTS - kept
    assert before - kept <= 4
    assert len(lines(tmp_path / "judged" / "verdicts.jsonl")) == 2 * PROMPTS


def test_max_cost_stops_before_it_is_passed_and_the_rest_is_asked_later(config):
    dear = {"price": {"input": 0, "output": 1e6}, "max_tokens": 5, "max_cost": 100}
    with stand_in(longer) as server:
        with pytest.raises(BllossomError, match="max_cost 100 is reached"):
            judge(config(server.url, endpoint=dear))
        assert len(server.bodies) <= 20
        judge(config(server.url, endpoint=dear | {"max_cost": 1000}))
    assert len(server.bodies) == 2 * PROMPTS


def test_a_dry_run_counts_requests_tokens_and_money_and_sends_nothing(config):
    with stand_in(longer) as server:
        told = dry_run(config(server.url, endpoint={"price": {"input": 1.0, "output": 1.0}}))
        assert server.bodies == []
    assert f"wordy against terse: {PROMPTS} prompts in both orders" in told
    assert any(f"{2 * PROMPTS} requests, 0 of them answered already" in line and "in money" in line for line in told)


def test_requests_that_are_refused_are_errors_and_told(config, capsys):
    refused = ["number 3 "]

    def rule(body, attempt):
        return (400, {}, b"too long") if any(part in str(body) for part in refused) else longer(body, attempt)

    with stand_in(rule) as server:
        assert judge(config(server.url)).figures["pairs"][0]["error"] == 1
        told = " ".join(capsys.readouterr().err.split())
        assert "2 requests have no reply, counted as errors, the first: " in told
        assert "--force asks them again, and only them" in told
        refused.clear()
        asked = len(server.bodies)
        assert judge(config(server.url)).figures["pairs"][0]["error"] == 1
        assert "2 requests have no reply: --force asks them again" in " ".join(capsys.readouterr().err.split())
        assert judge(config(server.url), force=True).figures["pairs"][0]["error"] == 0
        assert len(server.bodies) == asked + 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((402, {}, b"pay"), "out of money"),
        ((401, {}, b"who"), "refuses the key"),
        ((500, {}, b"no"), r"no request has .*; run the same command later"),
        ((400, {}, b"no"), r"no request has .* refused a request .*; change the request\)$"),
    ],
)
def test_an_endpoint_that_cannot_be_used_ends_the_run(config, answer, message):
    with stand_in(lambda body, attempt: answer) as server, pytest.raises(BllossomError, match=message):
        judge(config(server.url, endpoint={"attempts": 2}))


def test_an_endpoint_that_is_away(config):
    with stand_in(longer) as server:
        settings = config(server.url, endpoint={"attempts": 2})
    with pytest.raises(BllossomError, match="is away"):
        judge(settings)


def test_a_missing_key_is_named_before_anything_is_made(config, monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        judge(config("http://127.0.0.1:1/v1"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("said", "lost"), [({"language": "en"}, (0, 6)), ({}, (6, 0))])
def test_an_answer_in_another_language_is_counted_and_loses_where_asked(said, lost, config, tmp_path, capsys):
    """Where the prompt says its language: by a guess, which may name any of those that are told apart, nobody loses."""
    korean = "이 집 근처에는 오래된 시장과 강이 있고 그 뒤로 높은 산이 보입니다. 마을 사람들은 그곳을 좋아합니다. " * 3
    english = "An old market stands near that house, with a river behind it."
    answers = [
        write_answers(tmp_path / "in-korean.jsonl", [korean] * 6, **said),
        write_answers(tmp_path / "in-english.jsonl", [english] * 6, **said),
    ]
    with stand_in(longer) as server:
        [counted] = judge(config(server.url, answers=answers)).figures["pairs"]
        strict = judge(config(server.url, answers=answers, wrong_language="loses", output=tmp_path / "strict"))
    assert counted["wrong_language"] == {"a": 6, "b": 0}
    assert (counted["win"], counted["lose"]) == (6, 0)
    assert (strict.figures["pairs"][0]["win"], strict.figures["pairs"][0]["lose"]) == lost
    if said:
        assert strict.figures["preferences"] == 0  # what the judge took is not what is to be learnt
    guessed = " ".join(capsys.readouterr().err.split())
    assert ("6 prompts do not say in which language they are: it is guessed among en, ko" in guessed) != bool(said)
    assert list(counted["by_language"]) == ["en"]


def test_a_round_robin_gives_strengths_and_a_picture_a_model(config, tmp_path):
    folder = tmp_path / "answers"
    folder.mkdir()
    for name, words in (("one", 1), ("two", 2), ("three", 3)):
        write_answers(folder / f"{name}.jsonl", ["mountains and rivers " * words] * 8)
    with stand_in(longer) as server:
        figures = judge(config(server.url, answers=[folder])).figures
    assert [(pair["a"], pair["b"]) for pair in figures["pairs"]] == [("one", "three"), ("one", "two"), ("three", "two")]
    assert list(figures["strengths"]) == ["three", "two", "one"]
    pictures = tmp_path / "judged" / "pictures"
    assert sorted(path.name for path in pictures.iterdir()) == ["one.svg", "three.svg", "two.svg"]
    assert "against one: win 8, tie 0, inconsistent 0, lose 0" in (pictures / "two.svg").read_text(encoding="utf8")


def test_one_judge_is_needed(two_models, tmp_path):
    with pytest.raises(ValueError, match="one judge is needed"):
        JudgeConfig(output=tmp_path / "o", answers=list(two_models))


def test_a_seed_that_no_bootstrap_takes_is_refused(config):
    with pytest.raises(ValueError, match="seed"):
        config("http://nowhere", seed=-1)


def test_a_prompt_of_one_s_own_may_lie_at_home(config, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config("http://nowhere", prompt="~/mine.yaml").prompt == tmp_path / "mine.yaml"
    assert config("http://nowhere", prompt="ko").prompt == "ko"


def test_prompts_in_a_language_that_is_not_told_apart_are_refused_before_it_costs(config, tmp_path):
    answers = [write_answers(tmp_path / f"{name}.jsonl", [name] * 2, language="vi-VN") for name in ("one", "two")]
    with stand_in(longer) as server:
        with pytest.raises(ConfigError, match="there are prompts in vi, which is not among en, ko"):
            judge(config(server.url, answers=answers))
        assert server.bodies == []
        [pair] = judge(config(server.url, answers=answers, languages=[])).figures["pairs"]
    assert pair["wrong_language"] == {"a": None, "b": None}
    assert "| one – two | – | 0.0 % | 3 | 3 | – | – |" in (tmp_path / "judged" / "report.md").read_text(encoding="utf8")
