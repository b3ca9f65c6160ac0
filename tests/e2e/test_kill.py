"""Kill -9 a recipe wherever it is, run the same command, and get what an uninterrupted run gives."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

# What is there when the kill comes: in the middle of a merge, of pretraining, of tuning.
PLACES = ("vocab.partial-*", "adapted.partial-*/checkpoints/step-00000008", "tuned.partial-*/checkpoints/step-00000004")
SECONDS = 300


def fingerprints(output: Path) -> dict[str, str]:
    return {path.parent.name: json.loads(path.read_text())["fingerprint"] for path in output.glob("*/manifest.json")}


def kill_when_there(process: subprocess.Popen[str], output: Path, place: str) -> None:
    """Kill the process, and nothing else, once `place` is there."""
    give_up = time.monotonic() + SECONDS
    while not list(output.glob(place)):
        assert process.poll() is None, f"the recipe ended before {place} was there"
        assert time.monotonic() < give_up, f"{place} never came"
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(output.glob("*.partial-*")), "the kill came in the middle of a stage"


def test_a_recipe_killed_at_three_places_gives_the_same_payloads(recipe, tmp_path, bllossom, start):
    whole = bllossom("run", recipe, f"output={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "killed"
    for place in PLACES:
        kill_when_there(start("run", recipe, f"output={killed}"), killed, place)
    resumed = bllossom("run", recipe, f"output={killed}")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after step 4" in resumed.stderr
    assert fingerprints(killed) == fingerprints(tmp_path / "whole")
    assert len(fingerprints(killed)) == 10
    assert not list(killed.glob("*.partial-*"))

    again = bllossom("run", recipe, f"output={killed}")
    assert again.stderr.count("nothing to do") == 10
    for folder in killed.glob("*/"):
        assert bllossom("verify", folder).returncode == 0
