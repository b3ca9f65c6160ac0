"""One client for OpenAI-compatible endpoints. It knows nothing of what is asked.

    async with Client(endpoint, Path("answers.jsonl")) as client:
        reply = await client.ask([{"role": "user", "content": "…"}])

Every reply is appended to the file before `ask` returns, keyed by the request's body (model, messages, parameters)
and `again`. A request that stands there is never sent, so that after a kill -9 the same command goes on where it was.
The key comes from the environment and is written nowhere.
"""

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx2

from bllossom.console import progress
from bllossom.errors import BllossomError
from bllossom.serving.endpoint import Endpoint, Message, estimate_input_tokens, estimate_tokens
from bllossom.serving.log import AppendLog, read_log

HALF_A_PAIR = re.compile("[\ud800-\udfff]")
"""Of surrogates: JSON lets it through, UTF-8 does not."""
MAX_WAIT_SECONDS = 60.0
"""The longest pause between two attempts, whatever Retry-After says."""

Result = TypeVar("Result")


class EndpointError(BllossomError):
    """The endpoint cannot be used at all: away, a wrong key, no money left. Further requests make no sense."""


class RequestFailedError(BllossomError):
    """This one request was refused, or failed in every attempt; others may work."""


class RequestRefusedError(RequestFailedError):
    """The endpoint takes no such request, however often it is asked."""


@dataclass(frozen=True)
class Reply:
    """One answer."""

    text: str
    finish: str  # "stop", "length" or what else the endpoint says
    input_tokens: int
    output_tokens: int
    counted: bool  # False where the endpoint gave no usage and the tokens are estimated
    cost: float  # money, 0 without a price


@dataclass(frozen=True)
class Estimate:
    """What requests would take."""

    requests: int
    answered: int  # of these stand in the file already, or are asked twice
    input_tokens: int  # of those that would be sent, estimated
    output_tokens: int
    cost: float | None  # money; None without a price

    def line(self) -> str:
        """One line for a dry run."""
        money = "" if self.cost is None else f", about {self.cost:.2f} in money"
        return (
            f"{self.requests:,} requests, {self.answered:,} of them answered already; about {self.input_tokens:,} "
            f"tokens to send and {self.output_tokens:,} to get{money}"
        )


def request_key(endpoint: Endpoint, messages: Sequence[Message], again: int = 0) -> str:
    """What a reply is filed under: sha256 over the request's body and `again`. The address does not count."""
    what = {"body": endpoint.body(list(messages)), "again": again}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def estimate(endpoint: Endpoint, answers: Path, requests: Iterable[tuple[Sequence[Message], str]]) -> Estimate:
    """Count what `requests` would take; each comes with a text about as long as its answer. Nothing is sent."""
    known = {record["key"] for record in read_log(answers)}
    total = answered = sent = got = 0
    for messages, answer in requests:
        total += 1
        key = request_key(endpoint, messages)
        if key in known:
            answered += 1
            continue
        known.add(key)
        sent += estimate_input_tokens(list(messages))
        got += min(estimate_tokens(answer), endpoint.max_tokens)
    return Estimate(total, answered, sent, got, endpoint.cost(sent, got) if endpoint.price else None)


