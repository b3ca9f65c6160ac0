import hashlib
import json
from pathlib import Path
from typing import Annotated

import pytest

from bllossom.artifacts import Manifest, publish, read_origin
from bllossom.config import AddedIn, InputGlob, InputPath
from bllossom.errors import BllossomError
from bllossom.files import FileHashes
from bllossom.provenance.identity import Request
from tests.fixtures.copying import Copying, copy, leave_unfinished


@pytest.fixture
def config(tmp_path: Path) -> Copying:
    (tmp_path / "source.txt").write_text("text")
    return Copying(source=tmp_path / "source.txt", output=tmp_path / "out")


def test_a_recorded_format_is_known_and_a_later_one_is_refused(config):
    assert copy(config).format == 2
    path = config.output / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"format": 3}))
    with pytest.raises(BllossomError, match=r"has format 3, this version of bllossom knows 2; update bllossom"):
        copy(config)


def test_another_spelling_of_a_path_and_a_moved_input_are_the_same_result(config, tmp_path, monkeypatch):
    calls: list[Path] = []
    first = copy(config, calls=calls)
    monkeypatch.chdir(tmp_path)
    copy(Copying(source=Path("source.txt"), output=Path("out")), calls=calls)
    moved = tmp_path / "elsewhere/renamed.txt"
    moved.parent.mkdir()
    config.source.rename(moved)
    copy(Copying(source=moved, output=config.output), calls=calls)
    assert len(calls) == 1
    again = copy(Copying(source=moved, output=tmp_path / "again"))
    assert (again.id, again.fingerprint) == (first.id, first.fingerprint)


def test_an_unfinished_run_is_found_by_another_spelling_of_its_paths(config, tmp_path, monkeypatch):
    partial = leave_unfinished(config)
    monkeypatch.chdir(tmp_path)
    calls: list[Path] = []
    copy(Copying(source=Path("source.txt"), output=Path("out")), calls=calls)
    assert calls == [partial]


def test_an_unfinished_run_of_another_config_is_told_with_its_keys(config, capsys):
    leave_unfinished(config)
    config.source.write_text("other text")
    copy(config.model_copy(update={"suffix": "!"}))
    told = capsys.readouterr().err
    assert 'left unfinished by another config or other inputs (suffix: "" there, "!" here; input source: ' in told


def test_what_the_hub_has_is_recorded_by_its_commit(config, tmp_path):
    commit = "0123456789" * 4
    cached = tmp_path / f"hub/models--owner--name/snapshots/{commit}"
    cached.mkdir(parents=True)
    (cached / "tokenizer.model").write_text("text")
    manifest = copy(config.model_copy(update={"source": cached / "tokenizer.model"}))
    assert manifest.inputs == {"source": f"owner/name@{commit}/tokenizer.model"}


def test_a_manifest_of_before_that_has_the_contents_of_what_the_hub_has_is_the_same_result(config, tmp_path):
    first = copy(config)
    commit = "0123456789" * 4
    cached = tmp_path / f"hub/models--owner--name/snapshots/{commit}"
    cached.mkdir(parents=True)
    config.source.rename(cached / "tokenizer.model")
    again = copy(config.model_copy(update={"source": cached / "tokenizer.model"}))
    assert again == first, "found, not made anew"


class Grown(Copying):
    """Copying, a version later: with keys that manifests of format 1 do not know."""

    rate: Annotated[float, AddedIn(2)] = 1.0


def request(config: Copying) -> Request:
    return Request("copy", config, {"source": config.source}, FileHashes(cached=False))


def test_a_key_that_was_added_is_no_other_result_at_its_default(config):
    copy(config)
    there = read_origin(config.output)
    grown = Grown(source=config.source, output=config.output)
    assert request(grown).differences(there, mending=True) == []
    other = grown.model_copy(update={"rate": 2.0})
    assert request(other).differences(there, mending=True) == ["rate: 1.0 there, 2.0 here"]


def copy_with(config: Copying, also: Path, *, force: bool = False) -> Manifest:
    """Copying, a version later: it names a second file that it had read all along."""

    def build(folder: Path) -> dict[str, int]:
        (folder / "copy.txt").write_text(also.read_text())
        return {}

    inputs = {"source": config.source, "source/also": also}
    return publish(config, stage="copy", inputs=inputs, build=build, force=force, added_inputs=["source/also"])


def test_an_input_that_was_added_is_no_other_result_and_counts_once_it_is_recorded(config, tmp_path, capsys):
    also = tmp_path / "also.txt"
    also.write_text("also")
    before = copy(config)
    assert copy_with(config, also) == before
    told = capsys.readouterr().err
    assert "nothing to do" in told
    assert "does not record source/also, as it was made before these counted: if one was added" in told
    made = copy_with(config, also, force=True)
    assert set(made.inputs) == {"source", "source/also"}
    assert "does not record source/also: --force replaces it" in capsys.readouterr().err
    assert copy_with(config, also) == made
    also.write_text("other")
    with pytest.raises(BllossomError, match=r"holds another result \(input source/also: .* there, .* here\)"):
        copy_with(config, also)


def test_a_key_that_is_gone_is_told(config):
    copy(Grown(source=config.source, output=config.output))
    with pytest.raises(BllossomError, match=r"\(its config is not one of this version: rate: Extra inputs are not"):
        copy(config)


def test_an_unfinished_run_of_before_is_known_by_the_name_it_had(config):
    """As it was made: sha256 over stage, config with its paths as they were typed, and inputs."""
    inputs = {"source": hashlib.sha256(b"text").hexdigest()}
    settings = {"output": None, "source": str(config.source), "suffix": ""}
    what = json.dumps({"stage": "copy", "config": settings, "inputs": inputs}, sort_keys=True)
    name = f"out.partial-{hashlib.sha256(what.encode()).hexdigest()[:16]}"
    before = config.output.with_name(name)
    before.mkdir()
    (before / "half").write_text("half")
    calls: list[Path] = []
    copy(Grown(source=config.source, output=config.output), calls=calls)
    assert calls == [before]


class Careless(Copying):
    """A stage that reads more than it names as an input."""

    also: InputPath | None = None
    many: list[InputGlob] = []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"also": "here.txt"}, {"also": "elsewhere.txt"}, False),
        ({"also": "here.txt"}, {"also": "./here.txt"}, True),
        ({"many": ["*.txt"]}, {"many": ["*.md"]}, False),
        ({"many": ["**/*.txt"]}, {"many": ["source.txt"]}, True),
    ],
)
def test_a_path_that_is_no_input_counts_as_it_is_typed(tmp_path, monkeypatch, one, other, same):
    monkeypatch.chdir(tmp_path)
    Path("source.txt").write_text("text")
    Path("here.txt").write_text("one")
    first, second = (Careless(source="source.txt", output="out", **keys) for keys in (one, other))
    copy(first)
    there = read_origin(Path("out"))
    changes = request(second).differences(there, mending=True)
    assert (changes == []) == same
    assert (request(first).id == request(second).id) == same
