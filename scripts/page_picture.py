"""A small picture of a report page, for the README: its head, the recipe's picture, and the curves of training.

    bllossom report RUN
    python scripts/page_picture.py RUN/report.html docs/results/report.png

Takes the page in Debian's Chromium, in the light theme, and keeps two pieces of it in 128 colours.
"""

import argparse
import io
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

WIDTH, HEIGHT = 1100, 560  # pixels of each piece
COLOURS = 128
MOST_BYTES = 150_000
SECTIONS = ("overview", "training")
DRAWN = "return [...document.querySelectorAll('[data-chart]')].every(place => place.querySelector('svg path'))"
# The section's heading at the top; of training, the first chart and not the table above it.
SCROLL = """
const part = document.getElementById(arguments[0]);
const place = arguments[0] === "overview" ? document.querySelector("header") : part.querySelector("figure");
window.scrollTo(0, place.getBoundingClientRect().top + window.scrollY - 8);
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as profile:
        browser = open_browser(Path(profile))
        try:
            pieces = take(browser, options.page.resolve())
        finally:
            browser.quit()
    whole = Image.new("RGB", (pieces[0].width, sum(piece.height for piece in pieces)), "white")
    below = 0
    for piece in pieces:
        whole.paste(piece, (0, below))
        below += piece.height
    whole.quantize(COLOURS).save(options.picture, optimize=True)
    size = options.picture.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{options.picture}: {size:,} bytes, more than {MOST_BYTES:,}; lower COLOURS or HEIGHT")
    print(f"{options.picture}: {size:,} bytes")


def open_browser(profile: Path) -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return browser


def take(browser: Any, page: Path) -> list[Image.Image]:
    """A picture of each piece, once all charts are drawn."""
    browser.get(page.as_uri())
    end = time.monotonic() + 60
    while not browser.execute_script(DRAWN):
        if time.monotonic() > end:
            raise SystemExit(f"{page}: its charts are not drawn after a minute")
        time.sleep(0.1)
    pieces = []
    for section in SECTIONS:
        browser.execute_script(SCROLL, section)
        pieces.append(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))
    return pieces


if __name__ == "__main__":
    main()
