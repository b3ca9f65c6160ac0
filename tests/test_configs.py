"""Every file under configs/ parses, and every recipe dry-runs without weights or data."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.config import load_config
from bllossom.localize.review import ReviewConfig
from bllossom.pipeline import STAGES
from bllossom.recipe.recipe import Recipe

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "configs").glob("**/*.yaml"))


@pytest.fixture(autouse=True)
def _nothing_is_here(monkeypatch, tmp_path):
    """Neither weights nor data: the configs are read from an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLLOSSOM_SHARED", str(tmp_path / "shared"))
    monkeypatch.setenv("AIHUB", str(tmp_path / "aihub"))
    monkeypatch.setenv("LIMA_EN", str(tmp_path / "lima_en.jsonl"))
    monkeypatch.setenv("LIMA_KO", str(tmp_path / "lima_ko.json"))


def stage_of(path: Path) -> str:
    """A stage's config is named as the command, or ends in it: pretrain.yaml, base-pretrain.yaml, donor-vocab.yaml."""
    name = path.stem
    if name.endswith("-vocab") and name != "merge-vocab":
        return "train-vocab"
    return next(stage for stage in STAGES if f"-{name}".endswith(f"-{stage.replace(' ', '-')}"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_config_parses(path):
    if path.stem == "recipe":
        assert load_config(Recipe, path, keep_steps=True).config.steps
    elif path.stem == "review":
        assert str(load_config(ReviewConfig, path, allow_missing=True).config.folder).startswith("runs/")
    else:
        config = load_config(STAGES[stage_of(path)].config(), path, allow_missing=True).config
        assert str(config.output).startswith("runs/")


RECIPES = ("ablation", "ablation-13b", "bllossom-13b", "demo", "demo-dpo", "localize", "micro", "smollm2", "table6")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_dry_runs_without_weights_or_data(recipe):
    result = CliRunner().invoke(make_app(), ["run", str(ROOT / f"configs/{recipe}/recipe.yaml"), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "not here" in result.output


def test_the_papers_run_names_every_file_that_its_tuning_needs_before_anything_begins(tmp_path):
    recipe = str(ROOT / "configs/bllossom-13b/recipe.yaml")
    (tmp_path / "aihub").mkdir()
    (tmp_path / "aihub/text.jsonl").write_text('{"text": "가"}\n')
    result = CliRunner().invoke(make_app(), ["run", recipe])
    assert result.exit_code == 2
    assert f"no such file or folder: {tmp_path}/lima_en.jsonl" in result.output
    assert f"no such file or folder: {tmp_path}/lima_ko.json" in result.output
    assert result.output.count("no such file") == 2


def test_a_dry_run_does_not_send_an_earlier_steps_folder_to_the_hub():
    recipe = str(ROOT / "configs/demo/recipe.yaml")
    result = CliRunner().invoke(make_app(), ["run", recipe, "--dry-run", "output=runs"])
    assert "# runs/base-vocab: not here yet" in result.output
    assert "from the hub" not in result.output


def test_every_recipe_is_covered():
    assert {path.parent.name for path in FILES if path.stem == "recipe"} == set(RECIPES)


def test_the_ablation_makes_the_papers_six_models_and_more_with_three_seeds():
    result = CliRunner().invoke(make_app(), ["run", str(ROOT / "configs/ablation/recipe.yaml"), "--dry-run"])
    steps = [line.removeprefix("# ── ") for line in result.output.splitlines() if line.startswith("# ── ")]
    models = ("llama2-kosft", "llama2-ko", "bllossom-ko", "bllossom-bi", "bllossom-bi-kosft", "bllossom-bi-bisft")
    for model in (*models, "llama2-bi", "llama2-bi-flops", "bllossom-bi-kosft-all"):
        assert {f"{model}-seed-{seed}" for seed in range(3)} <= set(steps)
    assert {"vocab", "tokens", "old-tokens", "base-tokens"} <= set(steps)  # shared, so made once
