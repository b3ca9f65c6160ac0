"""The floor of bits per byte is that of the pieces which the model that was scored has."""

import json
import shutil
from pathlib import Path

import pytest

from bllossom.artifacts import Manifest
from bllossom.report import summary
from bllossom.report.floors import floors
from bllossom.report.page import show
from bllossom.report.run_folder import Figure, read_run
from bllossom.report.sections.scores import scores


@pytest.fixture
def two_vocabularies(run: Path) -> Path:
    """The run with its base scored, too, whose pieces are those of base-tokens."""
    shutil.copytree(run / "scores", run / "eval-base")
    path = run / "eval-base/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"]["model"] = json.loads((run / "base/manifest.json").read_text())["fingerprint"]
    manifest["figures"]["bits_per_byte"] = {"en": 7.5, "ko": 9.5}
    path.write_text(json.dumps(manifest))
    return run


def published(run: Path) -> dict[Path, Manifest]:
    return {step.folder: step.manifest for step in read_run(run).steps}


def test_each_evaluation_has_the_floor_of_its_models_pieces(two_vocabularies: Path) -> None:
    folders = published(two_vocabularies)
    figures = {
        name: folders[two_vocabularies / name].figures["unigram_bits_per_byte"] for name in ("tokens", "base-tokens")
    }
    assert floors(folders[two_vocabularies / "scores"], folders) == {"ko": figures["tokens"]["ko"]}
    # No text of Korean was prepared with the base's pieces: nobody knows its floor.
    assert floors(folders[two_vocabularies / "eval-base"], folders) == {"en": figures["base-tokens"]["en"]}
    assert figures["base-tokens"]["en"] != figures["tokens"]["en"]


def test_the_table_and_the_page_tell_the_same_floors(two_vocabularies: Path) -> None:
    run = read_run(two_vocabularies)
    steps = {step.name: step.manifest for step in run.steps}
    for step in run.steps:
        step.manifest.config["output"] = str(step.folder)  # as in the run itself, before it was moved
    table = {row[0]: row[2:] for row in summary.rows(summary.summarise(steps))[1]}
    section = scores([run])
    assert section is not None
    rows = section.blocks[1].rows
    page = {row[0]: [show(cell) if isinstance(cell, Figure) else "–" for cell in row[1:]] for row in rows}
    assert page == table
    by_column = dict(zip([step.name for step in run.of("eval")], table["their floor, en"], strict=True))
    assert by_column == {"scores": "–", "eval-base": "4.315"}


def test_a_model_that_is_gone_has_no_floor(two_vocabularies: Path) -> None:
    folders = published(two_vocabularies)
    shutil.rmtree(two_vocabularies / "base")
    gone = {folder: manifest for folder, manifest in folders.items() if folder.name != "base"}
    assert floors(folders[two_vocabularies / "eval-base"], gone) == {}
