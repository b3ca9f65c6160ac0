"""A result as `bllossom compare` sees it: ours, lm-eval's own output, or a row of the paper's Table 6."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.evaluation.tasks.definitions import OURS, PREFIX, STOCK, file_name, names_in, shown_name

TABLE6 = Path(__file__).with_name("table6.yaml")
HELDOUT = "heldout_"


@dataclass(frozen=True)
class Cell:
    """One score."""

    value: float
    stderr: float | None = None
    at_floor: bool | None = None


@dataclass(frozen=True)
class TaskScores:
    """The scores of one task, or of a group of them, by metric, and what they depend on (None: not told)."""

    metrics: dict[str, Cell]
    score: str | None  # the metric that tables print
    rows: int | None
    shots: int | None
    data: str | None  # fingerprint of the rows
    lower_is_better: frozenset[str] = frozenset()  # metrics
    subtasks: tuple[str, ...] = ()  # of a group
    drawing: int | None = None  # the way in which shots were drawn


@dataclass(frozen=True)
class Result:
    """One model's scores. `samples_of` are the files with a line for each document, by task.

    `heldout`: which text bits per byte are of, by language; `not_numbers`: scores that are NaN, which are left out.
    """

    name: str
    tasks: dict[str, TaskScores]
    bits_per_byte: dict[str, Cell] = field(default_factory=dict)
    encoding: str | None = None
    chat_template: bool | None = None
    samples_of: dict[str, Path] = field(default_factory=dict)
    heldout: dict[str, str] = field(default_factory=dict)
    not_numbers: tuple[str, ...] = ()

    def samples(self, task: str) -> list[dict[str, Any]] | None:
        """The samples of a task, or of a group's tasks, in the order of their documents; None where some are missing.

        Raises:
            BllossomError: a file of them is broken.
        """
        if task in self.tasks and (parts := self.tasks[task].subtasks):
            samples: list[dict[str, Any]] = []
            for part in parts:
                if (found := self.samples(part)) is None:
                    return None
                samples += [sample | {"doc_id": f"{part} {sample['doc_id']}"} for sample in found]
            return samples
        path = self.samples_of.get(task)
        if path is None:
            return None
        try:
            with path.open(encoding="utf8") as lines:
                return sorted((json.loads(line) for line in lines), key=lambda sample: sample["doc_id"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BllossomError(
                f"{path}: the samples are broken ({error}); evaluate anew, or take that file away and compare without"
            ) from error


def read_result(path: Path, name: str) -> Result:
    """Read a folder that eval published, lm-eval's output folder, or a results.json of either.

    Raises:
        BllossomError: there is no result there.
    """
    file = _results_file(path)
    samples = _samples(file)
    try:
        raw = json.loads(file.read_text(encoding="utf8"))
        result = _ours(name, raw, samples) if "bllossom" in raw else _theirs(name, raw, samples)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BllossomError(f"{file} is not a result of eval or lm_eval ({error!r}); name one") from error
    if not (result.tasks or result.bits_per_byte or result.not_numbers):
        raise BllossomError(f"{file} holds no score; name another result")
    return result


def table6_tasks() -> list[str]:
    """Our tasks of Table 6's columns."""
    return list(_table6()["columns"].values())


def published() -> list[Result]:
    """The twelve rows of the paper's Table 6."""
    table = _table6()
    results = []
    for model, values in table["models"].items():
        tasks = {
            task: TaskScores({"": Cell(value / 100)}, None, table["rows"].get(column), table["shots"], None)
            for (column, task), value in zip(table["columns"].items(), values, strict=True)
        }
        results.append(Result(f"{model} (published)", tasks, {}, table["encoding"], False))
    return results


def _table6() -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(TABLE6.read_text(encoding="utf8"))
    return table


def _results_file(path: Path) -> Path:
    if path.is_file():
        return path
    if (path / "results.json").is_file():
        return path / "results.json"
    # lm-eval: OUTPUT/MODEL/results_DATE.json
    found = sorted([*path.glob("results_*.json"), *path.glob("*/results_*.json")], key=lambda file: file.name)
    if not found:
        raise BllossomError(f"{path}: no result there; name a folder that eval published, or lm_eval's --output_path")
    if len({file.parent for file in found}) > 1:
        raise BllossomError(f"{path} holds results of several models; name one of {found[0].parent}, …")
    if len(found) > 1:
        say(f"{path}: {len(found)} results; the newest is read, {found[-1].name}")
    return found[-1]


