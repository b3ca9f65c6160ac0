"""What docs/evaluation.md tells to type works without weights, and the keys and tasks it names are there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.evaluation.harness import EvalConfig
from bllossom.evaluation.tasks.definitions import choose

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_work_without_weights(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("BLLOSSOM_SHARED", "/nowhere")
    program, *arguments = shlex.split(command)
    assert program == "bllossom"
    if arguments[0] == "compare":
        monkeypatch.chdir(tmp_path)  # where no demo was run
        result = CliRunner().invoke(make_app(), arguments)
        assert "no result there" in result.stderr
    else:
        result = CliRunner().invoke(make_app(), [*arguments, "--dry-run"])
        assert result.exit_code == 0, result.output


def test_keys_and_metadata_are_the_code_s() -> None:
    keys = re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE)
    assert len(keys) > 5
    assert set(keys) <= EvalConfig.model_fields.keys()
    [block] = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    told = yaml.safe_load(block)["metadata"]
    found = choose(["klue_nli"]).tasks["klue_nli"].metadata
    assert all(found[key] == told[key] for key in ("version", "score", "files"))
    assert told["columns"].items() <= found["columns"].items()


def test_the_tasks_it_names_are_there() -> None:
    named = ["kobest_copa", "table6", "english", "kmmlu", "haerae", "click", "gsm8k", "lm-eval:kobest_copa"]
    assert all(f"`{name}`" in GUIDE for name in named)
    assert choose(named).shown
