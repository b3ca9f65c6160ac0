"""The review page in a browser: by keyboard, with an input method, through a reload, and through kill -9."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from bllossom.localize.language import PACKAGED
from bllossom.localize.records import NOTES, SOURCE, TARGET
from bllossom.serving.log import read_log
from tests.fixtures.browser import chromium

ROOT = Path(__file__).parents[2]


def pair(number):
    """(source, target) of one example."""
    question = f"How do I get to mount Stuart on day {number}?", f"{number}일째에 스튜어트산에 어떻게 갑니까?"
    answer = "Take the bus. It is 5 miles.", "버스를 타십시오. 5마일입니다. 스튜어트산은 높아요."
    sides = (
        [{"role": "user", "content": side} for side in question],
        [{"role": "assistant", "content": side} for side in answer],
    )
    return [{"id": f"e{number}", "messages": [sides[0][side], sides[1][side]]} for side in (0, 1)]


def make_translation(folder, count):
    folder.mkdir()
    pairs = [pair(number) for number in range(1, count + 1)]
    for side, name in enumerate((SOURCE, TARGET)):
        lines = (json.dumps(both[side], ensure_ascii=False) + "\n" for both in pairs)
        (folder / name).write_text("".join(lines), encoding="utf8")
    (folder / NOTES).write_text("")
    return folder


@contextmanager
def server(translation, folder, port=0, **settings):
    """(process, port) of a page that runs, in a Korean without morphology: it starts in no time."""
    command = [sys.executable, "-m", "bllossom.cli", "localize", "review", f"translation={translation}"]
    command += [f"rules={{language: {translation.parent / 'plain-ko'}}}", f"folder={folder}", f"port={port}"]
    command += [f"{name}={value}" for name, value in settings.items()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = ""
            while "open http" not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
            yield process, int(re.search(r"127\.0\.0\.1:(\d+)", said)[1])
        finally:
            process.kill()


class Reviewer:
    """Somebody at the page."""

    def __init__(self, driver, name, origin):
        self.driver, self.name, self.origin = driver, name, origin
        driver.switch_to.new_window("tab")
        self.tab = driver.current_window_handle
        self.load()
        self.type_into("#reviewer", name)
        self.click("#ask-name button")
        self.settle()

    def load(self):
        self.driver.switch_to.window(self.tab)
        self.driver.get(self.origin)
        self.wait(lambda: self.driver.execute_script("return document.querySelectorAll('#keys dt').length > 0"))
        self.settle()

    def wait(self, condition, seconds=10):
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, self.js("return document.body.innerText")
            time.sleep(0.01)
        return found

    def settle(self):
        self.driver.switch_to.window(self.tab)
        # A dialog tells that it was closed in a task of its own, behind the click.
        self.driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 20))")
        self.wait(lambda: not self.js("return document.body.dataset.busy"))

    def js(self, script, *arguments):
        self.driver.switch_to.window(self.tab)
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        self.driver.switch_to.window(self.tab)
        return self.driver.find_element("css selector", selector)

    def click(self, selector):
        self.find(selector).click()

    def type_into(self, selector, text):
        self.find(selector).send_keys(text)

    def press(self, key):
        self.driver.switch_to.window(self.tab)
        self.driver.switch_to.active_element.send_keys(key)
        self.settle()

    def set_text(self, turn, text):
        self.js(
            "const area = document.querySelectorAll('textarea')[arguments[0]]; area.focus(); area.value = arguments[1];"
            "area.dispatchEvent(new InputEvent('input', {bubbles: true}))",
            turn,
            text,
        )

    @property
    def id(self):
        return self.js("return document.getElementById('place').dataset.id")

    @property
    def message(self):
        return self.find("#message").text

    def text(self, turn):
        return self.js("return document.querySelectorAll('.editor textarea')[arguments[0]].value", turn)

    def marks(self):
        return self.js("return [...document.querySelectorAll('.backdrop mark')].map((mark) => mark.textContent)")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def translation(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    plain = shutil.copytree(PACKAGED / "ko", work / "plain-ko") / "language.yaml"
    plain.write_text(plain.read_text(encoding="utf8").replace("morphology: kiwi", "morphology: null"), encoding="utf8")
    return make_translation(work / "translation", 6)


def test_edit_accept_drop_entity_topic_undo_and_reload(driver, translation, tmp_path):
    with server(translation, tmp_path) as (_, port):
        one = Reviewer(driver, "하나", f"http://127.0.0.1:{port}")
        assert one.id == "e1"
        assert sorted(one.marks()) == ["5마일", "스튜어트산", "스튜어트산"]
        assert one.find(".flag").text
        one.press("f")
        assert one.js("return document.querySelector('mark.here').textContent") == "스튜어트산"

        one.press("r")
        assert one.js("return document.getElementById('old').value") == "스튜어트산"
        one.type_into("#new", "관악 바위")
        one.click("#ask-entity button")
        one.settle()
        assert one.text(0) == "1일째에 관악 바위에 어떻게 갑니까?"
        assert one.text(1) == "버스를 타십시오. 5마일입니다. 관악 바위는 높아요."
        assert [one.find(".diff del").text, one.find(".diff ins").text] == ["스튜어트산에", "관악 바위에"]

        one.press("e")
        one.set_text(1, "버스를 타십시오. 8킬로미터입니다. 관악 바위는 높습니다.")
        one.wait(lambda: one.marks() == [])
        one.press("\ue009\ue007")  # Ctrl+Enter
        assert one.id == "e2"
        records = read_log(tmp_path / "reviews.jsonl")
        assert [record["action"] for record in records] == ["entity", "accept"]
        assert records[1]["reviewer"] == "하나"
        assert records[1]["before"]["texts"][1].endswith("높아요.")
        assert records[1]["after"]["texts"][1].endswith("높습니다.")

        one.press("d")
        assert one.id == "e3"
        one.press("u")
        assert (one.id, one.js("return document.getElementById('place').dataset.status")) == ("e2", "open")
        one.press("t")
        one.js("document.getElementById('question').value = '북한산은 얼마나 높습니까?'")
        one.click("#ask-topic button")
        one.settle()
        assert one.text(0) == "북한산은 얼마나 높습니까?"
        one.press("a")
        assert "rewrite the answer" in one.message
        one.set_text(1, "북한산은 836미터입니다.")
        one.press("\ue00c")  # Escape leaves the text, which is saved
        one.settle()
        one.load()
        assert (one.id, one.text(1)) == ("e2", "북한산은 836미터입니다.")
        one.press("a")
        assert one.id == "e3"
        assert "2" in one.find("#counts").text
        one.press("p")
        assert one.id == "e2"


def test_syllables_in_the_making_are_left_alone(driver, translation, tmp_path):
    with server(translation, tmp_path) as (_, port):
        one = Reviewer(driver, "둘", f"http://127.0.0.1:{port}")
        one.press("e")
        area = "document.querySelectorAll('.editor textarea')[1]"
        one.js(f"{area}.focus(); {area}.setSelectionRange(0, 0)")
        for stage in ("ㅎ", "하", "한"):
            driver.execute_cdp_cmd("Input.imeSetComposition", {"text": stage, "selectionStart": 1, "selectionEnd": 1})
            time.sleep(0.05)
        assert one.text(1).startswith("한버스를")
        # Keys that belong to the input method do nothing of ours.
        for key, code in (("Enter", "Enter"), ("Process", "KeyA")):
            one.js(
                f"{area}.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', code: '{code}', ctrlKey: true,"
                "isComposing: true, bubbles: true}))"
            )
        time.sleep(1.5)  # longer than it waits to save
        assert read_log(tmp_path / "reviews.jsonl") == []
        assert one.id == "e1"
        driver.execute_cdp_cmd("Input.insertText", {"text": "한"})
        one.wait(lambda: len(read_log(tmp_path / "reviews.jsonl")) == 1)
        assert read_log(tmp_path / "reviews.jsonl")[0]["after"]["texts"][1].startswith("한버스를 타십시오.")
        # Letters are told by their place: on a Korean keyboard A types ㅁ.
        one.press("\ue00c")
        event = "new KeyboardEvent('keydown', {key: 'ㅁ', code: 'KeyA', bubbles: true})"
        one.js(f"document.getElementById('example').dispatchEvent({event})")
        one.settle()
        assert one.id == "e2"


def test_two_reviewers_never_have_the_same_example(driver, translation, tmp_path):
    with server(translation, tmp_path) as (_, port):
        one = Reviewer(driver, "하나", f"http://127.0.0.1:{port}")
        two = Reviewer(driver, "두리", f"http://localhost:{port}")
        assert (one.id, two.id) == ("e1", "e2")
        one.press("a")
        assert one.id == "e3"
        two.press("a")
        assert two.id == "e4"
        two.js("localStorage.setItem('example', 'e3')")
        two.load()
        assert two.id not in ("e3", None)
    assert {record["reviewer"] for record in read_log(tmp_path / "reviews.jsonl")} == {"하나", "두리"}


def test_nobody_is_led_away_from_what_could_not_be_kept(driver, translation, tmp_path):
    with server(translation, tmp_path) as (_, port):
        one = Reviewer(driver, "하나", f"http://127.0.0.1:{port}")
        one.set_text(0, "다시 쓴 질문입니다.")
        one.set_text(1, " ")
        for key in ("n", "p", "u"):
            one.press("\ue00c")  # Escape leaves the text
            one.press(key)
            time.sleep(0.5)  # flags are found anew meanwhile
            assert "every turn needs a text" in one.message
            assert (one.id, one.text(0)) == ("e1", "다시 쓴 질문입니다.")
        one.set_text(1, "다시 쓴 답입니다.")
        one.press("\ue00c")
        one.press("n")
        assert (one.id, one.message) == ("e2", "")
        one.press("p")
        assert one.text(1) == "다시 쓴 답입니다."
        one.js("example.version = 7")  # as if another page had changed it
        one.set_text(1, "또 다른 답입니다.")
        one.press("\ue00c")
        one.press("n")
        assert "has changed since this page showed it" in one.message
        assert (one.id, one.text(1)) == ("e1", "또 다른 답입니다.")
    kept = [record["after"]["texts"][1] for record in read_log(tmp_path / "reviews.jsonl")]
    assert kept[1:] == ["다시 쓴 답입니다."]  # the first is that of the question, on the way to the answer


def test_some_examples_are_judged_twice_when_asked_for(driver, translation, tmp_path):
    with server(translation, tmp_path, judged_twice=1) as (_, port):
        one = Reviewer(driver, "하나", f"http://127.0.0.1:{port}")
        two = Reviewer(driver, "두리", f"http://localhost:{port}")
        assert (one.id, two.id) == ("e1", "e1")
        one.press("d")
        two.press("a")
        assert one.id != two.id
    actions = [(record["id"], record["action"]) for record in read_log(tmp_path / "reviews.jsonl")]
    assert actions == [("e1", "drop"), ("e1", "accept")]


def test_kill_9_loses_nothing_that_was_said_and_a_second_server_is_refused(driver, translation, tmp_path):
    with server(translation, tmp_path) as (process, port):
        one = Reviewer(driver, "하나", f"http://127.0.0.1:{port}")
        one.press("a")
        one.set_text(1, "걸어가십시오.")
        one.wait(lambda: one.find("#saved").text)
        command = [sys.executable, "-m", "bllossom.cli", "localize", "review", f"translation={translation}"]
        command += ["rules={language: ko}", f"folder={tmp_path}", "port=0"]
        second = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert "another process" in second.stderr
        process.kill()
        process.wait()
        one.press("\ue00c")
        one.press("a")
        assert one.message
        assert one.id == "e2"
    log = tmp_path / "reviews.jsonl"
    log.write_bytes(log.read_bytes() + b'{"time": "2026-01-01T00:00')  # cut in the middle of a line
    with server(translation, tmp_path, port=port):
        one.load()
        assert (one.id, one.text(1)) == ("e2", "걸어가십시오.")
        one.press("a")
        assert one.id == "e3"
    assert [record["action"] for record in read_log(log)] == ["accept", "edit", "accept"]


def test_search_and_the_filter_by_flag(driver, translation, tmp_path):
    with server(translation, tmp_path) as (_, port):
        one = Reviewer(driver, "하나", f"http://127.0.0.1:{port}")
        one.press("/")
        one.type_into("#wanted", "day 5")
        one.wait(lambda: one.js("return document.querySelectorAll('#hits li').length") == 1)
        one.press("\ue007")
        assert one.id == "e5"
        rules = one.js("return [...document.getElementById('rule').options].map((option) => option.value)")
        assert rules[2:] == ["entity_foreign", "unit"]


def test_it_fits_a_phone_and_follows_the_theme(driver, translation, tmp_path):
    with server(translation, tmp_path) as (_, port):
        one = Reviewer(driver, "하나", f"http://127.0.0.1:{port}")
        colours = {}
        for theme in ("light", "dark"):
            driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
            )
            colours[theme] = one.js(
                "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
            )
        assert colours["light"] == ["rgb(29, 33, 41)", "rgb(251, 250, 247)"]
        assert colours["dark"] == ["rgb(231, 233, 236)", "rgb(22, 24, 28)"]
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
        )
        assert one.js("return document.documentElement.scrollWidth") <= 360
        tops = (
            "return [...document.querySelectorAll('.source, .editor')].map((side) => side.getBoundingClientRect().top)"
        )
        source, editor, *_ = one.js(tops)
        assert editor > source + 20  # one below the other
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