def _samples(file: Path) -> dict[str, Path]:
    if (file.parent / "samples").is_dir():
        return {path.stem: path for path in sorted((file.parent / "samples").glob("*.jsonl"))}
    date = file.stem.removeprefix("results")
    return {
        _marked(path.stem.removeprefix("samples_").removesuffix(date)): path
        for path in sorted(file.parent.glob(f"samples_*{date}.jsonl"))
    }


def _theirs(name: str, raw: Mapping[str, Any], samples: dict[str, Path]) -> Result:
    shots, counts = raw.get("n-shot", {}), raw.get("n-samples", {})
    tasks = {}
    for key, values in {**raw["results"], **raw.get("groups", {})}.items():
        if found := _cells(values):
            rows = counts.get(key, {}).get("effective")
            parts = tuple(map(_marked, raw.get("group_subtasks", {}).get(key, ())))
            tasks[_marked(key)] = TaskScores(found, None, rows, shots.get(key), None, _lower(raw, key), parts)
    encoding = raw.get("config", {}).get("encoding", "lm-eval")  # results of ours of before have it there
    return _without_nan(Result(name, tasks, {}, encoding, bool(raw.get("chat_template")), samples))


def _ours(name: str, raw: Mapping[str, Any], samples: dict[str, Path]) -> Result:
    figures, settings = raw["bllossom"], raw["config"]
    tasks: dict[str, TaskScores] = {}
    named = {**figures["subtasks"], **figures["tasks"]}

    def shown(key: str) -> str:
        return f"{STOCK}{key}" if f"{STOCK}{key}" in named else key.removeprefix(PREFIX)

    lower = {shown(key): _lower(raw, key) for key in raw.get("higher_is_better", {})}
    subtasks = {group: tuple(map(shown, keys)) for group, keys in raw.get("group_subtasks", {}).items()}
    for task, found in named.items():
        metrics = {
            metric: Cell(cell["value"], cell["stderr"], cell["at_floor"])
            for metric, cell in found.items()
            if isinstance(cell, dict)
        }
        parts = subtasks.get(task, ()) if "subtasks" in found else ()
        depends = (found["score"], found["rows"], found["shots"], found["data"])
        drawing = None if found["shots"] == 0 else found.get("drawing", 1)  # results of before do not tell it
        tasks[task] = TaskScores(metrics, *depends, lower.get(task, frozenset()), parts, drawing)
    held = figures["heldout"]
    bits = {language: Cell(found["bits_per_byte"], found["stderr"]) for language, found in held.items()}
    texts = {
        language: f"{found['documents']:,} documents of {found['bytes']:,} bytes"
        + (f", {found['data']}" if "data" in found else "")
        for language, found in held.items()
        if "documents" in found
    }
    files = {task: samples[file_name(task)] for task in tasks if file_name(task) in samples}
    files |= {held: path for held, path in samples.items() if held.startswith(HELDOUT)}
    whole = Result(name, tasks, bits, settings["encoding"], settings["chat_template"], files, texts)
    return _without_nan(whole)


def _lower(raw: Mapping[str, Any], key: str) -> frozenset[str]:
    return frozenset(metric for metric, higher in raw.get("higher_is_better", {}).get(key, {}).items() if not higher)


def _without_nan(result: Result) -> Result:
    """A model whose weights overflowed has such scores: nothing is better or worse than they are."""

    def good(where: str, cells: Mapping[str, Cell]) -> Iterator[tuple[str, Cell]]:
        for name, cell in cells.items():
            if math.isfinite(cell.value):
                yield name, cell
            else:
                not_numbers.append(f"{where}{name} of {result.name} is {cell.value}: left out")

    not_numbers: list[str] = []
    tasks = {
        task: replace(scores, metrics=dict(good(f"{task} ", scores.metrics))) for task, scores in result.tasks.items()
    }
    bits = dict(good("bits per byte, ", result.bits_per_byte))
    kept = {task: scores for task, scores in tasks.items() if scores.metrics}
    return replace(result, tasks=kept, bits_per_byte=bits, not_numbers=tuple(not_numbers))


def _cells(values: Mapping[str, Any]) -> dict[str, Cell]:
    cells = {}
    for column, value in values.items():
        metric, _, kind = column.partition(",")
        if kind and not metric.endswith("_stderr") and isinstance(value, int | float):
            stderr = values.get(f"{metric}_stderr,{kind}")
            name = metric if kind == "none" else column
            cells[name] = Cell(float(value), stderr if isinstance(stderr, int | float) else None)
    return cells


def _marked(key: str) -> str:
    """As `bllossom eval` calls it."""
    return shown_name(key, _our_keys())


@cache
def _our_keys() -> frozenset[str]:
    return frozenset(name for path in OURS.glob("*/*.yaml") for name in names_in(path.read_bytes()))
