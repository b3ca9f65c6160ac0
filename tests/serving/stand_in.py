"""A chat endpoint on loopback that answers by a rule, counts what it is asked, and can misbehave."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.fixtures.loopback import Quiet, serving


@dataclass
class StandIn:
    """`rule(body, attempt)` gives the answer's text, or (status, headers, bytes) to misbehave.

    `attempt` counts from 0 how often this very body came before.
    """

    rule: Callable[[dict[str, Any], int], Any]
    delay_seconds: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""


@contextmanager
def stand_in(rule: Callable[[dict[str, Any], int], Any], delay_seconds: float = 0.0) -> Iterator[StandIn]:
    """Serve on a free port of 127.0.0.1 while the block runs."""
    state = StandIn(rule, delay_seconds)
    lock = threading.Lock()
    at_once = 0

    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal at_once
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                attempt = state.bodies.count(body)
                state.bodies.append(body)
                state.keys.append(self.headers.get("authorization"))
                at_once += 1
                state.most_at_once = max(state.most_at_once, at_once)
            time.sleep(state.delay_seconds)
            answer = state.rule(body, attempt)
            with lock:
                at_once -= 1
            status, headers, content = answer if isinstance(answer, tuple) else (200, {}, completion(answer))
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a client that waits no longer has hung up
                self.wfile.write(content)
            if "content-length" in headers:  # half an answer: the line goes dead
                self.close_connection = True

    with serving(Handler) as address:
        state.url = f"{address}/v1"
        yield state


def completion(text: str, finish: str = "stop") -> bytes:
    """A chat completion's JSON; its usage says 10 tokens in, 5 out."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}).encode()
