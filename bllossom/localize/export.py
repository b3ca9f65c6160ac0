"""`bllossom localize export`: what was accepted, as sft reads it, with a report and a data card."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bllossom.artifacts import Manifest, publish, read_manifest
from bllossom.config import InputPath, Model, StageConfig
from bllossom.errors import BllossomError
from bllossom.localize.exporting.outcomes import agreement, outcomes
from bllossom.localize.exporting.pages import render_card, render_report
from bllossom.localize.exporting.tables import make_report
from bllossom.localize.flag import RuleSettings, make_checker, prompt_of, rule_inputs
from bllossom.localize.records import load_pairs, with_turns, write_examples
from bllossom.localize.review import LOG, book_of
from bllossom.localize.reviewing.book import Decision
from bllossom.serving.log import read_log

STATUSES = ("accepted", "dropped", "open")


class CardSettings(Model):
    """What the data card says that no file knows."""

    name: Annotated[str, Field(min_length=1, description="the data set's title on its card")]
    source: Annotated[str, Field(min_length=1, description="the set that was translated, and where it is from")]
    licence: Annotated[
        str, Field(min_length=1, description="of the translation; as the hub writes it: cc-by-nc-sa-4.0")
    ]


class ExportConfig(StageConfig):
    """What is exported."""

    translation: Annotated[InputPath, Field(description="the output of localize translate")]
    reviews: Annotated[InputPath, Field(description="the folder of the review's log")]
    rules: RuleSettings
    partial: Annotated[bool, Field(description="export although examples are open")] = False
    card: CardSettings


def export(config: ExportConfig, *, force: bool = False) -> Manifest:
    """Publish accepted.jsonl, dropped.jsonl, open.jsonl, report.json, report.html and README.md.

    Raises:
        BllossomError: examples are open and `partial` is not set, or nothing was accepted.
    """
    log = config.reviews / LOG
    if not log.is_file():
        raise BllossomError(f"{config.reviews} has no {LOG}; name the folder of `bllossom localize review`")

    def build(folder: Path) -> dict[str, Any]:
        return _build(config, folder)

    inputs = {"translation": config.translation, "reviews": log, **rule_inputs(config.rules)}
    return publish(config, stage="localize export", inputs=inputs, build=build, force=force)


def dry_run(config: ExportConfig) -> list[str]:
    """How many examples are still open."""
    if not (config.reviews / LOG).is_file():
        return [f"{config.reviews / LOG}: not here yet"]
    pairs = load_pairs(config.translation)
    book = book_of(pairs, decisions=_decisions(config))
    touched = [book.copies(pair.id) for pair in pairs]
    decided = sum(any(state.status != "open" for state in copies.values()) for copies in touched)
    return [f"{decided:,} of {len(pairs):,} examples decided"]


def _build(config: ExportConfig, folder: Path) -> dict[str, Any]:
    pairs, decisions = load_pairs(config.translation), _decisions(config)
    book = book_of(pairs, decisions=decisions)
    checker = make_checker(config.rules, pairs)
    found = outcomes(pairs, book, decisions, checker, prompt_of(config.translation))
    report = make_report(found, agreement(book, pairs), decisions)
    if report["open"] and not config.partial:
        raise BllossomError(
            f"{report['open']:,} of {report['examples']:,} examples are open; review them, or export with --partial"
        )
    if not report["accepted"]:
        raise BllossomError("no example was accepted; review some with `bllossom localize review`")
    for status in STATUSES:
        kept = [outcome for outcome in found if outcome.status == status]
        write_examples(folder / f"{status}.jsonl", (with_turns(one.pair.target, one.texts) for one in kept))
    (folder / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf8")
    (folder / "report.html").write_text(render_report(report, config.card.name), encoding="utf8")
    card = {**config.card.model_dump(), "language": checker.language.code, **_translator(config.translation)}
    (folder / "README.md").write_text(render_card(report, card), encoding="utf8")
    return {key: value for key, value in report.items() if key != "shown"}


def _decisions(config: ExportConfig) -> list[Decision]:
    return [Decision.of(record) for record in read_log(config.reviews / LOG)]


def _translator(translation: Path) -> dict[str, str]:
    """Who translated, from the translation's manifest."""
    manifest = read_manifest(translation)
    settings = manifest.config if manifest else {}
    if asked := settings.get("by_endpoint"):
        return {"translator": asked["endpoint"]["model"], "prompt_version": asked["prompt_version"]}
    if run := settings.get("by_model"):
        return {"translator": str(run["path"]), "prompt_version": "none"}
    return {"translator": "a file of translations", "prompt_version": "none"}
