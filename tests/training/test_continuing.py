"""A run that continues another reads the blocks behind it, each once, and only where they are the same blocks."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bllossom.errors import BllossomError, ConfigError
from bllossom.model.merge_adapter import MergeAdapterConfig, merge_adapter
from bllossom.training.block_rows import BlockRows
from bllossom.training.continuing import EarlierRun
from bllossom.training.engines.rows import Row
from bllossom.training.pretrain import PretrainConfig, dry_run, pretrain
from tests.fixtures.training import write_tokens

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the mixture's blocks that have been read, in their order."""
    found: list[int] = []
    read = BlockRows.row

    def noting(self: BlockRows, index: int) -> Row:
        found.append(int(self.describe(index).split()[1]))
        return read(self, index)

    monkeypatch.setattr(BlockRows, "row", noting)
    return found


@pytest.fixture(scope="module")
def first(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 3 steps of 8 blocks that has left out block 5."""
    output = tmp_path_factory.mktemp("first") / "model"
    pretrain(PretrainConfig(**settings(output, steps=3, skip_blocks=[5])))
    return output


def test_every_block_is_read_once_over_three_runs(
    first: Path, blocks: list[int], settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second, third = tmp_path / "second", tmp_path / "third"
    changes = {"model": str(first), "continue_from": str(first), "learning_rate": {"peak": 0.002}}
    pretrain(PretrainConfig(**settings(second, steps=2, skip_blocks=[30], **changes)))
    assert sorted(blocks) == [block for block in range(25, 42) if block != 30]
    said = capsys.readouterr().err
    assert "behind its 24 blocks" in said
    assert "learning rate ended at 0.001, this run's rises to 0.002, with new moments" in said
    blocks.clear()
    # Another global batch does not move the blocks, and the second run's manifest tells of both.
    changes = {"model": str(second), "continue_from": str(second), "global_batch": 4 * 32}
    pretrain(PretrainConfig(**settings(third, steps=2, **changes)))
    assert sorted(blocks) == list(range(42, 50))


def test_epochs_count_what_was_read_before(first: Path, settings: Settings, tmp_path: Path) -> None:
    whole = dry_run(PretrainConfig(**settings(tmp_path / "model", steps=None, epochs=0.5)))
    changes = {"model": str(first), "continue_from": str(first)}
    rest = dry_run(PretrainConfig(**settings(tmp_path / "model", steps=None, epochs=0.5, **changes)))
    steps = [int(lines[1].split(" steps")[0]) for lines in (whole, rest)]
    assert steps[0] - steps[1] == 3


def test_other_blocks_or_weights_are_refused(first: Path, settings: Settings, tmp_path: Path) -> None:
    def run(**changes: Any) -> None:
        """The dry run refuses what the run does, in the same words."""
        config = PretrainConfig(**settings(tmp_path / "model", continue_from=str(first), **changes))
        try:
            pretrain(config)
        except BllossomError as refused:
            with pytest.raises(type(refused), match=re.escape(str(refused))):
                dry_run(config)
            raise

    ours = {"model": str(first)}
    with pytest.raises(ConfigError, match=r"read other blocks \(seed 0 there, 1 here\).*leave continue_from out"):
        run(**ours, seed=1)
    with pytest.raises(ConfigError, match=r"block_size 32 there, 16 here"):
        run(**ours, block_size=16)
    with pytest.raises(ConfigError, match=r"mixture .*'ko': 7.* there, .*'ko': 6.* here"):
        run(**ours, mixture={"weights": {"ko": 6, "en": 3}})
    with pytest.raises(ConfigError, match=r"tokens \w{16} there, \w{16} here"):
        run(**ours, tokens=str(write_tokens(tmp_path / "tokens", seed=1)))
    with pytest.raises(ConfigError, match=r"has read 7 already; name blocks above 24"):
        run(**ours, skip_blocks=[7])
    with pytest.raises(ValidationError, match=r"model\.init starts from nothing; set model to the run"):
        run()
    pretrain(PretrainConfig(**settings(tmp_path / "other", steps=1)))
    with pytest.raises(ConfigError, match=r"which .* did not make; set model="):
        run(model=str(tmp_path / "other"))
    with pytest.raises(BllossomError, match="was not published by pretrain; name a run's output"):
        pretrain(PretrainConfig(**settings(tmp_path / "model", **ours, continue_from=settings("x")["tokens"])))
    run(**ours, mixture={"weights": {"ko": 7, "en": 3}, "max_epochs": 2}, steps=1)


def test_an_adapters_run_is_continued_from_what_was_merged(first: Path, settings: Settings, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")
    lora = {"lora": {"rank": 2, "alpha": 4}, "trainable": "embeddings", "steps": 1}
    pretrain(PretrainConfig(**settings(tmp_path / "adapter", model=str(first), **lora)))
    merge_adapter(MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged"))
    changes = {"model": str(tmp_path / "merged"), "continue_from": str(tmp_path / "adapter")}
    pretrain(PretrainConfig(**settings(tmp_path / "model", **changes, **lora)))
    assert EarlierRun.read(tmp_path / "model").blocks == 16
