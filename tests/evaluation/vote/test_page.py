"""The page in a real browser: keys vote, a vote is on the disk before the page says so, kill -9 loses none."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.evaluation.vote.conftest import QUESTIONS

pytest.importorskip("starlette", reason="the pages' packages are missing: pip install 'bllossom[pages]'")
DEADLINE_SECONDS = 20.0


@contextmanager
def serving(files: tuple[Path, Path], output: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen, int]]:
    """The command, and the port that it says."""
    command = [sys.executable, "-m", "bllossom.cli", "vote", *map(str, files), "--output", str(output)]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        yield process, int(re.search(r":(\d+)/", line)[1])
    finally:
        process.kill()
        process.communicate()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def votes(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "votes.jsonl").read_text(encoding="utf8").splitlines()]


def text(browser, element: str) -> str:
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", element)


def enter(browser, port: int, name: str) -> None:
    browser.get(f"http://127.0.0.1:{port}/")
    until(lambda: browser.title)
    browser.find_element("css selector", "#language option[value=en]").click()
    browser.execute_script("document.getElementById('voter').value = arguments[0]", name)
    browser.find_element("css selector", "#who button").click()
    until(lambda: text(browser, "progress"))


def press(browser, key: str) -> None:
    browser.find_element("tag name", "body").send_keys(key)


def test_votes_by_key_survive_a_kill_and_models_stay_hidden(browser, files, tmp_path):
    output = tmp_path / "votes"
    with serving(files, output) as (process, port):
        enter(browser, port, "미나")
        assert text(browser, "progress") == "0 of 3"
        shown = browser.find_element("tag name", "main").text
        assert any(question in shown for question in QUESTIONS)  # markup in a question is shown, not obeyed
        source = browser.page_source
        assert "old" not in shown
        assert "new.jsonl" not in source
        left = text(browser, "left")
        press(browser, "1")
        until(lambda: text(browser, "progress") == "1 of 3")
        assert text(browser, "status") == "Saved."
        [vote] = votes(output)  # on the disk, now that the page says so
        assert vote["verdict"] == ("a" if "of A" in left else "b")
        assert (vote["a"], vote["b"], vote["voter"]) == ("old", "new", "미나")
        process.kill()
        process.wait()
        press(browser, "2")
        until(lambda: "Not saved" in text(browser, "status"))
        assert text(browser, "progress") == "1 of 3"
        before = text(browser, "left")
    with serving(files, output, port) as (_, again):
        assert again == port
        enter(browser, port, "미나")
        assert text(browser, "progress") == "1 of 3"
        assert text(browser, "left") == before
        from selenium.webdriver.common.keys import Keys

        press(browser, Keys.ARROW_DOWN)
        until(lambda: text(browser, "progress") == "2 of 3")
        press(browser, Keys.ARROW_RIGHT)
        until(lambda: browser.find_element("id", "finished").is_displayed())
        assert text(browser, "finished") == "All 3 are done. Thank you."
        enter(browser, port, "준")
        assert text(browser, "progress") == "0 of 3"
    found = votes(output)
    assert sorted(vote["id"] for vote in found) == ["q0", "q1", "q2"]
    assert found[1]["verdict"] == "tie"


def test_korean_both_themes_and_a_phones_width(browser, files, tmp_path):
    with serving(files, tmp_path / "votes") as (_, port):
        enter(browser, port, "v")
        browser.find_element("css selector", "#language option[value=ko]").click()
        until(lambda: text(browser, "progress") == "3개 중 0개")
        assert browser.title == "어느 답변이 더 좋습니까?"
        assert browser.execute_script("return document.activeElement === document.body")  # so that keys vote
        assert browser.find_element("css selector", "[data-choice=tie]").text.endswith("비슷하다")
        colours = set()
        for theme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": theme}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            colours.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert len(colours) == 2
        phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        boxes = [box.rect for box in browser.find_elements("css selector", ".answer")]
        assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
        assert browser.find_element("css selector", "[data-choice=left]").text == "위쪽이 낫다"
        assert all(button.rect["height"] >= 40 for button in browser.find_elements("css selector", "footer button"))
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        told = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert [line for line in told if f":{port}/" in line and "favicon" not in line] == []


def test_other_hosts_and_cross_site_posts_are_refused(files, tmp_path):
    with serving(files, tmp_path / "votes") as (_, port):

        def ask(method: str, path: str, body: str | None = None, **headers: str) -> int:
            connection = HTTPConnection("127.0.0.1", port, timeout=10)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Host": f"127.0.0.1:{port}"} | named)
            return connection.getresponse().status

        vote = json.dumps({"voter": "v", "id": "q0", "choice": "left"})
        assert ask("GET", "/", Host="evil.example") == 403
        assert ask("POST", "/vote", vote, Origin="http://evil.example") == 403
        assert ask("POST", "/vote", vote, Origin=f"http://127.0.0.1:{port}") == 403  # without the page's token
        assert ask("GET", "/votes.jsonl") == 404
    assert votes(tmp_path / "votes") == []
