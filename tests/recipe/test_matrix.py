"""Steps are repeated over what they depend on and nothing else, and each copy reads the copies that go with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.errors import ConfigError
from bllossom.recipe.matrix import chosen, expand, named, read_only

STEPS = [
    {"name": "vocab", "set": {}},
    {"name": "base", "set": {"seed": "${matrix.seed}"}},
    {"name": "expanded", "set": {"model": "${steps.base.output}", "input_init": "${matrix.init}"}},
    {"name": "eval", "set": {"model": "${steps.expanded.output}", "heldout": {"ko": ["${steps.vocab.output}/a"]}}},
]
MATRIX = {"seed": [0, 1, 2], "init": ["mean", "subword-mean"]}


def test_shared_steps_are_made_once_and_copies_read_their_own() -> None:
    expanded = {step["name"]: step["set"] for _, step in expand(MATRIX, STEPS)}
    assert list(expanded)[:4] == ["vocab", "base-seed-0", "base-seed-1", "base-seed-2"]
    assert len(expanded) == 1 + 3 + 6 + 6
    assert expanded["base-seed-2"] == {"seed": 2}
    assert expanded["expanded-seed-1-init-subword-mean"] == {
        "model": "${steps.base-seed-1.output}",
        "input_init": "subword-mean",
    }
    assert expanded["eval-seed-1-init-mean"]["model"] == "${steps.expanded-seed-1-init-mean.output}"
    assert expanded["eval-seed-1-init-mean"]["heldout"] == {"ko": ["${steps.vocab.output}/a"]}


def test_a_recipe_without_a_matrix_is_as_it_was() -> None:
    assert [step for _, step in expand({}, STEPS[:1])] == STEPS[:1]


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)))
def test_names_of_copies_are_never_the_same(matrix: dict[str, list[int]]) -> None:
    steps = [{"name": "one", "set": {name: f"${{matrix.{name}}}" for name in matrix}}]
    names = [step["name"] for _, step in expand(matrix, steps)]
    assert len(set(names)) == len(names)


def test_a_name_that_no_step_uses_and_one_that_is_not_there_are_told() -> None:
    with pytest.raises(ConfigError, match=r"matrix\.init: no step uses \$\{matrix\.init\}"):
        expand(MATRIX, STEPS[:2])
    with pytest.raises(ConfigError, match=r"step base: there is no matrix\.seed; the matrix has no names"):
        expand({}, STEPS)


def test_only_picks_copies_and_always_what_is_shared() -> None:
    only = read_only(["seed=0,2"], MATRIX)
    kept = [step["name"] for choice, step in expand(MATRIX, STEPS) if chosen(choice, only)]
    assert kept[:3] == ["vocab", "base-seed-0", "base-seed-2"]
    assert len(kept) == 1 + 2 + 4 + 4
    with pytest.raises(ConfigError, match="--only seed=7: seed has no 7; it has 0, 1, 2"):
        read_only(["seed=7"], MATRIX)
    with pytest.raises(ConfigError, match="--only lr=1: should be NAME=VALUE; the matrix has seed, init"):
        read_only(["lr=1"], MATRIX)


def test_values_become_names_of_folders() -> None:
    assert named("base", {"rate": 1e-3, "init": "Subword Mean/2"}) == "base-rate-0-001-init-subword-mean-2"


def test_only_takes_values_as_yaml_writes_them_and_with_commas() -> None:
    matrix = {"packing": [True, False], "text": ["a,b.txt", "c.txt"]}
    step = {
        "name": "x",
        "set": {"packing": "${matrix.packing}", "say": "is ${matrix.packing}", "text": "${matrix.text}"},
    }
    copies = expand(matrix, [step])
    only = read_only(["packing=true", "text=a,b.txt"], matrix)
    (kept,) = [copy["set"] for choice, copy in copies if chosen(choice, only)]
    assert kept == {"packing": True, "say": "is true", "text": "a,b.txt"}
    assert read_only(["text=c.txt,c.txt", "packing=true,false"], matrix)["packing"] == ["true", "false"]
