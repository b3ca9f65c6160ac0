"""The client against an endpoint on loopback that is slow, broken, away, dear, or killed in between."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.errors import BllossomError, ConfigError
from bllossom.serving.client import (
    Client,
    EndpointError,
    RequestFailedError,
    estimate,
    gather,
    request_key,
)
from bllossom.serving.endpoint import Endpoint, estimate_tokens

from .stand_in import stand_in

KEY = "sk-of-nobody-5f2d"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def user(text):
    return [{"role": "user", "content": text}]


def echo(body, attempt):
    return body["messages"][-1]["content"].upper()


def endpoint(server, **settings):
    return Endpoint(url=server.url, model="m", **{"backoff_seconds": 0.01, **settings})


def ask_all(point, answers, texts):
    """The outcomes of asking all texts: a reply's text, or the error."""

    async def one(client, text):
        try:
            return (await client.ask(user(text))).text
        except RequestFailedError as error:
            return error

    async def run():
        async with Client(point, answers) as client, asyncio.timeout(60):
            return await gather([one(client, text) for text in texts], "asking"), client

    return asyncio.run(run())


def test_requests_are_bounded_and_sent_once_also_when_asked_twice_at_once_and_in_another_run(tmp_path):
    texts = [f"question {number % 20}" for number in range(40)]
    with stand_in(echo, delay_seconds=0.02) as server:
        replies, _ = ask_all(endpoint(server, concurrency=4), tmp_path / "answers.jsonl", texts)
        again, client = ask_all(endpoint(server, concurrency=4), tmp_path / "answers.jsonl", texts)
    assert replies == again == [text.upper() for text in texts]
    assert len(server.bodies) == 20
    assert client.sent == 0
    assert 2 <= server.most_at_once <= 4


def test_replies_of_another_version_are_refused_and_answers_of_a_model_here_passed_over(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps({"key": "local", "text": "mine"}) + "\n")
    with stand_in(echo) as server:
        ask_all(endpoint(server), file, ["question"])
        ask_all(endpoint(server), file, ["question"])
        assert len(server.bodies) == 1
        records = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text(json.dumps(records[1] | {"seen": True}) + "\n")
        with pytest.raises(BllossomError, match="holds a record of another version"):
            ask_all(endpoint(server), file, ["question"])
    assert len(server.bodies) == 1


def test_a_kept_reply_with_half_a_surrogate_pair_is_asked_again(tmp_path):
    file = tmp_path / "answers.jsonl"
    with stand_in(echo) as server:
        ask_all(endpoint(server), file, ["question"])
        file.write_text(json.dumps(json.loads(file.read_text()) | {"text": "\ud83d"}) + "\n")
        replies, client = ask_all(endpoint(server), file, ["question"])
    assert (replies, client.sent) == (["QUESTION"], 1)


@pytest.mark.parametrize(
    "misbehaviour",
    [
        (429, {"retry-after": "0"}, b"slow down"),
        (503, {}, b"overloaded"),
        (200, {}, b"<html>hello</html>"),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"message": {"content": null}}]}'),
        (200, {}, rb'{"choices": [{"message": {"content": "half a pair: \ud83d"}}]}'),
        (200, {"content-length": "5000"}, b'{"choices": [{"mess'),
    ],
)
def test_a_request_is_asked_again_until_it_has_a_whole_answer(tmp_path, misbehaviour):
    with stand_in(lambda body, attempt: misbehaviour if attempt < 2 else "fine") as server:
        replies, client = ask_all(endpoint(server), tmp_path / "answers.jsonl", ["q"])
    assert replies == ["fine"]
    assert client.sent == len(server.bodies) == 3


def test_a_slow_answer_is_a_time_out_and_asked_again(tmp_path):
    def slow_at_first(body, attempt):
        if attempt == 0:
            time.sleep(0.5)
        return "fine"

    with stand_in(slow_at_first) as server:
        replies, _ = ask_all(endpoint(server, timeout_seconds=0.2), tmp_path / "answers.jsonl", ["q"])
    assert replies == ["fine"]


def test_retry_after_is_obeyed(tmp_path):
    with stand_in(lambda body, attempt: (429, {"retry-after": "0.4"}, b"") if attempt == 0 else "fine") as server:
        start = time.monotonic()
        ask_all(endpoint(server), tmp_path / "answers.jsonl", ["q"])
    assert time.monotonic() - start >= 0.4


