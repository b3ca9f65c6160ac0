"""Languages of one's own: what stands in their folders is part of what a result was made from."""

import json
import shutil

import pytest

from bllossom.errors import BllossomError, ConfigError
from bllossom.localize.export import ExportConfig, export
from bllossom.localize.flag import FlagConfig, flag
from bllossom.localize.language import PACKAGED
from bllossom.localize.records import NOTES, SOURCE, TARGET
from bllossom.localize.review import LOG
from bllossom.localize.reviewing.book import Decision, State

TEXTS = {SOURCE: ("Where is it?", "At the IRS."), TARGET: ("Wo ist es?", "Beim IRS.")}


@pytest.fixture
def work(tmp_path):
    """A translation, its review, and the packaged languages as somebody's own."""
    for name in ("de", "en"):
        shutil.copytree(PACKAGED / name, tmp_path / f"own-{name}")
    (tmp_path / "translation").mkdir()
    for name, texts in TEXTS.items():
        messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=True)]
        (tmp_path / "translation" / name).write_text(json.dumps({"id": "a", "messages": messages}) + "\n")
    (tmp_path / "translation" / NOTES).write_text("")
    before, after = State(TEXTS[TARGET]), State(TEXTS[TARGET], "accepted")
    (tmp_path / "review").mkdir()
    decision = Decision("2026-01-01T00:00:00+00:00", "Ada", "a", "accept", before, after)
    (tmp_path / "review" / LOG).write_text(json.dumps(decision.record()) + "\n")
    return tmp_path


def run_flag(work, **rules):
    settings = {"output": work / "flags", "translation": work / "translation", "rules": rules}
    return flag(FlagConfig.model_validate(settings))


def run_export(work, **rules):
    card = {"name": "n", "source": "s", "licence": "l"}
    settings = {"output": work / "export", "translation": work / "translation", "reviews": work / "review"}
    return export(ExportConfig.model_validate({**settings, "rules": rules, "card": card}))


@pytest.mark.parametrize("run", [run_flag, run_export])
@pytest.mark.parametrize(
    ("key", "file", "row"),
    [("language", "own-de/entities-us.yaml", "IRS"), ("source_language", "own-en/source.yaml", "months")],
)
def test_a_changed_table_is_another_result(work, run, key, file, row):
    rules = {"language": str(work / "own-de"), "source_language": str(work / "own-en")}
    run(work, **rules)
    run(work, **rules)  # nothing to do
    table = work / file
    table.write_text("".join(line for line in table.read_text().splitlines(keepends=True) if row not in line))
    with pytest.raises(BllossomError, match=f"another result .*input {key}: "):
        run(work, **rules)


def test_a_folder_of_ones_own_may_lie_at_home(work, monkeypatch):
    monkeypatch.setenv("HOME", str(work))
    assert "language" in run_flag(work, language="~/own-de").inputs


def test_a_home_of_nobody_is_told(work):
    with pytest.raises(ConfigError, match="~nobody-here/de: whose home that is cannot be told; write the path out"):
        run_flag(work, language="~nobody-here/de")


@pytest.mark.parametrize("run", [run_flag, run_export])
def test_a_folder_that_is_called_as_one_of_the_packages_is_no_input(work, run, monkeypatch):
    (work / "de").mkdir()
    monkeypatch.chdir(work)
    assert run(work, language="de").inputs.keys() <= {"translation", "reviews"}
