"""Results side by side: what may be compared, the scores with their spread over seeds, and paired differences."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from bllossom.config import expand_path
from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.compare import paired
from bllossom.evaluation.compare.paired import Difference
from bllossom.evaluation.compare.read import HELDOUT, Cell, Result, TaskScores, published, read_result, table6_tasks

SEED = 0  # of the bootstrap


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: a result, or the results of one model trained with several seeds."""

    name: str
    seeds: list[Result]


@dataclass(frozen=True)
class Measure:
    """One thing that is compared: a task's metric, a mean of Table 6, or bits per byte of a language."""

    name: str
    task: str | None
    metric: str
    lower_is_better: bool = False


@dataclass(frozen=True)
class Score:
    """An entry's score: the mean over its seeds, their spread (largest − smallest), one seed's standard error."""

    value: float
    spread: float | None
    stderr: float | None
    at_floor: bool | None


@dataclass(frozen=True)
class Comparison:
    """All of it. `differences`: of each entry after the first, to the first, by measure; `notes`: what to know."""

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
    notes = []
    if problems := list(differing([result for entry in entries for result in entry.seeds])):
        if not anyway:
            raise BllossomError("\n".join([*problems, "not comparable; leave one out, or add --anyway to see them so"]))
        notes += problems
    rows, told = _published_beside(entries, anyway)
    notes += told
    together = [*entries, *rows]
    measures = _measures(entries, together)
    scores = {
        (entry.name, measure.name): score
        for entry in together
        for measure in measures
        if (score := _score(entry, measure)) is not None
    }
    differences = {}
    for entry in entries[1:]:
        for measure in measures:
            found = _difference(entries[0], entry, measure)
            if isinstance(found, Difference):
                differences[entry.name, measure.name] = found
            elif found is not None:
                notes.append(f"{measure.name}, {entry.name}: no paired difference: {found}")
    best = {measure.name: name for measure in measures if (name := _best(together, measure, scores)) is not None}
    return Comparison([entry.name for entry in together], measures, scores, differences, best, notes)


