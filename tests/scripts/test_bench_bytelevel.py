"""The page of new pieces for a byte-level base comes whole from its figures."""

import json
from pathlib import Path

import bench_bytelevel

RESULTS = Path(__file__).parents[2] / "docs/results/bytelevel"


def test_the_page_is_made_of_its_figures_alone() -> None:
    page = bench_bytelevel.to_markdown(json.loads(RESULTS.with_suffix(".json").read_text(encoding="utf8")))
    assert RESULTS.with_suffix(".md").read_text(encoding="utf8") == page


def test_a_method_is_measured_against_the_better_plain_one() -> None:
    folds = {"laws": {"list": [4.0, 2.0, 2.0], "continued BPE": [2.0, 4.0, 1.0], "both": [1.0, 1.0, 1.1]}}
    told = bench_bytelevel._beside_the_better(folds, "both")
    assert told.startswith("*both* is below both others in 2 of 3 cells; not: laws at 6,000 (+10.00 %).")
    assert told.endswith("it takes 0.7000 of the better one's tokens.")
