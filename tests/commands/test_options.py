"""Paths as they are typed behind commands."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["verify", "~/run"], "no such folder: {home}/run"),
        (["clean", "~/run"], "no such folder: {home}/run"),
        (["report", "--output=~/page.html", "~/run"], "no such folder: {home}/run"),
        (["compare", "base=~/run"], "{home}/run: no result there"),
        (["push", "~/run", "--to", "a/b"], "{home}/run is no model"),
        (["plan", "--config=~/plan.yaml"], "{home}/plan.yaml: cannot be read"),
        (["verify", "$BLLOSSOM_NOWHERE/run"], "a variable of the environment is written ${{env.BLLOSSOM_NOWHERE}}"),
    ],
)
def test_a_tilde_is_the_home_folder_in_every_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], shown: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(make_app(), arguments)
    told = " ".join(result.stderr.replace("│", " ").split())
    assert shown.format(home=tmp_path) in told
    assert not (tmp_path / "~").exists()


def test_a_recipe_has_no_plan_of_its_own(tmp_path: Path) -> None:
    recipe = tmp_path / "greek.yaml"
    recipe.write_text("output: runs\nsteps: [{name: base, stage: pretrain, set: {steps: 3}}]\n", encoding="utf8")
    result = CliRunner().invoke(make_app(), ["plan", "--config", str(recipe)])
    assert result.exit_code == ConfigError.exit_code
    assert "is a recipe, and a plan is of one step" in " ".join(result.stderr.replace("│", " ").split())