def read_entries(arguments: Sequence[str]) -> list[Entry]:
    """The results of the command line's arguments, each under a name of its own."""
    entries = []
    for argument in arguments:
        name, equals, paths = argument.partition("=")
        paths = paths if equals else name
        name = name if equals else Path(name).stem if Path(name).is_file() else Path(name).name
        entries.append(Entry(name, [read_result(expand_path(path), name) for path in paths.split(",")]))
    names = [entry.name for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{', '.join(twice)}: two results of one name; call one of them NAME=PATH")
    return entries


def differing(results: Sequence[Result]) -> Iterator[str]:
    """What makes results incomparable to the first of them: one line each."""
    first = results[0]
    for other in results[1:]:
        for what in ("encoding", "chat_template"):
            if (mine := getattr(first, what)) != (theirs := getattr(other, what)) and None not in (mine, theirs):
                yield f"{what}: {mine} in {first.name}, {theirs} in {other.name}"
        for task in first.tasks.keys() & other.tasks.keys():
            one, two = first.tasks[task], other.tasks[task]
            # Other data follow from other rows: one line is enough.
            for what in ("shots", "rows", "data"):
                mine, theirs = getattr(one, what), getattr(two, what)
                if mine != theirs and None not in (mine, theirs):
                    yield f"{task}: {what}: {mine} in {first.name}, {theirs} in {other.name}"
                    break


def _published_beside(entries: Sequence[Entry], anyway: bool) -> tuple[list[Entry], list[str]]:
    """Table 6's rows, where a result has a task of them and they are comparable; else why they are left out."""
    tasks = set(table6_tasks())
    mine = next((result for entry in entries for result in entry.seeds if result.tasks.keys() & tasks), None)
    if mine is None:
        return [], []
    rows = published()
    problems = list(dict.fromkeys(differing([mine, rows[0]])))
    if problems and not anyway:
        return [], [f"Table 6's published rows are left out ({problems[0]}); --anyway shows them"]
    notes = ["published scores have no samples here: no paired differences; SBI there is KoSBi 2"]
    return [Entry(row.name, [row]) for row in rows], [*problems, *notes]


def _measures(entries: Sequence[Entry], together: Sequence[Entry]) -> list[Measure]:
    languages = dict.fromkeys(lang for entry in entries for result in entry.seeds for lang in result.bits_per_byte)
    measures = [Measure(f"bits per byte, {language}", None, language, True) for language in languages]
    named: dict[str, TaskScores] = {}
    for entry in entries:
        for result in entry.seeds:
            for task, scores in result.tasks.items():
                if task not in named or (named[task].score is None and scores.score is not None):
                    named[task] = scores
    for task, scores in named.items():
        metric = scores.score or next(iter(scores.metrics))
        measures.append(Measure(f"{task} {metric}", task, metric))
    in_table6 = [measure for measure in measures if measure.task in set(table6_tasks())]
    if len(in_table6) > 1:
        measures.append(Measure(f"average of {len(in_table6)}", None, "average"))
    return measures


def _cells(entry: Entry, measure: Measure) -> list[Cell]:
    """The entry's cells of a measure, one a seed; none where a seed lacks it."""
    cells = []
    for result in entry.seeds:
        if measure.lower_is_better:
            cell = result.bits_per_byte.get(measure.metric)
        elif measure.task is None:
            cell = _average(result)
        else:
            scores = result.tasks.get(measure.task)
            # What is published has one score a task, whose metric is the task's own.
            cell = None if scores is None else scores.metrics.get(measure.metric, scores.metrics.get(""))
        if cell is None:
            return []
        cells.append(cell)
    return cells


def _average(result: Result) -> Cell | None:
    tasks = [result.tasks[task] for task in table6_tasks() if task in result.tasks]
    cells = [scores.metrics.get(scores.score or "") for scores in tasks]
    values = [cell.value for cell in cells if cell is not None]
    return Cell(fmean(values)) if len(values) == len(tasks) > 1 else None


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
    there = [entry.name for entry in entries if (entry.name, measure.name) in scores]
    if len(there) < 2:
        return None
    sign = -1 if measure.lower_is_better else 1
    return max(there, key=lambda name: sign * scores[name, measure.name].value)


def _difference(first: Entry, second: Entry, measure: Measure) -> Difference | str | None:
    """The paired difference; a reason where there is none though both have the score; None where one lacks it."""
    if (measure.task is None and not measure.lower_is_better) or not (
        _cells(first, measure) and _cells(second, measure)
    ):
        return None
    source = f"{HELDOUT}{measure.metric}" if measure.lower_is_better else str(measure.task)
    sides = [[result.samples(source) for result in entry.seeds] for entry in (first, second)]
    if any(samples is None for side in sides for samples in side):
        return "samples are missing"
    one, two = [[samples for samples in side if samples is not None] for side in sides]
    if measure.lower_is_better:
        return _of_bits(one, two)
    metric, _, kind = measure.metric.partition(",")
    one, two = [[_filtered(samples, kind or "none") for samples in side] for side in (one, two)]
    keys = [[(sample["doc_id"], sample["prompt_hash"]) for sample in samples] for samples in [*one, *two]]
    if any(key != keys[0] for key in keys):
        return "the documents or their questions differ"
    values = [np.array([[sample[metric] for sample in samples] for samples in side]) for side in (one, two)]
    if values[0].ndim == 2:
        return paired.of_means(values[0].astype(float), values[1].astype(float), SEED)
    value = _cells(first, measure)[0].value
    form = paired.kind_of_f1(values[0][0].tolist(), value) if values[0].shape[-1] == 2 else None
    if form is None:
        return f"{metric} cannot be recomputed from the samples"
    golds = values[0][0, :, 0]
    return paired.of_f1(golds, values[0][..., 1], values[1][..., 1], form, SEED)


def _of_bits(one: list[list[dict[str, Any]]], two: list[list[dict[str, Any]]]) -> Difference | str:
    sizes = [[sample["bytes"] for sample in samples] for samples in [*one, *two]]
    if any(size != sizes[0] for size in sizes):
        return "the documents differ"
    bits = [np.array([[sample["bits"] for sample in samples] for samples in side], float) for side in (one, two)]
    return paired.of_ratios(np.array(sizes[0], float), bits[0], bits[1], SEED)


def _filtered(samples: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [sample for sample in samples if sample.get("filter", "none") == kind]
