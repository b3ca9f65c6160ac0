"""Results side by side: what may be compared, the scores with their spread over seeds, and paired differences."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bllossom.config import named_path
from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.compare import pairing
from bllossom.evaluation.compare.paired import Difference
from bllossom.evaluation.compare.pairing import OTHER_DOCUMENTS
from bllossom.evaluation.compare.read import Cell, Result, TaskScores, published, read_result, table6_tasks
from bllossom.evaluation.metrics import is_share


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: a result, or the results of one model trained with several seeds."""

    name: str
    seeds: list[Result]


@dataclass(frozen=True)
class Measure:
    """One thing that is compared: a task's metric, the mean of several (`parts`), or bits per byte of a language."""

    name: str
    parts: tuple[tuple[str, str], ...] = ()  # tasks and metrics
    language: str | None = None
    lower_is_better: bool = False

    @property
    def in_percent(self) -> bool:
        """True of shares, which are told in percent; what else there is has a scale of its own."""
        return self.language is None and all(is_share(metric) for _, metric in self.parts)


@dataclass(frozen=True)
class Score:
    """An entry's score: the mean over its seeds, their spread (largest − smallest), one seed's standard error."""

    value: float
    spread: float | None
    stderr: float | None
    at_floor: bool | None


@dataclass(frozen=True)
class Comparison:
    """All of it. `differences`: of each entry after the first, to the first, by measure; `notes`: what to know.

    `best`: the best entry of each measure; none where two share it.
    """

    entries: list[str]
    measures: list[Measure]
    scores: dict[tuple[str, str], Score]  # by entry and measure
    differences: dict[tuple[str, str], Difference]
    best: dict[str, str]  # by measure
    notes: list[str]


def compare(arguments: Sequence[str], *, anyway: bool = False) -> Comparison:
    """Compare the results that the arguments name: `PATH`, `NAME=PATH`, or `NAME=PATH,PATH` for the seeds of one model.

    Raises:
        BllossomError: a result cannot be read, or they are not comparable and `anyway` is not given.
    """
    entries = read_entries(arguments)
    results = [result for entry in entries for result in entry.seeds]
    notes = _allowed(list(differing(results)), anyway)
    notes += dict.fromkeys(told for result in results for told in result.not_numbers)
    rows, told = _published_beside(results, anyway)
    together = [*entries, *rows]
    measures = _measures(results)
    scores = {
        (entry.name, measure.name): score
        for entry in together
        for measure in measures
        if (score := _score(entry, measure)) is not None
    }
    differences, reasons = _differences(entries, measures)
    problems = [f"{where}: {why}" for where, why in reasons if why == OTHER_DOCUMENTS]
    notes += _allowed(problems, anyway) + told
    notes += [f"{where}: no paired difference: {why}" for where, why in reasons if why != OTHER_DOCUMENTS]
    best = {measure.name: name for measure in measures if (name := _best(together, measure, scores)) is not None}
    return Comparison([entry.name for entry in together], measures, scores, differences, best, notes)


def _allowed(problems: list[str], anyway: bool) -> list[str]:
    if problems and not anyway:
        raise BllossomError("\n".join([*problems, "not comparable; leave one out, or add --anyway to see them so"]))
    return problems


