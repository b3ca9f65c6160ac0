"""A small base for pages that one machine serves to itself: fixed files, JSON to read, JSON to post.

    page = Page(files={"/": Path("page.html"), "/page.js": Path("page.js")}, reads={"/state": state},
                writes={"/accept": accept})
    serve(page, port=8765, folder=Path("runs/localize/review"))

`reads` get the query and `writes` the posted object, both as a dict; what they return goes back as JSON. They run one
at a time, so that they need no locks. A BllossomError of theirs goes back as `{"error": message}` with status 409.

The page listens on 127.0.0.1 alone and refuses: another Host (DNS rebinding), a post of another Origin or without the
token that stands in the page itself (cross-site requests), and every path that is not named. `__TOKEN__` in a file is
replaced by the token; scripts send it as the header X-Token. Nothing is loaded from elsewhere: the
Content-Security-Policy forbids it, inline scripts and styles too.
"""

import json
import mimetypes
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.files import locked

ADDRESS = "127.0.0.1"
LOCK = ".page.lock"  # in the folder that a page writes to
MAX_POST_BYTES = 4_000_000
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Page:
    """What a page is made of."""

    files: Mapping[str, Path]
    """The only files served, by path; `/` is the page. UTF-8 text."""
    reads: Mapping[str, Callable[[dict[str, str]], Any]] = field(default_factory=dict)
    writes: Mapping[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict)


def serve(page: Page, *, port: int, folder: Path) -> None:
    """Serve until Ctrl-C or SIGTERM, with `folder` locked; port 0 takes a free one. The address is said on stderr.

    Raises:
        BllossomError: another process works in the folder, or the port is taken.
    """
    with locked(folder / LOCK, str(folder)), socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ADDRESS, port))
            listener.listen()
        except OSError as error:
            raise BllossomError(
                f"port {port} cannot be used ({error.strerror}); choose another port, 0 for any free one"
            ) from error
        port = listener.getsockname()[1]
        settings = uvicorn.Config(
            application(page, port), log_level="warning", lifespan="off", timeout_graceful_shutdown=1
        )
        say(f"open http://{ADDRESS}:{port}/ in a browser on this machine; Ctrl-C ends")
        uvicorn.Server(settings).run(sockets=[listener])


def application(page: Page, port: int) -> Starlette:
    """The page as an ASGI application that answers for this port alone."""
    token = secrets.token_urlsafe(32)
    routes = [Route(path, _file(file, token), methods=["GET"]) for path, file in page.files.items()]
    routes += [Route(path, _read(answer), methods=["GET"]) for path, answer in page.reads.items()]
    routes += [Route(path, _write(act, token), methods=["POST"]) for path, act in page.writes.items()]
    app = Starlette(routes=routes)
    app.add_middleware(_Guard, port=port)
    return app


class _Guard:
    """Refuses other hosts, and adds the headers that forbid everything from elsewhere."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app = app
        self.hosts = {f"{ADDRESS}:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        host = Request(scope).headers.get("host", "")
        if host not in self.hosts:
            await _refusal(403, f"this page answers to {' and '.join(sorted(self.hosts))} alone")(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _refusal(status: int, why: str) -> JSONResponse:
    return JSONResponse({"error": why}, status)


def _file(path: Path, token: str) -> Callable[[Request], Any]:
    kind = mimetypes.guess_type(path.name)[0] or "text/plain"

    async def endpoint(_: Request) -> Response:
        return Response(path.read_text(encoding="utf8").replace("__TOKEN__", token), media_type=kind)

    return endpoint


def _read(answer: Callable[[dict[str, str]], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(answer(dict(request.query_params)))
        except BllossomError as error:
            return _refusal(409, str(error))

    return endpoint


def _write(act: Callable[[dict[str, Any]], Any], token: str) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        if request.headers.get("origin") != f"http://{request.headers['host']}":
            return _refusal(403, "posts are taken from the page itself alone")
        if not secrets.compare_digest(request.headers.get("x-token", "").encode(), token.encode()):
            return _refusal(403, "the page is of an earlier start; load it again")
        if int(request.headers.get("content-length", MAX_POST_BYTES + 1)) > MAX_POST_BYTES:
            return _refusal(413, f"more than {MAX_POST_BYTES:,} bytes; send less")
        try:
            posted = json.loads(await request.body())
            if not isinstance(posted, dict):
                raise TypeError
        except (ValueError, TypeError):
            return _refusal(400, "the body should be a JSON object")
        try:
            return JSONResponse(act(posted))
        except BllossomError as error:
            return _refusal(409, str(error))

    return endpoint
