"""The base of local pages: what it refuses, and that it serves nothing but what it names."""

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest

from bllossom.files import locked

pytest.importorskip("starlette", reason="the pages' packages are missing: pip install 'bllossom[pages]'")

SCRIPT = """
import sys
from pathlib import Path
from bllossom.errors import BllossomError
from bllossom.serving.log import AppendLog
from bllossom.serving.pages import Page, serve

folder = Path(sys.argv[1])
with AppendLog(folder / "log.jsonl") as log:
    def keep(posted):
        if "no" in posted:
            raise BllossomError("no is refused; post yes")
        log.append(posted)
        return {"kept": len(posted)}
    page = Page(files={"/": folder / "page.html"}, reads={"/echo": lambda query: query}, writes={"/keep": keep})
    try:
        serve(page, port=int(sys.argv[2]), folder=folder)
    except BllossomError as error:
        print(error, file=sys.stderr)
"""


@contextmanager
def running(folder, port=0):
    (folder / "page.html").write_text('<meta name="token" content="__TOKEN__">')
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(port)], stderr=subprocess.PIPE, text=True
    )
    try:
        yield process, process.stderr.readline()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """(folder, port, token) of a page that runs."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "secret.txt").write_text("secret")
    with running(folder) as (_, line):
        port = int(re.search(r":(\d+)/", line)[1])
        body = ask(port, "GET", "/")[1]
        yield folder, port, re.search('content="([^"]+)"', body)[1]


def ask(port, method, path, body=None, **headers):
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    content = b"" if body is None else body.encode()
    sent = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(content))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    for name, value in sent.items():
        connection.putheader(name, value)
    connection.endheaders(content)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text, response.headers


def test_a_post_of_the_page_is_on_the_disk_when_it_is_answered(page):
    folder, port, token = page
    answer = ask(port, "POST", "/keep", '{"이름": "하나"}', Origin=f"http://127.0.0.1:{port}", X_Token=token)
    assert answer[:2] == (200, '{"kept":1}')
    assert json.loads((folder / "log.jsonl").read_text().splitlines()[-1]) == {"이름": "하나"}


def test_an_expected_error_is_one_message(page):
    _, port, token = page
    status, text, _ = ask(port, "POST", "/keep", '{"no": 1}', Origin=f"http://127.0.0.1:{port}", X_Token=token)
    assert (status, json.loads(text)) == (409, {"error": "no is refused; post yes"})


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:80", ""])
def test_other_hosts_are_refused(page, host):
    status, text, _ = ask(page[1], "GET", "/", Host=host)
    assert status == 403
    assert page[2] not in text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "https://127.0.0.1"])
def test_posts_from_elsewhere_are_refused(page, origin):
    folder, port, token = page
    before = (folder / "log.jsonl").read_bytes()
    headers = {"X_Token": token, **({"Origin": origin} if origin else {})}
    assert ask(port, "POST", "/keep", "{}", **headers)[0] == 403
    assert (folder / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize("token", ["", "wrong", "토큰"])
def test_posts_without_the_token_are_refused(page, token):
    headers = {"Origin": f"http://127.0.0.1:{page[1]}", "X_Token": token.encode()}
    assert ask(page[1], "POST", "/keep", "{}", **headers)[0] == 403


@pytest.mark.parametrize("body", ["", "[]", "{", "null"])
def test_a_body_that_is_no_object_is_refused(page, body):
    _, port, token = page
    assert ask(port, "POST", "/keep", body, Origin=f"http://127.0.0.1:{port}", X_Token=token)[0] == 400


@pytest.mark.parametrize("path", ["/secret.txt", "/../secret.txt", "/%2e%2e/secret.txt", "//secret.txt", "/keep"])
def test_no_other_file_is_served(page, path):
    status, text, _ = ask(page[1], "GET", path)
    assert status in (404, 405)
    assert "secret" not in text


def test_the_headers_forbid_everything_from_elsewhere(page):
    headers = ask(page[1], "GET", "/")[2]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_a_query_is_read(page):
    assert json.loads(ask(page[1], "GET", "/echo?a=%ED%95%9C")[1]) == {"a": "한"}


def test_a_second_server_on_the_folder_and_on_the_port_are_refused(page, tmp_path):
    with running(tmp_path, page[1]) as (_, line):
        assert f"port {page[1]} cannot be used" in line
    from bllossom.serving.pages import LOCK

    with locked(tmp_path / LOCK, str(tmp_path)), running(tmp_path) as (_, line):
        assert f"another process is working in {tmp_path}" in line
