"""How long the review page takes by keyboard: `python scripts/bench_localize_review.py [--shots DIR]`.

Serves a set with answers of about 800 characters, drives it in headless Chromium by real key presses, and times each
from the key's event to the end of what it set off: for accept, undo and entity that the answer of the server is shown
(it is in the log by then), for edit that the frame with the new diff is painted. Prints p50, p95 and the worst.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

from bllossom.localize.flag import RuleSettings, make_checker
from bllossom.localize.records import load_pairs, passages, write_lines

SENTENCES = (
    "스튜어트산의 북쪽 능선은 바람이 세므로 해가 뜨기 전에 출발하는 것이 좋습니다.",
    "가까운 주차장에서 5마일을 걸으면 능선이 시작되는 곳이 나옵니다.",
    "날씨가 나쁘면 미련 없이 돌아서십시오.",
    "물은 넉넉히 챙기고, 여벌 옷은 젖지 않게 비닐에 싸서 넣어요.",
)
WATCH = """
window.times = [];
let start = 0;
addEventListener("keydown", () => { start = performance.now(); }, true);
new MutationObserver(() => {
  if (!document.body.dataset.busy && start) { times.push(performance.now() - start); start = 0; }
}).observe(document.body, {attributes: true, attributeFilter: ["data-busy"]});
window.painted = [];
addEventListener("input", () => {
  const begin = start;
  requestAnimationFrame(() => requestAnimationFrame(() => painted.push(performance.now() - begin)));
});
"""


def main() -> None:
    """Serve, press, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1030)
    parser.add_argument("--presses", type=int, default=60)
    parser.add_argument("--shots", type=Path, help="a folder for pictures of both themes and of a phone's width")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_translation(folder / "translation", arguments.examples)
        command = [sys.executable, "-m", "bllossom.cli", "localize"]
        write_flags(folder / "translation", folder / "flags")
        page = [*command, "review", f"translation={folder / 'translation'}", f"flags={folder / 'flags'}"]
        page += ["rules={language: ko}", f"folder={folder / 'review'}", "port=0"]
        with subprocess.Popen(page, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://[\d.:]+/", line)))
            try:
                for action, times in press(address, folder / "profile", arguments.presses, arguments.shots).items():
                    p50, p95 = np.percentile(times, [50, 95])
                    worst = max(times)
                    print(f"{action:8} {len(times):3} times: p50 {p50:.0f} ms, p95 {p95:.0f} ms, worst {worst:.0f} ms")
            finally:
                server.terminate()


def write_translation(folder: Path, count: int) -> None:
    """`count` examples whose answers differ in the order of their sentences."""
    folder.mkdir()
    sides: dict[str, list[str]] = {"source.jsonl": [], "target.jsonl": []}
    for number in range(count):
        answer = " ".join(SENTENCES[(number + place) % len(SENTENCES)] for place in range(20))
        question = f"{number}번: 스튜어트산에 오르려면 무엇을 준비해야 합니까?"
        source = f"{number}: What do I need for mount Stuart?", "Leave early. It is 5 miles. " * 30
        for name, (asked, answered) in (("source.jsonl", source), ("target.jsonl", (question, answer))):
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered.strip()}]
            sides[name].append(json.dumps({"id": str(number), "messages": messages}, ensure_ascii=False) + "\n")
    for name, lines in sides.items():
        (folder / name).write_text("".join(lines), encoding="utf8")
    (folder / "notes.jsonl").write_text("", encoding="utf8")


def write_flags(translation: Path, folder: Path) -> None:
    """flags.jsonl, by the rules for as many examples as differ, and copied to those that are like them."""
    folder.mkdir()
    pairs = load_pairs(translation)
    checker = make_checker(RuleSettings(language="ko", off=[]), pairs)
    kinds = [checker.flags("", passages(pair)) for pair in pairs[: len(SENTENCES)]]
    found = (
        asdict(replace(flag, id=pair.id)) for number, pair in enumerate(pairs) for flag in kinds[number % len(kinds)]
    )
    write_lines(folder / "flags.jsonl", found)


def press(address: str, profile: Path, presses: int, shots: Path | None) -> dict[str, list[float]]:
    """Milliseconds of each press, by action."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    switches = "headless=new no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update"
    for switch in [*switches.split(), "disable-sync", "window-size=1280,900", f"user-data-dir={profile}"]:
        options.add_argument(f"--{switch}")
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        driver.get(address)
        driver.execute_script("localStorage.setItem('reviewer', 'bench')")
        driver.get(address)
        settle(driver)
        if shots:
            picture(driver, shots)
        driver.execute_script(WATCH)
        found: dict[str, list[float]] = {}
        for _ in range(presses):
            key(driver, "a")
        found["accept"] = take(driver, "times")
        for _ in range(presses):
            key(driver, "u")
        found["undo"] = take(driver, "times")
        key(driver, "e")
        for letter in "가나다라마바사아자차" * (presses // 10):
            key(driver, letter)
        found["edit"] = take(driver, "painted")
        key(driver, Keys.ESCAPE)
        time.sleep(2)
        take(driver, "times")
        for number in range(presses // 2):
            names = ("스튜어트산", "북한산") if number % 2 == 0 else ("북한산", "스튜어트산")
            key(driver, "r")
            for field, name in zip(("old", "new"), names, strict=True):
                driver.execute_script("document.getElementById(arguments[0]).value = arguments[1]", field, name)
            driver.find_element("id", "new").send_keys(Keys.ENTER)
            settle(driver)
        found["entity"] = take(driver, "times")
        return found
    finally:
        driver.quit()


def key(driver: Any, text: str) -> None:
    """Press one key and wait for what it sets off."""
    driver.switch_to.active_element.send_keys(text)
    settle(driver)


def settle(driver: Any) -> None:
    """Wait until nothing is under way."""
    while driver.execute_script("return !document.querySelector('main *') || document.body.dataset.busy"):
        time.sleep(0.002)


def take(driver: Any, name: str) -> list[float]:
    """The times so far, which are then forgotten."""
    return driver.execute_script(f"const found = window.{name}; window.{name} = []; return found")


def picture(driver: Any, shots: Path) -> None:
    """light.png, dark.png and phone.png."""
    shots.mkdir(parents=True, exist_ok=True)
    driver.find_element("tag name", "main").send_keys("f")
    for theme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": theme}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        driver.save_screenshot(str(shots / f"{theme}.png"))
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.save_screenshot(str(shots / "phone.png"))
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


if __name__ == "__main__":
    main()
