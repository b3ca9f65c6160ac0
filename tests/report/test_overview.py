"""The picture of a run tells the size of all that a step published."""

import json
from pathlib import Path

from bllossom.report.run_folder import read_run
from bllossom.report.sections.overview import overview


def test_a_steps_size_is_that_of_all_its_files(run: Path) -> None:
    overview([read_run(run)])
    manifest = json.loads((run / "adapted/manifest.json").read_text())
    sizes = json.loads((run / "sizes.json").read_text())
    assert sizes["adapted"] == sum((run / "adapted" / name).stat().st_size for name in manifest["files"])
    assert sizes["adapted"] > manifest["files"]["model.safetensors"]["bytes"]
