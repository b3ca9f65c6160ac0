"""What a model is given before it trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bllossom.errors import ConfigError
from bllossom.training import models
from bllossom.training.pretrain import PretrainConfig, pretrain

Settings = Callable[..., dict[str, Any]]
FLASH = {"attention": "flash_attention_2", "precision": "bf16"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (FLASH, "attention: flash_attention_2: needs a GPU; set attention to sdpa"),
        (FLASH | {"precision": "auto"}, "attention: flash_attention_2: needs a GPU; set attention to sdpa"),
        ({"liger": True}, "liger: needs a GPU; set liger to false"),
    ],
)
def test_gpu_kernels_without_a_gpu_are_refused_before_anything_is_made(
    changes: dict[str, Any], told: str, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        pretrain(PretrainConfig(**settings(tmp_path / "model", **changes)))
    assert not list(tmp_path.iterdir())


def test_kernels_that_are_not_installed_are_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="flash_attention_2: not installed; pip install flash-attn, or set attention"):
        models.check_kernels(PretrainConfig(**settings(tmp_path / "model", **FLASH)), "cuda")


def test_flash_attention_needs_bf16(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="flash_attention_2 computes in bf16 only; set precision to bf16"):
        PretrainConfig(**settings(tmp_path / "model", attention="flash_attention_2"))
