"""Every command of the README is run: `make` targets by CI, `bllossom` commands here, as far as weights allow."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bllossom.cli import make_app

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf8"), re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
IN_CI = {"make demo", "make test"}


def test_make_targets_are_what_ci_runs():
    ci = (ROOT / ".ci/run").read_text()
    for command in IN_CI:
        assert command in COMMANDS
        assert command in ci


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("bllossom ")])
def test_bllossom_commands_work_without_weights(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AIHUB", "/data/aihub")
    monkeypatch.setenv("LIMA_EN", "/data/lima_en.jsonl")
    monkeypatch.setenv("LIMA_KO", "/data/lima_ko.json")
    arguments = shlex.split(command)[1:]
    if arguments[0] == "verify":
        assert CliRunner().invoke(make_app(), ["verify", str(ROOT)]).exit_code == 1
        return
    if arguments[0] != "plan" and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    result = CliRunner().invoke(make_app(), arguments)
    assert result.exit_code == 0, result.output


def test_nothing_else_is_told_to_be_typed():
    others = [command for command in COMMANDS if command not in IN_CI and not command.startswith("bllossom ")]
    assert all(command.startswith(("python3 -m venv", "python3 -m pip install", "export ")) for command in others), (
        others
    )


def test_folders_in_the_map_exist():
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "README.md").read_text(encoding="utf8"), re.MULTILINE)
    folders = [row for row in rows if not row.startswith("bllossom ")]
    assert folders
    for folder in folders:
        assert (ROOT / folder).is_dir(), folder
