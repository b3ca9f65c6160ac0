import unicodedata
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from bllossom.config import InputGlob, InputPath, Model, Source, StageConfig, as_integer, load_config
from bllossom.errors import ConfigError
from bllossom.yaml_text import read_yaml, set_value


class Rate(Model):
    peak: float
    warmup: float = 0.1


class Shape(Model):
    layers: int


class Example(StageConfig):
    base: Source
    start: Source | Shape | None = None
    held: dict[str, InputPath] = {}
    globs: list[InputGlob] = []
    skip: list[int] = []
    gpus: int | Literal["auto"] = "auto"
    name: str = ""
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
    monkeypatch.setenv("BLLOSSOM_TEST_OUT", "")  # as a shell: `:-` is for what is empty, too
    assert load_config(Example, path).config.output == Path("default")
    path = write("output: o\nbase: a/b\nname: ${env.BLLOSSOM_TEST_NEVER:-}\n")
    assert load_config(Example, path).config.name == ""
    monkeypatch.setenv("BLLOSSOM_TEST_OUT", "\udcb0\udca1")  # a folder whose name is in cp949, say
    assert (
        "BLLOSSOM_TEST_OUT is not UTF-8; go to the folder" in problems(write("output: ${env.BLLOSSOM_TEST_OUT}/o"))[0]
    )
    path = write("output: ${env.BLLOSSOM_TEST_NEVER}\nbase: a/b\n")
    assert "BLLOSSOM_TEST_NEVER is not set" in problems(path)[0]


@pytest.mark.parametrize(
    ("text", "told"), [("- a\n", "should be a mapping"), ("a: [1\n", "is not YAML"), ("a: \xff", "is not UTF-8")]
)
def test_what_is_no_yaml_mapping_is_said_with_its_place(tmp_path, text, told):
    path = tmp_path / "example.yaml"
    path.write_bytes(text.encode("latin-1"))
    assert told in problems(path)[0]


def test_a_key_set_in_one_of_two_blocks_of_an_anchor_stays_there(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("one: &same {k: [1, {deep: 2}]}\ntwo: *same\n")
    raw, lines, problems = read_yaml(path)
    set_value(raw, "two.k.1.deep", 3, lines, "command line", problems)
    assert raw == {"one": {"k": [1, {"deep": 2}]}, "two": {"k": [1, {"deep": 3}]}}
    assert problems == []


@pytest.mark.parametrize("value", ["2024-13-45", "!!int many", "9" * 5000, "&a [*a]", "[" * 5000])
def test_a_value_that_stands_for_nothing_is_no_bug(write, value):
    path = write(f"output: o\nbase: a/b\nname: {value}\n")
    assert "is not YAML: " in problems(path)[0]
    [told] = problems(write("output: o\nbase: a/b\n"), [f"name={value}"])
    assert told.startswith("command line: name: ")
    assert " is not YAML (" in told
    assert len(told) < 400


def test_what_yaml_reads_as_something_else_is_not_taken_for_a_number_or_a_name(write):
    path = write("output: o\nbase: a/b\nexpected_size: yes\nrate: {peak: on}\nskip: [true]\nweights: {no: {peak: 1}}\n")
    assert problems(path) == [
        f"{path}:6: weights: YAML reads a key as false; put it in quotes",
        f"{path}:5: skip: should be a number (got True, which YAML reads yes, no, on and off as, too)",
        f"{path}:3: expected_size: should be a number (got True, which YAML reads yes, no, on and off as, too)",
        f"{path}:4: rate.peak: should be a number (got True, which YAML reads yes, no, on and off as, too)",
    ]
    assert "finite" in problems(write("output: o\nbase: a/b\nrate: {peak: .nan}\n"))[0]
    assert "finite" in problems(write("output: o\nbase: a/b\nrate: {peak: .inf}\n"))[0]


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        *(("1e4", 10_000), ("10B", 10_000_000_000), ("64MB", 64_000_000), ("1.5K", 1500), ("2 GiB", 2**31)),
        *(("300k", "300k"), ("1.0001K", "1.0001K"), ("many", "many"), ("1e-3", "1e-3"), ("", ""), ("7 M B", "7 M B")),
    ],
)
def test_whole_numbers_may_be_written_short(typed: str, number: int | str) -> None:
    assert as_integer(typed) == number


@given(st.integers(-(10**30), 10**30), st.sampled_from(["", "K", "MB", "TiB"]))
def test_short_numbers_are_exact(number: int, unit: str) -> None:
    factor = {"": 1, "K": 10**3, "MB": 10**6, "TiB": 2**40}[unit]
    assert as_integer(f"{number}{unit}") == number * factor


