"""docs/your-language.md: its recipe runs as it stands, on a text of another alphabet; its keys exist."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bllossom.artifacts import Manifest
from bllossom.recipe.recipe import read_recipe, run_steps
from bllossom.vocab.train import TrainVocabConfig, train_vocab
from tests.fixtures.vocabularies import train_byte_level, write_small_base

GUIDE = (Path(__file__).parent.parent / "docs" / "your-language.md").read_text(encoding="utf8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
GREEK = """η γλώσσα είναι πατρίδα μας και το σχολείο στο χωριό κάτω από το βουνό όπου τα παιδιά διαβάζουν βιβλία κάθε
πρωί πριν από τη θάλασσα οι ψαράδες επιστρέφουν με τις βάρκες τους στο λιμάνι"""
ENGLISH = "the river ran along old stones and a quiet village where people kept their garden walls low"


def write(path: Path, text: str, seed: int) -> None:
    generator = random.Random(seed)
    lines = (" ".join(generator.choices(text.split(), k=30)) for _ in range(400))
    path.write_text("\n".join(f'{{"text": "{line}"}}' for line in lines), encoding="utf8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the recipe is typed: the files of data/ that it names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data/el.jsonl", GREEK, 0)
    write(tmp_path / "data/en.jsonl", ENGLISH, 1)
    (tmp_path / "en.txt").write_text((ENGLISH + " ") * 30)
    return tmp_path


def run(folder: Path, recipe: dict[str, Any]) -> dict[str, Manifest]:
    """Run it as it is written, but for the size of the training."""
    small = {"block_size": 32, "global_batch": 64, "micro_batch": 2, "steps": 3, "precision": "fp32"}
    next(step for step in recipe["steps"] if step["name"] == "adapted")["set"] |= small
    (folder / "greek.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf8")
    return run_steps(read_recipe(folder / "greek.yaml").steps)


def test_the_recipe_runs_as_it_stands(folder: Path) -> None:
    base = train_byte_level(folder / "base", folder / "en.txt", size=300)
    write_small_base(folder / "models/smollm2", base, rows=302)
    assert len(BLOCKS[0].splitlines()) <= 42
    manifests = run(folder, yaml.safe_load(BLOCKS[0]))
    words = manifests["vocab"].figures["tokens_per_word"]["el"]
    assert words["merged"] < 0.5 * words["base"]
    assert manifests["vocab"].figures["changed_documents"]["en"] == 0
    assert manifests["vocab"].figures["unreachable_pieces"] == 0
    assert manifests["expanded"].figures["tied"] is True


def test_the_recipe_runs_on_a_sentencepiece_base(folder: Path) -> None:
    """With the two steps of the second block in the place of `vocab`, and what the guide says beside them."""
    vocabulary = TrainVocabConfig(text=["en.txt"], type="bpe", vocab_size=300, output=folder / "base")
    train_vocab(vocabulary)
    write_small_base(folder / "models/llama2", folder / "base", rows=300)
    recipe, instead = yaml.safe_load(BLOCKS[0]), yaml.safe_load(BLOCKS[1])
    instead[0]["set"]["vocab_size"] = 420  # all that this text gives
    recipe["steps"][:1] = instead
    steps = {step["name"]: step["set"] for step in recipe["steps"]}
    steps["expanded"]["model"] = "models/llama2"
    assert steps["tokens"].pop("bos") is False
    manifests = run(folder, recipe)
    words = manifests["vocab"].figures["tokens_per_word"]["el"]
    assert words["merged"] < 0.5 * words["base"]
    assert manifests["vocab"].figures["changed_documents"]["en"] == 0
    assert manifests["vocab"].figures["unreachable_pieces"] == 0
    assert manifests["vocab"].figures["new_pieces"] > 100
