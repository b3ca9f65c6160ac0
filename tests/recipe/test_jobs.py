"""Independent steps run side by side, those that read them after them; one that fails stops what is not begun."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from bllossom.artifacts import read_manifest
from bllossom.cli import make_app

WORDS = "the river ran along old stones and a quiet village where people kept their garden walls low " * 40


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run a recipe of two vocabularies and their merge with --jobs 2, and give its exit code and what it said."""
    (tmp_path / "text.txt").write_text(WORDS, encoding="utf8")
    (tmp_path / "vocab.yaml").write_text(f"output: x\ntext: [{tmp_path}/text.txt]\ntype: bpe\nvocab_size: 290\n")
    (tmp_path / "merge.yaml").write_text("output: x\nbase: b/c\ndonor: d/e\n")

    def start(**donor: object) -> tuple[int, str]:
        steps = [
            {"name": "base", "stage": "train-vocab", "config": "vocab.yaml"},
            {"name": "donor", "stage": "train-vocab", "config": "vocab.yaml", "set": {"type": "unigram", **donor}},
            {
                "name": "vocab",
                "stage": "merge-vocab",
                "config": "merge.yaml",
                "set": {"base": "${steps.base.output}", "donor": "${steps.donor.output}"},
            },
        ]
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({"output": str(tmp_path / "runs"), "steps": steps}))
        ended = CliRunner().invoke(make_app(), ["run", str(recipe), "--jobs", "2"])
        return ended.exit_code, ended.output

    return start


def test_two_at_once_and_what_reads_them_behind(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, said = run(vocab_size=30)
    assert code == 0, said
    assert said.index("begins: donor") < said.index("── 1/3")  # both began before either ended
    assert said.index("── 2/3") < said.index("begins: vocab")
    vocab, base = read_manifest(tmp_path / "runs/vocab"), read_manifest(tmp_path / "runs/base")
    assert vocab.figures["base_pieces"] == base.figures["pieces"]
    assert (tmp_path / "runs/logs/vocab.log").is_file()


def test_a_step_that_fails_is_told_with_its_last_words(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, said = run(vocab_size=100_000)
    assert code == 1
    assert "donor failed (all it said is in" in said
    assert "set another vocab_size" in said
    assert read_manifest(tmp_path / "runs/base") is not None  # the one under way was waited for
    assert not (tmp_path / "runs/vocab").exists()