def test_one_request_that_fails_in_every_attempt_leaves_the_others_alone(tmp_path):
    def rule(body, attempt):
        return (500, {}, b"no") if "bad" in body["messages"][-1]["content"] else "fine"

    with stand_in(rule) as server:
        replies, _ = ask_all(endpoint(server, attempts=3), tmp_path / "answers.jsonl", ["a", "bad", "b"])
    assert [replies[0], replies[2]] == ["fine", "fine"]
    assert "failed 3 times, last with HTTP 500" in str(replies[1])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {}, f"wrong key {KEY}".encode()), "refuses the key in OPENAI_API_KEY"),
        ((402, {}, b"pay"), "is out of money"),
        ((429, {}, b'{"error": {"code": "insufficient_quota"}}'), "is out of money"),
        ((404, {}, b"no such model"), "correct url or model"),
        ((301, {"location": "https://there/v1"}, b""), "sends on to https://there/v1 .* correct url"),
    ],
)
def test_what_cannot_work_ends_the_run_at_once(tmp_path, answer, message):
    with stand_in(lambda body, attempt: answer) as server, pytest.raises(EndpointError, match=message) as raised:
        ask_all(endpoint(server, concurrency=1), tmp_path / "answers.jsonl", list("abcdef"))
    assert KEY not in str(raised.value)
    assert len(server.bodies) <= 2


def test_an_endpoint_that_is_away_is_told(tmp_path):
    with stand_in(echo) as server:
        point = endpoint(server, attempts=2)
    with pytest.raises(EndpointError, match=r"is away .* start it, or correct url"):
        ask_all(point, tmp_path / "answers.jsonl", ["q"])


def test_a_missing_key_is_named_and_the_key_is_written_nowhere(tmp_path, monkeypatch, capsys):
    with stand_in(lambda body, attempt: (500, {}, f"you are {KEY}".encode()) if attempt == 0 else "fine") as server:
        replies, _ = ask_all(endpoint(server), tmp_path / "answers.jsonl", ["q"])
        failed, _ = ask_all(endpoint(server, attempts=1), tmp_path / "answers.jsonl", ["r"])
        monkeypatch.delenv("OPENAI_API_KEY")
        with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
            ask_all(endpoint(server), tmp_path / "answers.jsonl", ["q"])
        ask_all(endpoint(server, key_variable=None, temperature=1.0), tmp_path / "answers.jsonl", ["q"])
    assert server.keys == [f"Bearer {KEY}"] * 3 + [None] * 2
    assert replies == ["fine"]
    said = capsys.readouterr()
    assert KEY not in (tmp_path / "answers.jsonl").read_text() + said.err + said.out + str(failed[0])


def test_max_cost_is_never_passed_and_a_higher_one_goes_on(tmp_path):
    answers = tmp_path / "answers.jsonl"
    questions = [f"q{number}" for number in range(10)]
    dear = {"price": {"input": 0, "output": 1e6}, "max_tokens": 5, "concurrency": 8}  # an answer costs 5, at most 5
    with stand_in(echo, delay_seconds=0.01) as server:
        with pytest.raises(EndpointError, match=r"max_cost 22 is reached: 20\.0000 is spent"):
            ask_all(endpoint(server, max_cost=22, **dear), answers, questions)
        assert len(server.bodies) == 4
        replies, client = ask_all(
            endpoint(server, max_cost=50, **dear), answers, [f"q{number}" for number in range(10)]
        )
    assert len(server.bodies) == 10
    assert client.spent == 50
    assert replies == [f"Q{number}" for number in range(10)]