def test_short_numbers_are_read_where_whole_numbers_belong_and_nowhere_else(write):
    path = write("output: o\nbase: a/b\nexpected_size: 40K\nskip: [1e3, 2]\ngpus: auto\nname: 10B\n")
    config = load_config(Example, path).config
    assert (config.expected_size, config.skip, config.gpus, config.name) == (40_000, [1000, 2], "auto", "10B")
    assert problems(path, ["expected_size=1.5"])[0].endswith("got a number with a fractional part (got 1.5)")
    assert problems(path, ["expected_size=10Q"])[0].endswith("unable to parse string as an integer (got '10Q')")


def test_home_is_expanded_and_a_shells_variable_refused(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here.txt").write_text("text")
    path = write("output: ~/out\nbase: ~/here.txt\ndata: [~/here.txt]\nglobs: ['~/*.txt']\n")
    config = load_config(Example, path).config
    assert config.output == tmp_path / "out"
    assert (config.base, config.data) == (str(tmp_path / "here.txt"), [tmp_path / "here.txt"])
    assert config.globs == [f"{tmp_path}/*.txt"]
    told = problems(path, ["output=$HOME/out", "base=$HOME/here.txt", "globs=[$HOME/*.txt]"])
    assert len(told) == 3
    assert "command line: output: $HOME/out: a variable of the environment is written ${env.HOME}" in told
    assert "whose home" in problems(path, ["output=~nobody-of-this-name/out"])[0]


def test_a_link_to_itself_is_no_output(write, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    told = problems(write("output: o\nbase: a/b\n"), [f"output={tmp_path}/loop"])
    assert "is a link to itself; remove it, or name another folder" in told[0]


@pytest.mark.parametrize("output", [".", "", "..", "/", "../{here}"])
def test_the_folder_that_one_is_in_is_no_output(write, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    told = problems(write("output: o\nbase: a/b\n"), [f"output='{output.format(here=tmp_path.name)}'"])
    assert "is the folder you are in, or holds it; name a folder of its own" in told[0]


def test_what_decides_a_result_holds_no_paths_and_not_how_it_is_run(tmp_path):
    def settings(**keys: object) -> dict[str, object]:
        return Example.model_validate({"output": "o", "base": "a/b"} | keys).result_settings()

    assert settings(output="elsewhere", base="c/d@main", start="e/f", data=["x"], globs=["y"]) == settings(
        start="g/h", data=["z"], globs=["*"]
    )
    assert settings(held={"ko": "x"}) == settings(held={"ko": "y"}) != settings(held={"en": "x"})
    assert settings(base="c/d") == settings()
    assert settings(start={"layers": 2}) != settings(start={"layers": 3})
    assert settings(rate={"peak": 2.0}) != settings()
    assert Example.model_validate({"output": "o", "base": "a/b"}).model_dump(mode="json")["base"] == "a/b"


def test_an_earlier_steps_folder_is_not_taken_for_a_hub_id(write):
    path = write("output: o\nbase: '${steps.vocab.output}'\n")
    assert load_config(Example, path, steps={"vocab": Path("runs/vocab")}, allow_missing=True).missing == [
        "runs/vocab: not here yet"
    ]


class Either(Model):
    value: int


class Choosing(Model):
    model: str | Either
    several: list[str | Either] = []


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model={valeu: 3}", ["model.value: is missing", "model.valeu: unknown key (did you mean value?)"]),
        ("model=[1]", ["model: should be a valid string, or should be a valid dictionary or instance of Either"]),
        ("several=[a, {value: many}]", ["several.1.value: should be a valid integer"]),
    ],
)
def test_a_key_of_several_kinds_is_told_by_the_kind_that_was_meant(override: str, told: list[str]) -> None:
    values = [override] if override.startswith("model") else ["model=a", override]
    with pytest.raises(ConfigError) as error:
        load_config(Choosing, None, values)
    assert len(error.value.problems) == len(told)
    for problem, start in zip(error.value.problems, told, strict=True):
        assert problem.startswith(f"command line: {start}")


def test_names_are_found_as_the_disk_composes_them(tmp_path: Path) -> None:
    """macOS and some archives write Hangul as jamo (NFD), keyboards as syllables (NFC)."""
    on_disk, typed = (unicodedata.normalize(form, "말뭉치/모델") for form in ("NFD", "NFC"))
    (tmp_path / on_disk).mkdir(parents=True)
    keys = [f"base={tmp_path / typed}", f"data=[{tmp_path / typed}]", f"output={tmp_path / typed}/결과"]
    loaded = load_config(Example, None, keys).config
    assert Path(loaded.base) == tmp_path / on_disk
    assert loaded.data == [tmp_path / on_disk]
    assert loaded.output == tmp_path / on_disk / "결과"
