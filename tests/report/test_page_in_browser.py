"""The page in a browser: it opens from a file, draws every chart in both themes, and says nothing to the console."""

import base64
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bllossom.evaluation.judge.pictures import DARK, LIGHT, bars
from bllossom.report.report import report

pytest.importorskip("vl_convert", reason="vl-convert is not installed (pip install 'bllossom[report]')")
DEADLINE_SECONDS = 30.0
# Colours as the browser computes them, of what the theme paints; each chart's marks in SVG.
LOOK = """
const mark = document.querySelector(".chart svg .mark-text text");
return {theme: document.documentElement.dataset.theme, ground: getComputedStyle(document.body).backgroundColor,
        text: getComputedStyle(document.body).color, label: mark.getAttribute("fill")}
"""
DRAWN = "return [...document.querySelectorAll('[data-chart]')].map(place => place.querySelectorAll('svg path').length)"
OVERFLOWING = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def open_page(browser: Any, path: Path) -> None:
    browser.get_log("browser")  # what came before
    browser.get(path.as_uri())
    until(lambda: all(browser.execute_script(DRAWN)))


def brightness(colour: str) -> float:
    """0 for black to 1 for white, of `rgb(…)` or `#rrggbb`."""
    if colour.startswith("#"):
        parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    else:
        parts = [int(number) for number in re.findall(r"\d+", colour)[:3]]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)) / 255


@pytest.fixture
def page(run: Path) -> Path:
    return report([run])


def test_it_opens_from_a_file_and_draws_every_chart_without_a_word(browser: Any, page: Path) -> None:
    open_page(browser, page)
    charts = browser.execute_script(DRAWN)
    assert len(charts) > 5
    assert browser.get_log("browser") == []
    assert not browser.execute_script(OVERFLOWING)
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_both_themes_are_read_the_systems_and_the_buttons(browser: Any, page: Path) -> None:
    open_page(browser, page)
    light = browser.execute_script(LOOK)
    assert light["theme"] == "light"
    browser.find_element("id", "theme").click()
    until(lambda: browser.execute_script(LOOK)["theme"] == "dark" and all(browser.execute_script(DRAWN)))
    until(lambda: browser.execute_script(LOOK)["label"] != light["label"])
    pressed = browser.execute_script(LOOK)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    try:
        open_page(browser, page)
        system = browser.execute_script(LOOK)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert system == pressed
    for look, ground_is_bright in ((light, True), (system, False)):
        assert (brightness(look["ground"]) > 0.5) == ground_is_bright
        # Text, and the labels of charts, stand out from what is behind them.
        for shown in (look["text"], look["label"]):
            assert abs(brightness(shown) - brightness(look["ground"])) > 0.3
    assert browser.get_log("browser") == []


def test_the_legend_of_bars_shows_their_colours(browser: Any, page: Path) -> None:
    open_page(browser, page)
    shown = """return [...document.querySelectorAll("#vocabulary .role-legend-symbol path")].map(
        path => [getComputedStyle(path).fill, path.getBBox().width, path.getBBox().height])"""
    symbols = browser.execute_script(shown)
    assert len({fill for fill, _, _ in symbols}) > 1
    assert min(min(width, height) for _, width, height in symbols) > 5  # a line has nothing to fill


def test_a_judges_pictures_follow_the_button(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8>{bars('a', [('against b', {'win': 3, 'lose': 2})])}")
    browser.get(path.as_uri())
    fill = "return getComputedStyle(document.querySelector('.bars .page')).fill"
    for system in ("light", "dark"):
        feature = [{"name": "prefers-color-scheme", "value": system}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
        try:
            for chosen, colours in (("light", LIGHT), ("dark", DARK)):
                browser.execute_script("document.documentElement.dataset.theme = arguments[0]", chosen)
                short = "".join(2 * letter for letter in colours["page"][1:])
                wanted = brightness("#" + (short if len(colours["page"]) == 4 else colours["page"][1:]))
                assert brightness(browser.execute_script(fill)) == pytest.approx(wanted)
        finally:
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_answers_in_any_script_and_of_any_length_keep_their_columns(browser: Any, run: Path) -> None:
    file = run / "answers/long.jsonl"
    answers = ["مرحبا.", "가" * 3000, ""]
    rows = [{"id": place, "language": "ko", "answer": text} for place, text in enumerate(answers)]
    shutil.copytree(run / "scores", run / "answers", ignore=shutil.ignore_patterns("logs"))
    manifest = json.loads((run / "answers/manifest.json").read_text())
    name = "가나다" * 40
    (run / "answers/manifest.json").write_text(json.dumps(manifest | {"stage": "answers", "figures": {name: {}}}))
    file.with_name(f"{name[:60]}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    open_page(browser, report([run]))
    wide = browser.find_element("css selector", "#answers .wide")
    assert not browser.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", wide)
    arabic, empty = (browser.find_element("css selector", f"#answers tr:nth-child({row}) data") for row in (1, 3))
    right = "const [cell, text] = [arguments[0].parentNode, arguments[0]].map(each => each.getBoundingClientRect());"
    assert browser.execute_script(f"{right} return text.left - cell.left > cell.right - text.right", arabic)
    assert empty.text == "(empty)"


def test_a_chart_says_its_values_on_hover_and_has_its_table(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    open_page(browser, page)
    place = browser.find_element("css selector", "#vocabulary [data-chart]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", place)
    bar = place.find_element("css selector", ".mark-rect path")
    ActionChains(browser).move_to_element(bar).perform()
    shown = "return document.getElementById('vg-tooltip-element')?.textContent ?? ''"
    until(lambda: "tokens per word" in browser.execute_script(shown))
    details = browser.find_elements("css selector", "figure details")
    assert len(details) == len(browser.execute_script(DRAWN))
    details[0].find_element("tag name", "summary").click()
    assert details[0].find_element("css selector", "td data").is_displayed()


def test_it_prints(browser: Any, page: Path) -> None:
    open_page(browser, page)
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not browser.find_element("id", "theme").is_displayed()
        assert browser.find_element("css selector", "#training svg").is_displayed()
        # Paper is white: what the dark theme painted is dark there too.
        browser.execute_script("document.getElementById('theme').click()")
        until(lambda: browser.execute_script(LOOK)["theme"] == "dark" and all(browser.execute_script(DRAWN)))
        label = "return getComputedStyle(document.querySelector('.chart svg .mark-text text')).fill"
        for shown in (browser.execute_script(LOOK)["text"], browser.execute_script(label)):
            assert brightness(shown) < 0.4
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_phone_shows_it_without_scrolling_sideways(browser: Any, page: Path) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        open_page(browser, page)
        assert not browser.execute_script(OVERFLOWING)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