def test_max_cost_ends_the_run_whatever_the_requests_cost(tmp_path):
    def of_many_lengths(body, attempt):
        length = len(body["messages"][-1]["content"])
        choice = {"message": {"content": "fine"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": length // 4, "completion_tokens": 100 + length % 300}
        return 200, {}, json.dumps({"choices": [choice], "usage": usage}).encode()

    questions = ["word " * (number * 37 % 200 + 3) + str(number) for number in range(100)]
    price = {"input": 2.5, "output": 10}
    with stand_in(of_many_lengths) as server, pytest.raises(EndpointError, match=r"max_cost 0\.15 is reached"):
        ask_all(endpoint(server, price=price, max_cost=0.15, max_tokens=1024), tmp_path / "answers.jsonl", questions)


def test_max_cost_needs_a_price():
    with pytest.raises(ValueError, match="max_cost needs price"):
        Endpoint(url="http://127.0.0.1:1/v1", model="m", max_cost=1)


def test_a_dry_run_counts_without_sending(tmp_path):
    answers = tmp_path / "answers.jsonl"
    with stand_in(echo) as server:
        point = endpoint(server, price={"input": 1.0, "output": 2.0})
        ask_all(point, answers, ["known"])
        found = estimate(point, answers, [(user(text), "an answer, say") for text in ("known", "new", "new")])
        assert len(server.bodies) == 1
    assert (found.requests, found.answered) == (3, 2)
    assert found.input_tokens == 1 + 4
    assert found.output_tokens == 4
    assert found.cost == pytest.approx((5 * 1 + 4 * 2) / 1e6)


def test_settings_and_again_make_another_request():
    point = Endpoint(url="http://a/v1", model="m")
    same = Endpoint(url="http://b/v1", model="m", concurrency=3)
    keys = [request_key(point, user("q")), request_key(same, user("q"))]
    assert keys[0] == keys[1]
    others = [{"model": "n"}, {"temperature": 1.0}, {"max_tokens": 7}, {"parameters": {"seed": 1}}]
    keys += [request_key(point.model_copy(update=other), user("q")) for other in others]
    keys.append(request_key(point, user("q"), again=1))
    assert len(set(keys)) == 6


def test_a_cut_answer_is_told_and_asked_again(tmp_path, capsys):
    answers = tmp_path / "answers.jsonl"
    with stand_in(lambda body, attempt: "가나다") as server:
        ask_all(endpoint(server), answers, ["a", "b"])
        whole = answers.read_bytes()
        answers.write_bytes(whole[: whole.rindex("나".encode()) + 1])
        replies, _ = ask_all(endpoint(server), answers, ["a", "b"])
    assert replies == ["가나다", "가나다"]
    assert len(server.bodies) == 3
    assert "line 2 is cut or broken" in capsys.readouterr().err
    assert json.loads(answers.read_bytes().split(b"\n")[2])["text"] == "가나다"


def test_without_usage_the_tokens_are_estimated_and_marked(tmp_path):
    bare = json.dumps({"choices": [{"message": {"content": "가나다 abcd"}}]}).encode()
    with stand_in(lambda body, attempt: (200, {}, bare)) as server:
        ask_all(endpoint(server), tmp_path / "answers.jsonl", ["q"])
    record = json.loads((tmp_path / "answers.jsonl").read_text())
    assert record["counted"] is False
    assert record["output_tokens"] == estimate_tokens("가나다 abcd") == 5


def test_two_processes_on_one_file_are_refused(tmp_path):
    with stand_in(echo) as server:

        async def run():
            answers = tmp_path / "answers.jsonl"
            async with Client(endpoint(server), answers), Client(endpoint(server), answers):
                pass

        with pytest.raises(BllossomError, match="another process is writing"):
            asyncio.run(run())


SCRIPT = """
import asyncio, sys
from pathlib import Path
from bllossom.serving.client import Client, gather
from bllossom.serving.endpoint import Endpoint

async def main():
    async with Client(Endpoint(url=sys.argv[1], model="m", concurrency=4), Path(sys.argv[2])) as client:
        await gather([client.ask([{"role": "user", "content": f"q{n}"}]) for n in range(60)], "asking")

asyncio.run(main())
"""


def test_after_kill_9_no_request_is_sent_twice_that_was_answered(tmp_path):
    answers = tmp_path / "answers.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with stand_in(echo, delay_seconds=0.03) as server:
        command = [sys.executable, "-c", SCRIPT, server.url, str(answers)]
        with subprocess.Popen(command, env=environment) as process:
            while not answers.exists() or answers.read_bytes().count(b"\n") < 12:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        kept = answers.read_bytes().count(b"\n")
        time.sleep(0.1)  # what was under way arrives
        before = len(server.bodies)
        subprocess.run(command, env=environment, check=True)
    assert len(server.bodies) - before == 60 - kept
    assert before - kept <= 4
    assert len({json.loads(line)["key"] for line in answers.read_text().splitlines()}) == 60


@given(st.text(max_size=60), st.text(max_size=60))
def test_estimated_tokens_grow_with_the_text(first, second):
    assert estimate_tokens(first) <= estimate_tokens(first + second) <= estimate_tokens(first) + estimate_tokens(second)
    assert estimate_tokens(first) <= len(first)