async def gather(jobs: Iterable[Awaitable[Result]], what: str) -> list[Result]:
    """Run all jobs at once, with a progress line, and give their results in order.

    The first error ends the others. The client bounds how many requests are under way.
    """
    tasks = [asyncio.ensure_future(job) for job in jobs]
    started, done = time.monotonic(), 0
    with progress(what, len(tasks)) as advance:

        def note(_: asyncio.Future[Result]) -> None:
            nonlocal done
            done += 1
            rate = done / max(time.monotonic() - started, 1e-9)
            advance(1, f"{rate:.1f} a second, {(len(tasks) - done) / rate:.0f} s left")

        for task in tasks:
            task.add_done_callback(note)
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Client:
    """Asks one endpoint; an async context manager, which holds the file of answers open for itself alone."""

    def __init__(self, endpoint: Endpoint, answers: Path) -> None:
        self.endpoint = endpoint
        self.sent = 0  # attempts that reached out, in this run
        self.spent = 0.0  # money, in all runs over this file
        self._log = AppendLog(answers)
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._settled = asyncio.Condition()
        self._reserved: list[float] = []  # the most that each request under way may cost
        self._asking: dict[str, asyncio.Task[Reply]] = {}

    async def __aenter__(self) -> "Client":
        self._key = key = self.endpoint.key()
        self._log.__enter__()
        try:
            self._replies = _replies(self._log.records, self._log.path)
        except BllossomError as error:
            self._log.__exit__(type(error), error, None)
            raise
        self.spent = sum(reply.cost for reply in self._replies.values())
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.AsyncClient(
            headers=headers,
            timeout=self.endpoint.timeout_seconds,
            limits=httpx2.Limits(max_connections=self.endpoint.concurrency),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()
        self._log.__exit__(kind, error, trace)

    async def ask(self, messages: Sequence[Message], *, again: int = 0) -> Reply:
        """The answer to `messages`, from the file or from the endpoint; another `again` asks the same anew.

        Raises:
            EndpointError: the endpoint is away, refuses the key, or max_cost is reached. End the run.
            RequestFailedError: this request was refused, or failed in every attempt. It may be counted, and the others
                go on.
        """
        key = request_key(self.endpoint, messages, again)
        if key in self._replies:
            return self._replies[key]
        if key not in self._asking:  # the same request under way is waited for, not sent twice
            self._asking[key] = asyncio.create_task(self._ask_and_keep(key, list(messages)))
        return await self._asking[key]

    async def _ask_and_keep(self, key: str, messages: list[Message]) -> Reply:
        async with self._slots:
            most = self.endpoint.cost(estimate_input_tokens(messages), self.endpoint.max_tokens)
            await self._reserve(most)
            try:
                reply = await self._attempt_all(messages)
                self._log.append({"key": key, **asdict(reply)})
                self._replies[key] = reply
                self.spent += reply.cost
            finally:
                del self._asking[key]
                async with self._settled:
                    self._reserved.remove(most)
                    self._settled.notify_all()
        return reply

    async def _reserve(self, most: float) -> None:
        """Wait until a request of at most this cost fits below max_cost, whatever those under way come to."""
        bound = self.endpoint.max_cost
        async with self._settled:
            while bound is not None and self.spent + sum(self._reserved) + most > bound:
                if not self._reserved:
                    raise EndpointError(
                        f"max_cost {bound:g} is reached: {self.spent:.4f} is spent, and the next request may take "
                        f"{most:.4f}; raise max_cost and run the same command, which goes on"
                    )
                await self._settled.wait()
            self._reserved.append(most)

    async def _attempt_all(self, messages: list[Message]) -> Reply:
        wait, why, away = self.endpoint.backoff_seconds, "", False
        for attempt in range(self.endpoint.attempts):
            if attempt:
                await asyncio.sleep(min(wait, MAX_WAIT_SECONDS))
                wait = self.endpoint.backoff_seconds * 2**attempt
            self.sent += 1
            try:
                response = await self._http.post(
                    f"{self.endpoint.url.rstrip('/')}/chat/completions", json=self.endpoint.body(messages)
                )
            except httpx2.TransportError as error:
                why, away = f"{type(error).__name__} {error}".strip(), isinstance(error, httpx2.ConnectError)
                continue
            away = False
            if response.status_code == 200:
                try:
                    return self._read(response.json(), messages)
                except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                    why = f"an answer that is no chat completion: {self._shown(response)}"
                    continue
            why = f"HTTP {response.status_code}: {self._shown(response)}"
            self._end_if_hopeless(response, why)
            wait = max(wait, _retry_after_seconds(response))
        if away:
            raise EndpointError(
                f"{self.endpoint.url} is away ({why}, {self.endpoint.attempts} times); start it, or correct url"
            )
        raise RequestFailedError(f"{self.endpoint.url} failed {self.endpoint.attempts} times, last with {why}")

    def _shown(self, response: httpx2.Response) -> str:
        """The start of an answer, for a message; some endpoints repeat the key in theirs."""
        text = response.text.replace(self._key, "(the key)") if self._key else response.text
        return repr(text[:160])

    def _end_if_hopeless(self, response: httpx2.Response, why: str) -> None:
        code = response.status_code
        if code in (401, 403):
            raise EndpointError(
                f"{self.endpoint.url} refuses the key in {self.endpoint.key_variable} (HTTP {code}); correct it"
            )
        if code == 402 or "insufficient_quota" in response.text:
            raise EndpointError(f"{self.endpoint.url} is out of money ({why}); top up and run the same command")
        if 300 <= code < 400:
            where = response.headers.get("location", "elsewhere")
            raise EndpointError(f"{self.endpoint.url} sends on to {where} (HTTP {code}); correct url")
        if code == 404:
            raise EndpointError(f"{self.endpoint.url} has no such address or model ({why}); correct url or model")
        if code not in (408, 409, 425, 429) and code < 500:
            raise RequestRefusedError(f"{self.endpoint.url} refused a request ({why}); change the request")

    def _read(self, completion: Any, messages: list[Message]) -> Reply:
        choice = completion["choices"][0]
        text = choice["message"]["content"]
        if not isinstance(text, str) or HALF_A_PAIR.search(text):
            raise TypeError("an answer without text, or with what no file and no further request can hold")
        usage = completion.get("usage") or {}
        counted = isinstance(usage.get("prompt_tokens"), int) and isinstance(usage.get("completion_tokens"), int)
        sent = usage["prompt_tokens"] if counted else estimate_input_tokens(messages)
        got = usage["completion_tokens"] if counted else estimate_tokens(text)
        finish = str(choice.get("finish_reason") or "stop")
        return Reply(text, finish, sent, got, counted, self.endpoint.cost(sent, got))


def _replies(records: Iterable[Mapping[str, Any]], file: Path) -> dict[str, Reply]:
    """The replies among the records of a file, by their keys.

    A model on this machine files its answers there too, in records without tokens. Keys are hashes of all that was
    asked, so that none of those would be found by a request of a client's.

    Raises:
        BllossomError: a record is of another version of the program: what was paid for is not asked again unseen.
    """
    known = {field.name for field in fields(Reply)}
    found: dict[str, Reply] = {}
    for record in records:
        if "input_tokens" not in record or HALF_A_PAIR.search(str(record.get("text"))):  # the latter is asked again
            continue
        if record.keys() != {"key", *known}:
            raise BllossomError(
                f"{file} holds a record of another version ({', '.join(sorted(record))}); move it aside to ask all "
                "again, or use the version that wrote it"
            )
        found[record["key"]] = Reply(**{name: record[name] for name in known})
    return found


def _retry_after_seconds(response: httpx2.Response) -> float:
    try:
        return float(response.headers.get("retry-after", "0"))
    except ValueError:  # a date
        return 0.0
