"""The inputs of a run are read once to be hashed, however many ranks there are."""

import shutil
from pathlib import Path

from tests.fixtures.command_runs import start

WATCH = """
import os, sys

def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith("/extra.bin"):
        with open(os.environ["OPENED"], "a") as log:
            log.write("opened\\n")

sys.addaudithook(watch)
"""


def test_a_foreign_base_is_hashed_by_the_first_rank_alone(before: Path, tmp_path: Path, monkeypatch) -> None:
    foreign = tmp_path / "foreign"
    shutil.copytree(before / "runs/merged", foreign)
    (foreign / "manifest.json").unlink()
    (foreign / "extra.bin").write_bytes(bytes(2_000_000))  # read for nothing but its hash
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    monkeypatch.setenv("OPENED", str(tmp_path / "opened"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    overrides = [f"model={foreign}", f"output={tmp_path}/tuned", "processes=2", "micro_batch=4", "checkpoint_every=1"]
    overrides.append("template=plain")
    command = ["-m", "bllossom.cli", "sft", "--config", "configs/tuned.sft.yaml", *overrides]
    process = start(*command, before=(tmp_path,))
    _, talk = process.communicate()
    assert process.returncode == 0, talk
    assert (tmp_path / "opened").read_text() == "opened\n"
