"""What a run trains on follows from its config and the number of GPUs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bllossom.errors import ConfigError
from bllossom.ranks.device import device_type, local_ranks
from bllossom.training.pretrain import PretrainConfig


@pytest.mark.parametrize(
    ("gpus", "there", "device", "ranks"),
    [
        ("auto", 0, "cpu", 2),
        ("auto", 8, "cuda", 8),
        (0, 8, "cpu", 2),
        (0, 0, "cpu", 2),
        (1, 8, "cuda", 1),
        (8, 8, "cuda", 8),
    ],
)
def test_gpus_are_taken_where_they_are_and_0_takes_the_cpu(gpus: Any, there: int, device: str, ranks: int) -> None:
    assert device_type(gpus, there) == device
    assert local_ranks(gpus, 2, there) == ranks


@given(gpus=st.integers(1, 16), there=st.integers(0, 15), processes=st.integers(1, 4))
def test_more_gpus_than_there_are_is_refused_and_never_becomes_the_cpu(gpus: int, there: int, processes: int) -> None:
    if gpus <= there:
        assert (device_type(gpus, there), local_ranks(gpus, processes, there)) == ("cuda", gpus)
        return
    with pytest.raises(ConfigError, match=rf"{there} are here; set gpus to {there or 'auto'}"):
        local_ranks(gpus, processes, there)


def test_less_than_no_gpu_is_refused(settings: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        PretrainConfig(**settings(tmp_path / "model", gpus=-1))
