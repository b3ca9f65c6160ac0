from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from bllossom.config import InputPath, Source, StageConfig
from bllossom.keys import help_lines, keys_of, markdown
from bllossom.pipeline import STAGES
from bllossom.recipe.recipe import Recipe


class Rate(BaseModel):
    """How fast it learns.

    More of it.
    """

    peak: Annotated[float, Field(description="the highest, a step")]


class Example(StageConfig):
    base: Annotated[Source | None, Field(description="a vocabulary")] = None
    data: Annotated[list[InputPath], Field(description="files")]
    kind: Annotated[Literal["a", "b"], Field(description="which")] = "a"
    rate: Rate
    phases: Annotated[dict[str, list[Rate]], Field(description="parts")] = {}


def test_every_key_is_listed_with_type_default_and_meaning() -> None:
    found = {key.name: (key.type, key.default, key.meaning) for key in keys_of(Example)}
    assert found["output"][:2] == ("folder", "")
    assert found["base"] == ("path or hub id | null", "null", "a vocabulary")
    assert found["data"] == ("list of path", "", "files")
    assert found["kind"] == ("a | b", '"a"', "which")
    assert found["rate"] == ("block", "", "How fast it learns")
    assert found["rate.peak"] == ("number", "", "the highest, a step")
    assert found["phases"] == ("mapping to list of block", "{}", "parts")
    assert "phases.*[].peak" in found


def test_help_wraps_and_says_what_has_to_be_given() -> None:
    lines = help_lines(Example, 40)
    assert "  data: list of path, required" in lines
    assert '  kind: a | b = "a"' in lines
    assert max(map(len, lines[3:])) <= 40


@pytest.mark.parametrize("name", STAGES)
def test_every_key_of_every_stage_has_a_meaning(name: str) -> None:
    assert [key.name for key in keys_of(STAGES[name].config()) if not key.meaning] == []


def test_the_reference_in_docs_is_current() -> None:
    reference = (Path(__file__).parents[1] / "docs/keys.md").read_text(encoding="utf8")
    for name, stage in STAGES.items():
        assert f"\n## {name}\n\n{stage.summary}\n\n{markdown(stage.config())}\n" in reference, (
            "run scripts/make_key_reference.py"
        )
    assert markdown(Recipe) in reference
