from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from bllossom.config import InputPath, Model, Source, StageConfig, load_config
from bllossom.errors import ConfigError


class Rate(Model):
    peak: float
    warmup: float = 0.1


class Example(StageConfig):
    base: Source
    data: list[InputPath] = []
    expected_size: Annotated[int | None, Field(gt=0)] = None
    rate: Rate = Rate(peak=1.0)
    weights: dict[str, Rate] = {}


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "example.yaml"
        path.write_text(text, encoding="utf8")
        return path

    return write


def problems(*arguments: object, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(Example, *arguments, **options)
    return caught.value.problems


def test_three_mistakes_are_shown_at_once_with_path_line_and_nearest_key(write):
    path = write("output: out\nbase: nowhere/at/all\nexpected_sise: 39478\nrate:\n  peak: fast\n")
    assert problems(path) == [
        f"{path}:2: base: no such file or folder: nowhere/at/all",
        f"{path}:5: rate.peak: should be a valid number, unable to parse string as a number (got 'fast')",
        f"{path}:3: expected_sise: unknown key (did you mean expected_size?)",
    ]


def test_unknown_keys_are_named_inside_blocks_lists_and_mappings_too(write):
    path = write("output: o\nbase: a/b\nweights:\n  ko: {peak: 1, warm_up: 2}\n")
    assert problems(path) == [f"{path}:4: weights.ko.warm_up: unknown key (did you mean warmup?)"]


def test_a_key_that_stands_twice_is_an_error(write):
    path = write("output: o\nbase: a/b\noutput: p\n")
    assert problems(path) == [f"{path}:3: output: stands twice (first at {path}:1)"]


def test_overrides_reach_into_the_yaml_and_errors_name_their_origin(write):
    path = write("output: o\nbase: a/b\n")
    loaded = load_config(Example, path, ["rate.peak=2e-4", "expected_size=7", "weights.ko.peak=1"])
    assert (loaded.config.rate.peak, loaded.config.expected_size, loaded.config.weights["ko"].peak) == (2e-4, 7, 1.0)
    assert problems(path, ["rate.peak=x"])[0].startswith("command line: rate.peak: should be a valid number")
    assert problems(path, ["rate.peek=1"])[1] == "command line: rate.peek: unknown key (did you mean peak?)"
    assert problems(path, ["peak"]) == ["command line: peak: should be key=value"]


def test_a_hub_id_is_listed_and_a_missing_file_is_refused_unless_allowed(write):
    path = write("output: o\nbase: owner/name\ndata: [not-here.txt]\n")
    assert problems(path) == [f"{path}:3: data.0: no such file or folder: not-here.txt"]
    loaded = load_config(Example, path, allow_missing=True)
    assert loaded.missing == [
        "owner/name: not here; to be fetched from the hub",
        "not-here.txt: not here yet",
    ]


def test_an_earlier_steps_output_need_not_be_there(write, tmp_path):
    path = write("output: o\nbase: a/b\ndata: ['${steps.tokens.output}/heldout/ko.jsonl']\n")
    loaded = load_config(Example, path, steps={"tokens": tmp_path / "tokens"})
    assert loaded.config.data == [tmp_path / "tokens/heldout/ko.jsonl"]
    later = problems(path, steps={"vocab": tmp_path / "vocab"})
    assert later[0].endswith("should be ${env.NAME} or ${steps.NAME.output} of an earlier step: vocab")


def test_environment_variables_have_defaults_and_must_be_set_otherwise(write, monkeypatch):
    path = write("output: ${env.BLLOSSOM_TEST_OUT:-default}\nbase: a/b\n")
    assert load_config(Example, path).config.output == Path("default")
    monkeypatch.setenv("BLLOSSOM_TEST_OUT", "set")
    assert load_config(Example, path).config.output == Path("set")
    path = write("output: ${env.BLLOSSOM_TEST_NEVER}\nbase: a/b\n")
    assert "BLLOSSOM_TEST_NEVER is not set" in problems(path)[0]


@pytest.mark.parametrize(
    ("text", "told"), [("- a\n", "should be a mapping"), ("a: [1\n", "is not YAML"), ("a: \xff", "is not UTF-8")]
)
def test_what_is_no_yaml_mapping_is_said_with_its_place(tmp_path, text, told):
    path = tmp_path / "example.yaml"
    path.write_bytes(text.encode("latin-1"))
    assert told in problems(path)[0]