def read_entries(arguments: Sequence[str]) -> list[Entry]:
    """The results of the command line's arguments, each under a name of its own."""
    entries = []
    for argument in arguments:
        name, equals, paths = argument.partition("=")
        if not equals or named_path(argument).exists():  # a folder's name may hold = and commas
            path = named_path(argument).absolute()
            name, paths = path.parent.name if path.name == "results.json" else path.stem, argument
            name = path.name if path.is_dir() else name
        alone = named_path(paths).exists()
        each = [paths] if alone else paths.split(",")
        entries.append(Entry(name, [read_result(named_path(path), name) for path in each]))
    names = [entry.name for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{', '.join(twice)}: two results of one name; call one of them NAME=PATH")
    return entries


def differing(results: Sequence[Result]) -> Iterator[str]:
    """What makes results incomparable: a line each, of a result and the first before it that tells another thing."""
    told: dict[tuple[str, str], tuple[Any, str]] = {}
    for result in results:
        for subject, facts in _facts(result):
            # Other data follow from other rows: one line is enough.
            first = True
            for what, value in facts.items():
                before, name = told.setdefault((subject, what), (value, result.name))
                if before != value and first:
                    yield f"{subject}{what}: {before} in {name}, {value} in {result.name}"
                    first = False


def _facts(result: Result) -> Iterator[tuple[str, dict[str, Any]]]:
    """What scores depend on, as far as it is told."""
    facts: list[tuple[str, dict[str, Any]]] = [
        ("", {"encoding": result.encoding}),
        ("", {"chat_template": result.chat_template}),
    ]
    facts += [
        (
            f"{task}: ",
            {"shots": scores.shots, "way of drawing shots": scores.drawing, "rows": scores.rows, "data": scores.data},
        )
        for task, scores in result.tasks.items()
    ]
    facts += [(f"bits per byte, {language}: ", {"text": text}) for language, text in result.heldout.items()]
    for subject, known in facts:
        yield subject, {what: value for what, value in known.items() if value is not None}


def _published_beside(results: Sequence[Result], anyway: bool) -> tuple[list[Entry], list[str]]:
    """Table 6's rows, where a result has a task of them and they are comparable; else why they are left out."""
    tasks = set(table6_tasks())
    if not any(result.tasks.keys() & tasks for result in results):
        return [], []
    rows = published()
    among = set(differing(results))
    problems = [line for line in dict.fromkeys(differing([*results, rows[0]])) if line not in among]
    if problems and not anyway:
        return [], [f"Table 6's published rows are left out ({problems[0]}); `bllossom compare --anyway` shows them"]
    notes = ["published scores have no samples here: no paired differences; SBI there is KoSBi 2"]
    return [Entry(row.name, [row]) for row in rows], [*problems, *notes]


def _measures(results: Sequence[Result]) -> list[Measure]:
    languages = dict.fromkeys(language for result in results for language in result.bits_per_byte)
    measures = [
        Measure(f"bits per byte, {language}", language=language, lower_is_better=True) for language in languages
    ]
    named: dict[str, TaskScores] = {}
    for result in results:
        for task, scores in result.tasks.items():
            if task not in named or (named[task].score is None and scores.score is not None):
                named[task] = scores
    parts = {task: (task, scores.score or next(iter(scores.metrics))) for task, scores in named.items()}
    for task, metric in parts.values():
        lower = metric.partition(",")[0] in named[task].lower_is_better
        measures.append(Measure(f"{task} {metric}", ((task, metric),), lower_is_better=lower))
    in_table6 = [parts[task] for task in table6_tasks() if task in parts]
    if len(in_table6) > 1:
        measures.append(Measure(f"average of {len(in_table6)}", tuple(in_table6)))
    return measures


def _cells(entry: Entry, measure: Measure) -> list[Cell]:
    """The entry's cells of a measure, one a seed; none where a seed lacks it, or a part of it."""
    cells = []
    for result in entry.seeds:
        if measure.language is not None:
            found = [result.bits_per_byte.get(measure.language)]
        else:
            found = [_cell(result, task, metric) for task, metric in measure.parts]
        there = [cell for cell in found if cell is not None]
        if len(there) < len(found):
            return []
        cells.append(there[0] if len(there) == 1 else Cell(fmean(cell.value for cell in there)))
    return cells


def _cell(result: Result, task: str, metric: str) -> Cell | None:
    scores = result.tasks.get(task)
    # What is published has one score a task, whose metric is the task's own.
    return None if scores is None else scores.metrics.get(metric, scores.metrics.get(""))


def _score(entry: Entry, measure: Measure) -> Score | None:
    cells = _cells(entry, measure)
    if not cells:
        return None
    values = [cell.value for cell in cells]
    alone = len(cells) == 1
    spread = None if alone else max(values) - min(values)
    floors = [cell.at_floor for cell in cells]
    at_floor = None if None in floors else all(floors)
    return Score(fmean(values), spread, cells[0].stderr if alone else None, at_floor)


def _best(entries: Sequence[Entry], measure: Measure, scores: dict[tuple[str, str], Score]) -> str | None:
    sign = -1 if measure.lower_is_better else 1
    ranked = sorted(
        (sign * scores[entry.name, measure.name].value, entry.name)
        for entry in entries
        if (entry.name, measure.name) in scores
    )
    if len(ranked) < 2 or math.isclose(ranked[-1][0], ranked[-2][0], rel_tol=1e-12, abs_tol=1e-12):
        return None
    return ranked[-1][1]


def _differences(
    entries: Sequence[Entry], measures: Sequence[Measure]
) -> tuple[dict[tuple[str, str], Difference], list[tuple[str, str]]]:
    """Of each entry to the first where both have the score, by entry and measure; and why others have none."""
    differences, reasons = {}, []
    for entry in entries[1:]:
        for measure in measures:
            sides = (entries[0].seeds, entry.seeds)
            if len(measure.parts) > 1 or not (_cells(entries[0], measure) and _cells(entry, measure)):
                continue
            if measure.language is not None:
                found = pairing.of_bits(*sides, measure.language)
            else:
                found = pairing.of_task(*sides, *measure.parts[0])
            if isinstance(found, Difference):
                differences[entry.name, measure.name] = found
            else:
                reasons.append((f"{measure.name}, {entry.name}", found))
    return differences, reasons
