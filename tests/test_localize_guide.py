"""What docs/localize.md tells: its commands parse, its rules are all there are, its keys exist."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.localize.by_endpoint import EndpointTranslation
from bllossom.localize.export import ExportConfig
from bllossom.localize.flag import FlagConfig
from bllossom.localize.review import ReviewConfig
from bllossom.localize.rules.checker import RULES
from bllossom.localize.translate import TranslateConfig
from bllossom.serving.endpoint import Endpoint

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "localize.md").read_text(encoding="utf8")
COMMANDS = re.findall(r"^bllossom .*$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("command", [command for command in COMMANDS if " review " not in command])
def test_commands_work_without_data(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("BLLOSSOM_SHARED", "nowhere")
    result = CliRunner().invoke(make_app(), [*shlex.split(command)[1:], "--dry-run"])
    assert result.exit_code == 0, result.output


def test_the_table_has_every_rule():
    assert sorted(re.findall(r"^\| `(\w+)` \| (?!an OpenAI|a local|a file)", GUIDE, re.MULTILINE)) == sorted(RULES)


def test_keys_that_are_named_exist():
    kinds = (TranslateConfig, EndpointTranslation, Endpoint, FlagConfig, ReviewConfig, ExportConfig)
    known = {key for kind in kinds for key in kind.model_fields}
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)[:`]", GUIDE))
    assert len(named) >= 5
    assert named - set(RULES) <= known
