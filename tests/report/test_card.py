"""Cards hold what the manifests hold, are no part of a model's payload, and licences in conflict stop a push."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from bllossom.artifacts import read_manifest, verify
from bllossom.errors import BllossomError, ConfigError
from bllossom.localize.exporting.pages import render_card
from bllossom.model.distill_rows import DistillRowsConfig, distill_rows
from bllossom.report.card import make_card, write_cards
from bllossom.report.lineage import Lineage, read_lineage
from bllossom.report.page import show
from bllossom.report.push import conflicts, push
from bllossom.report.run_folder import Figure, read_run
from bllossom.report.sections.scores import scores as section_of_scores
from bllossom.training.dpo import DpoConfig
from bllossom.training.sft import SftConfig


def test_cards_are_read_back_with_every_value(run: Path) -> None:
    written = write_cards(read_run(run))
    models = {"base", "expanded", "adapted", "adapter", "merged", "tuned"}
    assert {path.parent.name for path in written} == models
    card = ModelCard.load(run / "tuned/README.md")
    evaluated = read_manifest(run / "scores").figures
    assert card.data.language == ["en", "ko"]
    assert card.data.pipeline_tag == "text-generation"
    assert next((each.metric_type, each.metric_value) for each in card.data.eval_results) == (
        "bits_per_byte",
        evaluated["bits_per_byte"]["ko"],
    )
    assert ModelCard.load(run / "adapter/README.md").data.library_name == "peft"
    assert "pretrain → expand → pretrain → sft" in card.text


def test_a_card_is_no_part_of_the_payload(run: Path) -> None:
    before = read_manifest(run / "tuned").fingerprint
    write_cards(read_run(run))
    assert verify(run / "tuned") == []
    (run / "tuned/README.md").write_text("mine")
    assert verify(run / "tuned") == []
    assert read_manifest(run / "tuned").fingerprint == before


def test_a_run_that_was_moved_still_knows_where_its_models_come_from(run: Path) -> None:
    lineage = read_lineage(run / "merged")
    assert [each.stage for each in lineage.made_by] == ["merge-adapter", "pretrain", "expand", "pretrain"]
    assert lineage.origin == ""


def test_an_adapters_training_counts_where_its_base_was_named_too(run: Path) -> None:
    path = run / "merged/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["model"] = str(run / "expanded")
    path.write_text(json.dumps(manifest))
    lineage = read_lineage(run / "merged")
    assert [each.stage for each in lineage.made_by] == ["merge-adapter", "pretrain", "expand", "pretrain"]
    # An adapter of peft's says nothing of its base, which the config names.
    (run / "adapter/manifest.json").unlink()
    assert [each.stage for each in read_lineage(run / "merged").made_by] == ["merge-adapter", "expand", "pretrain"]


def test_what_training_read_is_listed_not_the_corpus_it_was_taken_from(run: Path) -> None:
    path = run / "adapted/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["figures"]["mixture"].pop("en/en")  # as with source_weights that do not name it
    path.write_text(json.dumps(manifest))
    report = json.loads((run / "tokens/report.json").read_text())
    report["sources"]["en/en"]["licence"] = "CC BY-NC-SA 4.0"
    (run / "tokens/report.json").write_text(json.dumps(report))
    lineage = read_lineage(run / "adapted")
    ko = report["sources"]["ko/ko"]
    read = [(source.name, source.read) for source in lineage.sources]
    assert read == [("en/en", 1084), ("ko/ko", 1238)]  # English of the base alone, from the text of base-tokens
    assert (lineage.sources[1].bytes, lineage.sources[1].documents) == (ko["bytes"], ko["documents"])
    assert conflicts(lineage, "mit", "me/x") == []
    whole = f"| ko/ko | 1,238 | {ko['bytes']:,} bytes in {ko['documents']:,} documents |"
    assert whole in make_card(lineage, []).text


def test_what_a_continued_run_read_counts_once(run: Path) -> None:
    base = json.loads((run / "base/manifest.json").read_text())
    path = run / "adapted/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"]["continue_from"] = base["fingerprint"]
    path.write_text(json.dumps(manifest))
    assert [source.name for source in read_lineage(run / "adapted").sources] == ["ko/ko", "en/en"]


@pytest.fixture
def from_llama(run: Path) -> Path:
    """The tuned model, as if its first base were a Llama 2 beside a card, and its text not for commerce."""
    base = run.parent / "Llama-2-13b"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: llama2\n---\n")
    path = run / "base/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["model"] = str(base)
    path.write_text(json.dumps(manifest))
    report = run / "tokens/report.json"
    found = json.loads(report.read_text())
    found["sources"]["ko/ko"]["licence"] = "CC BY-NC-SA 4.0"
    report.write_text(json.dumps(found))
    return run / "tuned"


def test_licences_that_stand_against_it_are_said_and_stop_a_push(from_llama: Path, capsys) -> None:
    with pytest.raises(BllossomError, match="nothing was pushed"):
        push(from_llama, "me/korean-13b", licence="apache-2.0")
    said = capsys.readouterr().err
    assert "ko/ko is under CC BY-NC-SA 4.0, which forbids commercial use" in said
    assert "the base is under Llama" in said
    assert "holds Llama" in said
    lines = push(from_llama, "me/Llama-2-korean", licence="llama2", dry_run=True)
    assert "licence:" not in capsys.readouterr().err
    assert any("model.safetensors" in line for line in lines)
    assert lines[-1].endswith("and README.md, to me/Llama-2-korean")


def test_what_is_no_model_or_no_name_is_refused(run: Path) -> None:
    with pytest.raises(BllossomError, match="is no model that a stage published"):
        push(run / "tokens", "me/tokens")
    with pytest.raises(ConfigError, match="should be owner/name"):
        push(run / "tuned", "just-a-name")


def test_a_card_that_a_person_wrote_or_changed_stays(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = run / "tuned/README.md"
    write_cards(read_run(run))
    first = card.read_text()
    write_cards(read_run(run))  # its own is written anew
    assert card.read_text() == first
    assert capsys.readouterr().err == ""
    changed = first.replace("## Limits", "It cannot count.\n\n## Limits")
    card.write_text(changed)
    assert card not in write_cards(read_run(run))
    assert card.read_text() == changed
    assert "it stays; remove it for a new one" in capsys.readouterr().err


def test_a_base_on_this_disk_is_no_name_on_the_hub(from_llama: Path) -> None:
    lineage = read_lineage(from_llama)
    assert make_card(lineage, []).data.base_model is None
    named = dataclasses.replace(lineage, origin="meta-llama/Llama-2-13b-hf@0123456789abcdef0123456789abcdef01234567")
    assert make_card(named, []).data.base_model == "meta-llama/Llama-2-13b-hf"


@pytest.mark.parametrize("licence", ['Llama 2: Community #1 --- "x"', "한국어 허가", "no", "1.0", "a\n---\nb: c"])
def test_odd_licences_and_names_are_read_back(run: Path, tmp_path: Path, licence: str) -> None:
    folder = run / "tuned: 모델 #1"
    (run / "tuned").rename(folder)
    make_card(read_lineage(folder), [], licence).save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.license == licence


@pytest.mark.parametrize("licence", ["Apache 2.0", "MIT", "cc-by-sa-4.0", "gpl-3.0"])
def test_a_permissive_licence_is_known_however_it_is_written(from_llama: Path, licence: str) -> None:
    assert any("forbids commercial use" in told for told in conflicts(read_lineage(from_llama), licence, "me/Llama-x"))


@pytest.fixture
def translated(tmp_path: Path) -> Path:
    """A folder as localize export leaves it, under a licence that forbids commerce."""
    folder = tmp_path / "translated"
    folder.mkdir()
    report = dict.fromkeys(["accepted", "reviewers", "decisions", "dropped", "open"], 1) | {"changes": {}}
    card = {"name": "Questions", "source": "of somebody", "licence": "cc-by-nc-4.0", "language": "ko"}
    (folder / "README.md").write_text(render_card(report, card | {"translator": "x", "prompt_version": "1"}))
    (folder / "accepted.jsonl").write_text("{}\n")
    return folder


def tuned_on(run: Path, data: list[Any]) -> Lineage:
    path = run / "tuned/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["data"] = data
    path.write_text(json.dumps(manifest))
    lineage = read_lineage(run / "tuned")
    assert lineage is not None
    return lineage


@pytest.mark.parametrize("kind", [SftConfig, DpoConfig])
@pytest.mark.parametrize("named", ["accepted.jsonl", "*.jsonl", ""], ids=["file", "glob", "folder"])
def test_the_licence_of_what_a_model_was_tuned_on_is_seen(run: Path, translated: Path, kind: Any, named: str) -> None:
    config = kind(output=run / "tuned", model="me/base", data=[str(translated / named)])
    lineage = tuned_on(run, config.model_dump(mode="json")["data"])
    name = named or "translated"
    assert (lineage.sources[-1].name, lineage.sources[-1].licence) == (name, "cc-by-nc-4.0")
    assert f"{name} is under cc-by-nc-4.0, which forbids commercial use; mit would allow it" in conflicts(
        lineage, "mit", "me/x"
    )
    # Without what its bases read, as a model of the hub is tuned.
    alone = dataclasses.replace(lineage, sources=lineage.sources[-1:])
    text = make_card(alone, []).text
    assert "Nothing of its own" not in text
    assert "- text that training read: cc-by-nc-4.0" in text


def test_text_that_new_rows_were_distilled_from_is_seen(run: Path) -> None:
    (run / "expanded/manifest.json").unlink()  # else what its base read is seen as well
    config = DistillRowsConfig(
        output=run / "distilled", model=run / "expanded", base=run / "base", tokens=run / "tokens", steps=1
    )
    distill_rows(config)
    lineage = read_lineage(run / "distilled")
    assert [each.stage for each in lineage.made_by] == ["distill-rows"]
    assert [source.name for source in lineage.sources] == ["ko/ko", "en/en"]


def test_data_of_the_hub_and_of_older_manifests_is_named(run: Path, translated: Path) -> None:
    sources = ["me/questions", "me/more@main", "hf://datasets/me/most/ko", str(translated / "accepted.jsonl")]
    config = SftConfig(output=run / "tuned", model="me/base", data=sources)
    named = ["me/questions", "me/more", "me/most", "accepted.jsonl"]
    for data in (config.model_dump(mode="json")["data"], sources):
        assert [source.name for source in tuned_on(run, data).sources[-4:]] == named


def test_scores_that_are_no_shares_stand_as_they_are(run: Path) -> None:
    scores = run / "scores/manifest.json"
    manifest = json.loads(scores.read_text())
    tasks = {
        "kobest_copa": {"score": "f1", "f1": {"value": 0.625, "stderr": 0.05, "floor": 0.35, "at_floor": False}},
        "lambada_openai": {"score": "perplexity", "perplexity": {"value": 15.3, "stderr": 0.4, "floor": None}},
    }
    manifest["figures"]["tasks"] = tasks
    scores.write_text(json.dumps(manifest))
    write_cards(read_run(run))
    lines = (run / "tuned/README.md").read_text().splitlines()
    assert "- kobest_copa f1: 62.5 % ± 9.8 (best constant answer: 35.0 %)" in lines
    assert "- lambada_openai perplexity: 15.3 ± 0.784" in lines
    assert "± is half of a 95 % interval." in lines
    section = section_of_scores([read_run(run)])
    assert section is not None
    shown = [[show(cell) for cell in row[4:] if isinstance(cell, Figure)] for row in section.blocks[-1].rows]
    assert shown == [["62.5%", "5.0%"], ["15.3", "0.4"]]
