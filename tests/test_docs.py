"""What docs/training.md tells to type works, as far as weights allow: commands, YAML, keys and their defaults."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.config import load_config
from bllossom.training.pretrain import PretrainConfig
from bllossom.training.settings import Lora, TrainingConfig
from bllossom.training.sft import SftConfig

ROOT = Path(__file__).parent.parent
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf8")
CONFIG = ROOT / "configs" / "bllossom-13b" / "pretrain.yaml"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TRAINING, re.DOTALL)


@pytest.mark.parametrize("command", [line for block in blocks("sh") for line in block.splitlines()])
def test_commands_work_without_weights(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(command)
    assert program == "bllossom"
    result = CliRunner().invoke(
        make_app(), [*arguments, *([] if arguments[0] in ("plan", "reshard") else ["--dry-run"])]
    )
    if arguments[0] == "reshard":
        assert result.exit_code == 1
        assert "is no checkpoint (it has no state.json)" in result.stderr
    else:
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("block", blocks("yaml"))
def test_yaml_is_a_piece_of_a_pretrain_config(block: str) -> None:
    assert load_config(PretrainConfig, CONFIG, values=yaml.safe_load(block), allow_missing=True).config


def test_keys_that_are_named_exist_with_these_defaults() -> None:
    known = PretrainConfig.model_fields | SftConfig.model_fields | Lora.model_fields
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", TRAINING))
    assert {"global_batch", "micro_batch"} <= named <= known.keys() | {"new_rows"}
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| `([^`]+)` \|", TRAINING, re.MULTILINE)
    about_gpus = {key for key, field in TrainingConfig.model_fields.items() if "GPU" in (field.description or "")}
    assert about_gpus - {"gpus", "processes"} <= dict(rows).keys()  # the table is whole
    for key, default in rows:
        assert TrainingConfig.model_fields[key].default == yaml.safe_load(default), key
