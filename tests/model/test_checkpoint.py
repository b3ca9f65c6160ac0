"""What is refused where a model is asked for."""

from pathlib import Path

import pytest

from bllossom.errors import BllossomError
from bllossom.model.checkpoint import open_checkpoint


def test_an_adapter_is_no_model_and_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BllossomError, match=rf"run `bllossom merge-adapter adapter={tmp_path} output=FOLDER`"):
        open_checkpoint(tmp_path)
