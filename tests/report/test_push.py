"""A push is whole and private, and changes nothing where the hub, or what is there, stands against it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from bllossom.artifacts import verify
from bllossom.errors import BllossomError, ConfigError
from bllossom.report.card import make_card
from bllossom.report.lineage import read_lineage
from bllossom.report.push import files_to_push, push
from bllossom.report.run_folder import read_run
from tests.fixtures.hub import Hub, Repository, hub

# huggingface_hub's own way to call httpx.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in, as the hub that huggingface_hub talks to; large files go to it over HTTP, not Xet."""
    with hub() as state:
        monkeypatch.setattr(constants, "ENDPOINT", state.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_ours")
        yield state


def test_a_push_is_private_and_holds_every_file_and_the_card(ours: Hub, run: Path, tmp_path: Path) -> None:
    lines = push(run / "tuned", "me/demo", licence="mit")
    there = ours.repositories["me/demo"]
    assert there.private
    named = dict(files_to_push(run / "tuned"))
    assert there.at().keys() == {*named, "README.md"}
    assert {name: len(there.at()[name]) for name in named} == named
    for name in named:
        assert there.at()[name] == (run / "tuned" / name).read_bytes()
    assert there.messages == ["tuned, published by bllossom"]
    assert lines[-1].startswith(f"pushed to {ours.url}/me/demo/commit/")
    # What came back is a published folder like the one that went.
    copy = tmp_path / "copy"
    for name, content in there.at().items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    assert verify(copy) == []


def test_the_card_is_read_back_with_every_value(ours: Hub, run: Path, tmp_path: Path) -> None:
    scores = run / "scores/manifest.json"
    manifest = json.loads(scores.read_text())
    manifest["figures"]["bits_per_byte"]["en"] = 0.1 + 0.2
    manifest["figures"]["tasks"] = {"kobest_copa": {"score": "f1", "f1": {"value": 0.625, "floor": 0.35}}}
    scores.write_text(json.dumps(manifest))
    push(run / "tuned", "me/demo", licence="mit")
    (tmp_path / "README.md").write_bytes(ours.repositories["me/demo"].at()["README.md"])
    card = ModelCard.load(tmp_path / "README.md")
    lineage = read_lineage(run / "tuned")
    assert lineage is not None
    made = make_card(lineage, [step.manifest for step in read_run(run).of("eval")], "mit")
    assert card.data.to_dict() == made.data.to_dict()
    assert card.data.license == "mit"
    assert card.data.eval_results == made.data.eval_results
    found = {each.dataset_type: each.metric_value for each in card.data.eval_results}
    assert found == {
        "held-out text, ko": manifest["figures"]["bits_per_byte"]["ko"],
        "held-out text, en": 0.1 + 0.2,
        "kobest_copa": 0.625,
    }
    assert card.text.strip() == made.text.strip()
    card.validate()  # asks the hub
    assert ours.calls[-1] == "POST /api/validate-yaml"


def test_a_dry_run_lists_files_and_sizes_and_asks_nobody(ours: Hub, run: Path) -> None:
    lines = push(run / "tuned", "me/demo", licence="mit", dry_run=True)
    assert ours.calls == []
    for name, size in files_to_push(run / "tuned"):
        assert any(line.split() == [f"{size:,}", "bytes", name] for line in lines)
    assert not any("logs/" in line for line in lines)


def test_a_branch_and_a_tag_are_made_and_a_tag_is_never_moved(ours: Hub, run: Path) -> None:
    push(run / "base", "me/demo", licence="mit")
    push(run / "tuned", "me/demo", licence="mit", revision="second", tag="v2")
    there = ours.repositories["me/demo"]
    weights = "model.safetensors"
    assert there.at("main")[weights] == (run / "base" / weights).read_bytes()
    assert there.at("second")[weights] == (run / "tuned" / weights).read_bytes()
    assert there.tags == {"v2": there.branches["second"]}
    before = dict(there.branches)
    with pytest.raises(BllossomError, match="has a tag v2 already; nothing was pushed"):
        push(run / "base", "me/demo", licence="mit", tag="v2")
    assert there.branches == before


def test_what_holds_something_else_is_not_written_to_unless_asked(ours: Hub, run: Path) -> None:
    there = ours.repositories["me/taken"] = Repository(private=True)
    there.files["0" * 40] = {".gitattributes": b"", "pytorch_model.bin": b"mine"}
    with pytest.raises(BllossomError, match=r"holds something else .* nothing was pushed"):
        push(run / "tuned", "me/taken", licence="mit")
    assert list(there.files) == ["0" * 40]
    push(run / "tuned", "me/taken", licence="mit", force=True)
    assert there.at()["pytorch_model.bin"] == b"mine"
    assert "manifest.json" in there.at()


def test_what_everybody_sees_is_not_written_to_unasked(ours: Hub, run: Path) -> None:
    push(run / "base", "me/demo", licence="mit", public=True)
    assert not ours.repositories["me/demo"].private
    commits = len(ours.repositories["me/demo"].files)
    with pytest.raises(BllossomError, match="everybody may see it; nothing was pushed"):
        push(run / "tuned", "me/demo", licence="mit")
    assert len(ours.repositories["me/demo"].files) == commits


@pytest.mark.parametrize("name", ["demo", "me/de--mo", "me/-demo", "me/de mo", "me/demo/more", "me/" + "x" * 97, "me/"])
def test_names_that_the_hub_does_not_have_are_refused_before_it_is_asked(ours: Hub, run: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="owner/name"):
        push(run / "tuned", name, dry_run=True)
    assert ours.calls == []


def test_another_ones_namespace_is_refused(ours: Hub, run: Path) -> None:
    with pytest.raises(BllossomError, match=r"403: You don't have the rights .*; the token may not write there"):
        push(run / "tuned", "somebody/demo", licence="mit")
    assert ours.repositories == {}


def test_without_a_token_it_says_how_to_get_one(ours: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(BllossomError, match=r"401: Invalid .* `hf auth login`"):
        push(run / "tuned", "me/demo", licence="mit")


def test_a_card_that_the_hub_does_not_take_stops_before_any_file(ours: Hub, run: Path) -> None:
    with pytest.raises(BllossomError, match="nothing was committed"):
        push(run / "tuned", "me/demo", licence="no-such-licence")
    assert ours.repositories["me/demo"].at() == {}


def test_an_upload_that_breaks_leaves_no_commit_and_goes_on(ours: Hub, run: Path) -> None:
    ours.broken_uploads = 9
    with pytest.raises(BllossomError, match="nothing was committed"):
        push(run / "tuned", "me/demo", licence="mit")
    assert ours.repositories["me/demo"].at() == {}
    ours.broken_uploads = 0
    push(run / "tuned", "me/demo", licence="mit")
    assert "model.safetensors" in ours.repositories["me/demo"].at()


def test_offline_and_out_of_reach_are_said(ours: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BllossomError, match="cannot be reached"):
        push(run / "tuned", "me/demo", licence="mit")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BllossomError, match="HF_HUB_OFFLINE is set"):
        push(run / "tuned", "me/demo", licence="mit")


def test_a_card_of_ones_own_goes_as_it_is_and_its_licence_counts(ours: Hub, run: Path) -> None:
    card = run / "tuned/README.md"
    card.write_text("---\nlicense: cc-by-4.0\n---\n\nMine.\n")
    with pytest.raises(BllossomError, match=r"is your own, and states cc-by-4\.0, not mit"):
        push(run / "tuned", "me/demo", licence="mit")
    push(run / "tuned", "me/demo")
    assert ours.repositories["me/demo"].at()["README.md"] == card.read_bytes()


def test_the_model_that_one_is_in_is_pushed(ours: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "tuned")
    push(Path(), "me/demo", licence="mit")
    assert ours.repositories["me/demo"].at()["README.md"].count(b"# tuned") == 1
    assert b"bits_per_byte" in ours.repositories["me/demo"].at()["README.md"]  # of the run around it
