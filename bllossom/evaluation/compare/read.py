"""A result as `bllossom compare` sees it: ours, lm-eval's own output, or a row of the paper's Table 6."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bllossom.errors import BllossomError
from bllossom.evaluation.tasks.definitions import PREFIX

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
    """The scores of one task by metric, and what they depend on (None: not told)."""

    metrics: dict[str, Cell]
    score: str | None  # the metric that tables print
    rows: int | None
    shots: int | None
    data: str | None  # fingerprint of the rows


@dataclass(frozen=True)
class Result:
    """One model's scores. `samples_of` are the files with a line for each document, by task."""

    name: str
    tasks: dict[str, TaskScores]
    bits_per_byte: dict[str, Cell] = field(default_factory=dict)
    encoding: str | None = None
    chat_template: bool | None = None
    samples_of: dict[str, Path] = field(default_factory=dict)

    def samples(self, task: str) -> list[dict[str, Any]] | None:
        """The task's samples in the order of their documents; None where there are none."""
        path = self.samples_of.get(task)
        if path is None:
            return None
        with path.open(encoding="utf8") as lines:
            return sorted((json.loads(line) for line in lines), key=lambda sample: sample["doc_id"])


def read_result(path: Path, name: str) -> Result:
    """Read a folder that eval published, lm-eval's output folder, or a results.json of either.

    Raises:
        BllossomError: there is no result there.
    """
    file = _results_file(path)
    try:
        raw = json.loads(file.read_text(encoding="utf8"))
        scores = raw["results"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BllossomError(f"{file} is not a result of eval or lm_eval ({error!r}); name one") from error
    samples = _samples(file)
    if "bllossom" in raw:
        return _ours(name, raw["bllossom"], raw["config"], samples)
    shots, counts = raw.get("n-shot", {}), raw.get("n-samples", {})
    tasks = {}
    for key, values in {**scores, **raw.get("groups", {})}.items():
        if found := _cells(values):
            rows = counts.get(key, {}).get("effective")
            tasks[_name(key)] = TaskScores(found, None, rows, shots.get(key), None)
    encoding = raw.get("config", {}).get("encoding", "lm-eval")  # results of ours of before have it there
    return Result(name, tasks, {}, encoding, bool(raw.get("chat_template")), samples)


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
    return found[-1]


def _samples(file: Path) -> dict[str, Path]:
    if (file.parent / "samples").is_dir():
        return {path.stem: path for path in sorted((file.parent / "samples").glob("*.jsonl"))}
    date = file.stem.removeprefix("results")
    return {
        _name(path.stem.removeprefix("samples_").removesuffix(date)): path
        for path in sorted(file.parent.glob(f"samples_*{date}.jsonl"))
    }


def _ours(name: str, figures: Mapping[str, Any], settings: Mapping[str, Any], samples: dict[str, Path]) -> Result:
    tasks = {}
    for task, found in {**figures["subtasks"], **figures["tasks"]}.items():
        metrics = {
            metric: Cell(cell["value"], cell["stderr"], cell["at_floor"])
            for metric, cell in found.items()
            if isinstance(cell, dict)
        }
        tasks[task] = TaskScores(metrics, found["score"], found["rows"], found["shots"], found["data"])
    bits = {language: Cell(held["bits_per_byte"], held["stderr"]) for language, held in figures["heldout"].items()}
    files = {task: samples[task.replace(":", "_")] for task in tasks if task.replace(":", "_") in samples}
    files |= {held: path for held, path in samples.items() if held.startswith(HELDOUT)}
    return Result(name, tasks, bits, settings["encoding"], settings["chat_template"], files)


def _cells(values: Mapping[str, Any]) -> dict[str, Cell]:
    cells = {}
    for column, value in values.items():
        metric, _, kind = column.partition(",")
        if kind and not metric.endswith("_stderr") and isinstance(value, int | float):
            stderr = values.get(f"{metric}_stderr,{kind}")
            name = metric if kind == "none" else column
            cells[name] = Cell(float(value), stderr if isinstance(stderr, int | float) else None)
    return cells


def _name(key: str) -> str:
    return key.removeprefix(PREFIX)
