"""report.html and README.md: the same figures for people."""

from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = """
:root{color-scheme:light dark;--line:#d8dce1}
@media (prefers-color-scheme:dark){:root{--line:#3a3f46}}
body{font:15px/1.6 system-ui,"Noto Sans CJK KR",sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.6rem 0 1.6rem}
th,td{padding:.3rem .8rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
td.text{white-space:pre-wrap;overflow-wrap:anywhere;min-width:14rem}
"""
NAMES = {"topic": "topic changed", "entity": "named entity changed", "style": "style", "none": "none"}
SHOWN_CHARACTERS = 400


def render_report(report: Mapping[str, Any], title: str) -> str:
    """One file that needs nothing else."""
    agreed = report["agreement"]
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{report['accepted']:,} of {report['examples']:,} examples accepted, {report['dropped']:,} dropped, "
        f"{report['open']:,} open; {report['decisions']:,} decisions of {report['reviewers']:,} reviewers.</p>",
        "<h2>What was changed</h2>",
        _table(("class", "examples", "share", "characters changed", "of the text", "chrF"), _change_rows(report)),
        "<h2>Flags</h2>",
        _table(
            ("rule", "before", "after"),
            [(rule, sides["before"], sides["after"]) for rule, sides in report["flags"].items()],
        ),
        "<h2>Agreement</h2>",
        f"<p>{agreed['examples']:,} examples decided by two: {_share(agreed['same_decision'])} the same decision, "
        f"Cohen's κ {_number(agreed['kappa'])}, {_share(agreed['same_text'])} the same text where both accepted.</p>",
        "<h2>Examples</h2>",
        *(_examples(change, report["shown"][change]) for change in NAMES if report["shown"][change]),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def render_card(report: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """A data card in the hub's form: licence and provenance."""
    changes = "\n".join(f"| {' | '.join(map(str, row))} |" for row in _change_rows(report))
    return f"""---
license: {card["licence"]}
language: {card["language"]}
---
# {card["name"]}

{report["accepted"]:,} examples in `accepted.jsonl`, each `{{"id", "messages"}}`.

| | |
|---|---|
| source | {card["source"]} |
| licence | {card["licence"]} |
| translated by | {card["translator"]} |
| version of the prompt | {card["prompt_version"]} |
| reviewers | {report["reviewers"]:,} |
| decisions | {report["decisions"]:,} |
| dropped | {report["dropped"]:,} |
| not reviewed | {report["open"]:,} |

| class | examples | share | characters changed | of the text | chrF |
|---|---|---|---|---|---|
{changes}
"""


def _change_rows(report: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            NAMES[change],
            figures["examples"],
            f"{figures['share']:.1%}",
            figures.get("characters_changed", ""),
            _share(figures.get("characters_changed_share")),
            figures.get("chrf", ""),
        )
        for change, figures in report["changes"].items()
    ]


def _examples(change: str, shown: list[Mapping[str, str]]) -> str:
    rows = [
        tuple(entry[side][:SHOWN_CHARACTERS] for side in ("id", "source", "machine", "reviewed")) for entry in shown
    ]
    return f"<h3>{NAMES[change]}</h3>" + _table(("id", "source", "machine", "reviewed"), rows, "text")


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]], kind: str = "") -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f'<td class="{kind}">{escape(str(cell))}</td>' for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
