"""A comparison for a terminal, as Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bllossom.errors import BllossomError
from bllossom.evaluation.compare.compare import Comparison, Measure, Score
from bllossom.evaluation.compare.paired import Difference
from bllossom.evaluation.metrics import DEVIATIONS_OF_95_PERCENT

LARGE = 1e5  # a perplexity of a model that knows nothing
LEGEND = (
    "± is half of a 95 % interval; ⌞grey⌟ scores are at their floor: their interval reaches the best constant answer, "
    "or chance. Differences are to the first result, over the same documents, with 95 % intervals (bootstrap, 10,000 "
    "draws)."
)


def print_tables(comparison: Comparison, console: Console) -> None:
    """The tables in colour: the best score bold, scores at their floor grey, sure differences bold."""
    header, rows = _scores(comparison, bold="[bold]{}[/bold]", grey="[bright_black]{}[/bright_black]", mark=escape)
    _print(console, "", header, rows)
    header, rows = _differences(comparison, bold="[bold]{}[/bold]", mark=escape)
    if rows:
        _print(console, "Differences", header, rows)
    console.print(LEGEND.replace("⌞", "").replace("⌟", ""), highlight=False)
    for note in comparison.notes:
        console.print(f"note: {note}", markup=False, highlight=False)


def markdown(comparison: Comparison) -> str:
    """The same tables as Markdown: the best score bold, scores at their floor in italics."""
    parts = [_markdown(*_scores(comparison, bold="**{}**", grey="*{}*", mark=_in_a_cell))]
    header, rows = _differences(comparison, bold="**{}**", mark=_in_a_cell)
    if rows:
        parts.append(_markdown(header, rows))
    notes = "".join(f"- {note}\n" for note in comparison.notes)
    legend = LEGEND.replace("⌞grey⌟", "*italic*")
    return "\n".join([*parts, f"{legend}\n", *([notes] if notes else [])])


def as_csv(comparison: Comparison) -> str:
    """One line a score: result, measure, value, spread, stderr, at_floor, and its difference to the first result."""
    text = io.StringIO()
    names = ["value", "spread", "stderr", "at_floor"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["result", "measure", *names, "difference", "low", "high", "p"])
    for (entry, measure), score in comparison.scores.items():
        found = comparison.differences.get((entry, measure))
        change = ["", "", "", ""] if found is None else [found.value, found.low, found.high, found.p]
        writer.writerow([entry, measure, *(getattr(score, name) for name in names), *change])
    return text.getvalue()


def as_json(comparison: Comparison) -> str:
    """Everything, by result and measure."""
    results: dict[str, dict[str, object]] = {entry: {} for entry in comparison.entries}
    for (entry, measure), score in comparison.scores.items():
        found = comparison.differences.get((entry, measure))
        results[entry][measure] = asdict(score) | {"difference": None if found is None else asdict(found)}
    whole = {"results": results, "best": comparison.best, "notes": comparison.notes}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def write(comparison: Comparison, folder: Path) -> None:
    """Write comparison.md, .csv and .json into a folder.

    Raises:
        BllossomError: they cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in (("md", markdown), ("csv", as_csv), ("json", as_json)):
            (folder / f"comparison.{ending}").write_text(text(comparison), encoding="utf8")
    except OSError as error:
        raise BllossomError(f"{folder} cannot be written ({error.strerror}); name another output") from error


def _scores(
    comparison: Comparison, *, bold: str, grey: str, mark: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows. The longer of results and measures goes down."""

    def cell(entry: str, measure: Measure) -> str:
        score = comparison.scores.get((entry, measure.name))
        if score is None:
            return "–"
        text = _number(score, measure)
        if score.at_floor:
            text = grey.format(text)
        return bold.format(text) if comparison.best.get(measure.name) == entry else text

    entries, measures = comparison.entries, comparison.measures
    if len(entries) > len(measures):
        rows = [[mark(entry), *(cell(entry, measure) for measure in measures)] for entry in entries]
        return ["", *(mark(measure.name) for measure in measures)], rows
    rows = [[mark(measure.name), *(cell(entry, measure) for entry in entries)] for measure in measures]
    return ["", *(mark(entry) for entry in entries)], rows


def _differences(comparison: Comparison, *, bold: str, mark: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    others = [entry for entry in comparison.entries[1:] if any(key[0] == entry for key in comparison.differences)]
    rows = []
    for measure in comparison.measures:
        cells = []
        for entry in others:
            found = comparison.differences.get((entry, measure.name))
            text = "–" if found is None else mark(_change(found, measure))
            cells.append(bold.format(text) if found is not None and found.sure else text)
        if set(cells) - {"–"}:
            rows.append([mark(measure.name), *cells])
    return [mark(f"minus {comparison.entries[0]}"), *(mark(entry) for entry in others)], rows


def _number(score: Score, measure: Measure) -> str:
    text = _scaled(score.value, measure)
    if score.spread is not None:
        return f"{text} (spread {_scaled(score.spread, measure)})"
    if score.stderr is not None:
        return f"{text} ± {_scaled(DEVIATIONS_OF_95_PERCENT * score.stderr, measure)}"
    return text


def _scaled(number: float, measure: Measure, sign: str = "") -> str:
    if measure.in_percent:
        return f"{100 * number:{sign}.1f}"
    return f"{number:{sign}.3f}" if abs(number) < LARGE else f"{number:{sign}.3g}"


def _change(found: Difference, measure: Measure) -> str:
    value, low, high = (_scaled(number, measure, "+") for number in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]" + ("" if found.p is None else f", p {found.p:.2g}")


def _print(console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for number, columns in enumerate(_fitting(header, rows, console.width)):
        table = Table(title=title if title and not number else None, title_justify="left")
        table.add_column(header[0], overflow="fold")
        for column in columns:
            table.add_column(header[column], justify="right", overflow="fold")
        for row in rows:
            table.add_row(row[0], *(row[column] for column in columns))
        console.print(table)


def _fitting(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """The columns behind the first, in as many tables as the width asks for: names are not folded letter by letter."""
    widths = [max(Text.from_markup(cell).cell_len for cell in column) + 3 for column in zip(header, *rows, strict=True)]
    tables: list[list[int]] = []
    left = 0
    for column in range(1, len(header)):
        if not tables or widths[column] > left:
            tables.append([])
            left = width - 1 - widths[0]
        tables[-1].append(column)
        left -= widths[column]
    return tables


def _in_a_cell(text: str) -> str:
    return text.replace("|", "\\|")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *("--:" for _ in header[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, ruler, *rows])
