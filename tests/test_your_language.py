"""docs/your-language.md: its recipe runs as it stands, on a text of another alphabet; its keys exist."""

import random
import re
from pathlib import Path

import pytest
import yaml

from bllossom.recipe.recipe import read_recipe, run_steps
from tests.fixtures.vocabularies import train_byte_level, write_small_base

GUIDE = (Path(__file__).parent.parent / "docs" / "your-language.md").read_text(encoding="utf8")
GREEK = """η γλώσσα είναι πατρίδα μας και το σχολείο στο χωριό κάτω από το βουνό όπου τα παιδιά διαβάζουν βιβλία κάθε
πρωί πριν από τη θάλασσα οι ψαράδες επιστρέφουν με τις βάρκες τους στο λιμάνι"""
ENGLISH = "the river ran along old stones and a quiet village where people kept their garden walls low"


def write(path: Path, text: str, seed: int) -> None:
    generator = random.Random(seed)
    lines = (" ".join(generator.choices(text.split(), k=30)) for _ in range(400))
    path.write_text("\n".join(f'{{"text": "{line}"}}' for line in lines), encoding="utf8")


def test_the_recipe_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data/el.jsonl", GREEK, 0)
    write(tmp_path / "data/en.jsonl", ENGLISH, 1)
    (tmp_path / "en.txt").write_text((ENGLISH + " ") * 30)
    base = train_byte_level(tmp_path / "base", tmp_path / "en.txt", size=300)
    write_small_base(tmp_path / "models/smollm2", base, rows=302)
    block = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[0]
    assert len(block.splitlines()) <= 42
    recipe = yaml.safe_load(block)
    small = {"block_size": 32, "global_batch": 64, "micro_batch": 2, "steps": 3, "precision": "fp32"}
    recipe["steps"][3]["set"] |= small  # the rest runs as it is written
    (tmp_path / "greek.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf8")
    manifests = run_steps(read_recipe(tmp_path / "greek.yaml").steps)
    words = manifests["vocab"].figures["tokens_per_word"]["el"]
    assert words["merged"] < 0.5 * words["base"]
    assert manifests["vocab"].figures["changed_documents"]["en"] == 0
    assert manifests["vocab"].figures["unreachable_pieces"] == 0
    assert manifests["expanded"].figures["tied"] is True
