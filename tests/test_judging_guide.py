"""What docs/judging.md tells to type is a command with these options, and its YAML is a piece of judge's config."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.evaluation.judge.judge import JudgeConfig

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "judging.md").read_text(encoding="utf8")


@pytest.mark.parametrize(
    "command", [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
)
def test_commands_dry_run_without_weights_or_data(command, monkeypatch, tmp_path):
    program, stage, option, config = shlex.split(command)
    assert (program, option) == ("bllossom", "--config")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(make_app(), [stage, option, str(ROOT / config), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "not here" in result.output


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
def test_yaml_is_a_piece_of_a_judges_config(block):
    assert JudgeConfig.model_validate({"output": "o", "answers": ["a"], **yaml.safe_load(block)})


def test_options_and_keys_that_are_named_exist():
    app = make_app()
    for command in ("answers", "judge", "vote"):
        help_ = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        for line in re.findall(rf"`bllossom {command} ([^`]+)`", GUIDE):
            for option in re.findall(r"--[a-z]+", line):
                assert option in help_
    assert {"wrong_language", "prompt", "pairs"} <= JudgeConfig.model_fields.keys()
