"""What the merge did: sizes, tokens per word, scripts, the knee, and what can never be produced."""

from collections.abc import Sequence

from bllossom.report.blocks import Block, Cell, Section, Table
from bllossom.report.charts import bar_chart, line_chart
from bllossom.report.run_folder import RunFolder, RunStep

REPORT = "report.json"
CERTIFIED = (
    ("ids of the base that keep piece and meaning", ["ids_kept", "ids"]),
    ("Unicode's scalar values looked at, alone and behind a space", ["unicode", "scalar_values"]),
    ("of these, that get other ids", ["unicode", "changed"]),
    ("new pieces that their own text produces", ["pieces", "whole"]),
    ("parts of characters, which other pieces need", ["pieces", "parts_of_characters"]),
    ("documents whose encoding is the base's with neighbours joined", ["texts", "documents"]),
    ("generated strings, likewise", ["texts", "generated_strings"]),
)
SIDES = ("base", "merged", "shortest")
MEASURES = (
    ("tokens per word", "tokens_per_word", "decimals3"),
    ("tokens per character", "tokens_per_character", "decimals4"),
    ("bytes per token", "bytes_per_token", "decimals3"),
    ("tokens that are single bytes", "byte_fallback_share", "percent2"),
)
PIECES = (
    ("of the base", ["base"]),
    ("new", ["new"]),
    ("together", ["merged"]),
    ("intermediates, which only other pieces need", ["intermediates", "count"]),
    ("given up", ["given_up", "count"]),
    ("that can never be produced", ["unreachable", "count"]),
    ("that no sample used", ["unused", "count"]),
)


def vocabulary(runs: Sequence[RunFolder]) -> Section | None:
    """One part for every merge; None where none was made."""
    blocks: list[Block] = []
    for step in (step for run in runs for step in run.of("merge-vocab")):
        blocks += [f"{step.label}:", *_pieces(step), *_certificate(step), *_languages(step)]
        blocks += [*_scripts(step), *_curve(step)]
    return Section("vocabulary", "The vocabulary", blocks) if blocks else None


def _pieces(step: RunStep) -> list[Block]:
    rows: list[list[Cell]] = [[name, step.figure(["pieces", *keys], "integer", REPORT)] for name, keys in PIECES]
    rows.append(["documents proved", step.figure(["proof", "documents"], "integer", REPORT)])
    rows.append(["generated strings proved", step.figure(["proof", "generated_strings"], "integer", REPORT)])
    rows.append(["texts on which the two readers differ", step.figure(["proof", "disagreements"], "integer", REPORT)])
    return [Table(["pieces", "count"], [row for row in rows if row[1] is not None])]


def _languages(step: RunStep) -> list[Block]:
    languages = list((step.read(REPORT) or {}).get("languages", {}))
    if not languages:
        return []
    rows: list[list[Cell]] = [
        [f"{language}: {name}", *(step.figure(["languages", language, side, key], style, REPORT) for side in SIDES)]
        for language in languages
        for name, key, style in MEASURES
    ]
    fertility = {
        side: [
            step.figure(["languages", language, side, "tokens_per_word"], "decimals3", REPORT) for language in languages
        ]
        for side in SIDES
    }
    return [
        bar_chart("Tokens per word", "tokens per word", languages, fertility),
        Table(["", *SIDES], rows, "shortest: the fewest tokens that these pieces could spell the samples with"),
    ]


def _scripts(step: RunStep) -> list[Block]:
    scripts = (step.read(REPORT) or {}).get("scripts", {})
    sides = [side for side in ("base", "donor", "merged") if side in scripts]
    if not sides:
        return []
    names = list(dict.fromkeys(name for side in sides for name in scripts[side]))
    columns = {side: [step.figure(["scripts", side, name], "integer", REPORT) for name in names] for side in sides}
    rows: list[list[Cell]] = [[name, *(columns[side][place] for side in sides)] for place, name in enumerate(names)]
    most = names[:8]
    shown = {side: cells[: len(most)] for side, cells in columns.items()}
    return [bar_chart("Pieces by script", "pieces", most, shown), Table(["script", *sides], rows)]


def _curve(step: RunStep) -> list[Block]:
    """Tokens per word against the number of new pieces, where they were learned and merge-vocab measured the curve."""
    points = (step.read(REPORT) or {}).get("curve") or []
    blocks: list[Block] = []
    for title, key, style in (
        ("Where more pieces stop paying", "tokens_per_word", "decimals3"),
        ("New pieces that are rare in the text they were learned on", "rare", "integer"),
    ):
        drawn = [
            (
                step.at(REPORT, ["curve", place, "pieces"], point["pieces"], "integer"),
                step.at(REPORT, ["curve", place, key], point[key], style),
            )
            for place, point in enumerate(points)
        ]
        chart = line_chart(title, "new pieces", key.replace("_", " "), {step.label: drawn})
        blocks += [chart] if chart else []
    return blocks


def _certificate(step: RunStep) -> list[Block]:
    """What was proved of every piece and character, where merge-vocab wrote a certificate."""
    rows: list[list[Cell]] = [
        [what, figure]
        for what, keys in CERTIFIED
        if (figure := step.figure(["certificate", *keys], "integer", REPORT)) is not None
    ]
    return [Table(["certificate", "count"], rows)] if rows else []
