"""What docs/data.md tells to write is a config, and the defaults it names are the code's."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

from bllossom.config import load_config
from bllossom.corpus import finish
from bllossom.corpus.clean import CleaningConfig
from bllossom.corpus.decontaminate import DecontaminationConfig
from bllossom.corpus.prepare import PrepareConfig, SourceConfig
from bllossom.tokens.mixture import MixtureConfig
from bllossom.training.pretrain import PretrainConfig

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "data.md").read_text(encoding="utf8")


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
def test_yaml_is_a_piece_of_a_config(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB", "aihub")
    values = yaml.safe_load(block)
    kind, name = (PretrainConfig, "pretrain") if "mixture" in values else (PrepareConfig, "prepare")
    config = load_config(kind, ROOT / f"configs/bllossom-13b/{name}.yaml", values=values, allow_missing=True).config
    assert config


def test_defaults_are_the_codes() -> None:
    rows = re.findall(r"\| `(clean\.)?([a-z_]+)` \| `([^`]+)` \|", GUIDE)
    assert len(rows) > 5
    for clean, key, default in rows:
        fields = (CleaningConfig if clean else PrepareConfig).model_fields
        assert fields[key].default == yaml.safe_load(default), key


def test_defaults_of_decontamination_are_the_codes() -> None:
    config = DecontaminationConfig(paths=["tests"])
    assert f"`window_bytes` ({config.window_bytes})" in GUIDE
    assert config.overlap == 0.5
    assert "`overlap` (half)" in " ".join(GUIDE.split())


def test_keys_that_are_named_exist() -> None:
    figures = set(re.findall(r'"([a-z_]+)":', inspect.getsource(finish)))  # of report.json
    models = (PrepareConfig, SourceConfig, CleaningConfig, DecontaminationConfig, MixtureConfig)
    known = {key for model in models for key in model.model_fields} | figures
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)[:`]", GUIDE))
    assert len(named) >= 5
    assert named <= known
    assert "bytes_cleaned_away" in named & figures  # what the two steps that drop nothing are counted by
