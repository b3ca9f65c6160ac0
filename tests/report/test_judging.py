"""The page's part on judging: its figures are the manifest's, and its pictures are drawn from them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bllossom.artifacts import publish
from bllossom.config import StageConfig
from bllossom.evaluation.judge.rates import measure
from bllossom.evaluation.judge.verdicts import Judged
from bllossom.report.blocks import Drawing, Table
from bllossom.report.run_folder import Figure, read_run
from bllossom.report.sections.judging import judging

TWICE = [Judged(str(number), {"ab": "a", "ba": "ab"[number % 2]}, 5, 9) for number in range(6)]


def judged_run(folder: Path, names: list[tuple[str, str]], found: Sequence[Judged] = TWICE) -> Path:
    """A run of one step, as `bllossom judge` would leave its manifest."""
    pairs = [{"a": a, "b": b, **measure(found, draws=50, seed=0)} for a, b in names]
    strengths = {"x": {"strength": 0.5, "interval": [0.1, 0.9]}} if len(names) > 1 else None
    figures = {"pairs": pairs, "strengths": strengths}
    publish(StageConfig(output=folder / "judged"), stage="judge", inputs={}, build=lambda _: figures)
    return folder


def test_figures_are_the_manifests_and_a_pair_has_one_picture(tmp_path):
    section = judging([read_run(judged_run(tmp_path, [("x", "y <b>")]))])
    drawing, table = section.blocks
    assert isinstance(drawing, Drawing)
    assert "against y &lt;b&gt;: win 3, tie 0, inconsistent 3, lose 0" in drawing.svg
    assert isinstance(table, Table)
    [row] = table.rows
    figures = [cell for cell in row[1:] if isinstance(cell, Figure)]
    assert len(figures) == len(table.header) - 1
    manifest = json.loads((tmp_path / "judged" / "manifest.json").read_text())
    for figure in figures:
        value = manifest
        for key in figure.source.partition("#/")[2].split("/"):
            value = value[int(key)] if isinstance(value, list) else value[key]
        assert value == figure.value


def test_flips_that_were_not_measured_are_no_figure(tmp_path):
    section = judging([read_run(judged_run(tmp_path, [("x", "y")], [Judged("0", {"ab": "a"}, 5, 9)]))])
    [row] = section.blocks[1].rows
    cells = dict(zip(section.blocks[1].header, row, strict=True))
    assert cells["flips"] is None
    assert cells["win rate of A"].value == 1


def test_a_round_robin_has_a_picture_a_model_and_strengths(tmp_path):
    section = judging([read_run(judged_run(tmp_path, [("x", "y"), ("z", "x"), ("y", "z")]))])
    drawings = [block.svg for block in section.blocks if isinstance(block, Drawing)]
    assert ["judged: x" in drawings[0], "judged: y" in drawings[1], "judged: z" in drawings[2]] == [True] * 3
    assert "against z: win 0, tie 0, inconsistent 3, lose 3" in drawings[0]
    assert section.blocks[-1].header[1] == "Bradley–Terry strength"


def test_without_a_judging_there_is_no_such_part(run):
    assert judging([read_run(run)]) is None


def test_the_part_stands_on_the_page(tmp_path):
    pytest.importorskip("vl_convert", reason="vl-convert is not installed (pip install 'bllossom[report]')")
    from bllossom.report.report import report

    page = report([judged_run(tmp_path, [("x", "y")])]).read_text(encoding="utf8")
    assert "Which answers are better" in page
    assert '<svg xmlns="http://www.w3.org/2000/svg" class="bars"' in page
