"""Hub ids, with a revision and without: what is read is fixed to a commit, and the manifest says which."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from bllossom.artifacts import read_origin
from bllossom.errors import BllossomError
from bllossom.hub import pin
from tests.fixtures.published import rerun

OLD, NEW = "01" * 20, "23" * 20


@pytest.fixture
def hub(before: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's cache, offline: each of the published folders as `owner/NAME`, at two commits."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("base", "base-vocab", "expanded", "merged", "adapted"):
        repository = tmp_path / f"models--owner--{name}"
        for commit in (OLD, NEW):
            shutil.copytree(before / "runs" / name, repository / "snapshots" / commit)
            (repository / "snapshots" / commit / "manifest.json").unlink()
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(NEW)
        (repository / "refs/v1").write_text(OLD)
    (tmp_path / f"models--owner--base-vocab/snapshots/{NEW}/tokenizer.model").write_bytes(b"other")
    return tmp_path


def test_a_hub_id_is_fixed_to_its_commit(hub: Path) -> None:
    assert pin("owner/base") == f"owner/base@{NEW}"
    assert pin("owner/base@v1") == pin(f"owner/base@{OLD}") == f"owner/base@{OLD}"
    assert pin("runs/base") == "runs/base"
    with pytest.raises(BllossomError, match=r"model: owner/base@v2 cannot be fetched .*; check the network"):
        pin("owner/base@v2")


@pytest.mark.parametrize(
    ("name", "key", "repository", "extra"),
    [
        ("expanded", "model", "base", {"tokenizer": "runs/vocab"}),
        ("adapted", "model", "expanded", {"steps": 1}),
        ("tuned", "model", "merged", {"epochs": 1, "template": "plain"}),
        ("scores", "model", "merged", {}),
        ("base-tokens", "tokenizer", "base-vocab", {}),
    ],
)
def test_each_stage_takes_a_revision_and_records_the_commit(
    hub: Path, before: Path, name: str, key: str, repository: str, extra: dict[str, object]
) -> None:
    output = f"hub/{name}"
    manifest = rerun(name, output=output, **{key: f"owner/{repository}@v1"}, **extra)
    assert manifest.inputs[key] == f"owner/{repository}@{OLD}"
    assert rerun(name, output=output, **{key: f"owner/{repository}@{OLD}"}, **extra) == manifest, "the same commit"
    with pytest.raises(
        BllossomError, match=rf"\(input {key}: owner/{repository}@{OLD} there, owner/{repository}@{NEW}"
    ):
        rerun(name, output=output, **{key: f"owner/{repository}"}, **extra)


def test_a_vocabulary_of_a_revision_is_the_one_that_is_merged(hub: Path, before: Path) -> None:
    manifest = rerun("vocab", output="hub/vocab", base="owner/base-vocab@v1")
    assert manifest.inputs["base"] == f"owner/base-vocab@{OLD}/tokenizer.model"
    assert (before / "hub/vocab/tokenizer.model").read_bytes() == (before / "runs/vocab/tokenizer.model").read_bytes()
    with pytest.raises(BllossomError, match="not a SentencePiece model"):
        rerun("vocab", output="hub/other", base="owner/base-vocab")


def test_an_adapter_names_its_base_on_the_hub_as_peft_does_and_is_merged_with_that_commit(
    hub: Path, before: Path
) -> None:
    rerun("adapter", output="hub/adapter", model="owner/expanded@v1")
    settings = json.loads((before / "hub/adapter/adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("owner/expanded", OLD)
    manifest = rerun("merged", output="hub/merged", adapter="hub/adapter")
    assert manifest.inputs["model"] == f"owner/expanded@{OLD}"
    with pytest.raises(
        BllossomError, match=rf"hub/adapter was trained on owner/expanded@{OLD}, .* is owner/expanded@{NEW}"
    ):
        rerun("merged", output="hub/other", adapter="hub/adapter", model="owner/expanded")
    assert read_origin(before / "hub/merged") is not None
