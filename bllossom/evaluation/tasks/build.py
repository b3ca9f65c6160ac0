"""From a definition and its rows to a task of lm-eval's, ready to be asked.

Solved examples never hold the tested document: where they come from the evaluated split, lm-eval keeps the document
out only if `fewshot_split` names that very split, so it always does here; and rows of another split that stand in the
evaluated one too are left out.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.tasks.data import NoDataError, Rows, evaluated_split, read_split, shots_split
from bllossom.evaluation.tasks.definitions import Chosen, Definition
from bllossom.evaluation.tasks.hub_rows import without_bars

PAIRS = ("f1", "mcc")  # metrics that lm-eval keeps (gold, predicted) of


@dataclass(frozen=True)
class Ready:
    """A task with its rows; the first `limit` are scored, of which `unanswerable` have no right choice."""

    definition: Definition
    task: Any  # lm-eval's
    rows: Rows
    shots: int
    shots_from: str | None
    limit: int
    unanswerable: int

    def figures(self) -> dict[str, Any]:
        """What its scores depend on, for results: they are comparable where these are equal."""
        return {
            "data": self.rows.fingerprint(self.limit),
            "data_from_hub": self.rows.hub_source,
            "shots": self.shots,
            "shots_from": self.shots_from,
        } | ({"unanswerable": self.unanswerable} if self.unanswerable else {})


def prepare(
    chosen: Chosen, folder: Path | None, *, num_fewshot: int | None, limit: int | None, seed: int
) -> tuple[dict[str, Ready], dict[str, str]]:
    """Read and check the rows of all tasks, and build them; and why those without data are not run.

    Raises:
        BllossomError: rows are of another shape than the task needs, or there are too few for the shots.
    """
    found: dict[str, Rows] = {}
    missing: dict[str, str] = {}
    for name, definition in chosen.tasks.items():
        try:
            found[name] = read_split(definition, evaluated_split(definition.config), folder)
        except NoDataError as error:
            missing[name] = str(error)
    counts = limits({name: len(rows.rows) for name, rows in found.items()}, chosen, limit)
    ready = {}
    for name, rows in found.items():
        if counts[name]:
            ready[name] = _build(chosen.tasks[name], rows, folder, num_fewshot, seed, counts[name])
        elif name in chosen.shown:  # else its group has its rows from others
            missing[name] = f"{name}: limit {limit} leaves no row to it; raise limit"
    return ready, missing


def limits(sizes: dict[str, int], chosen: Chosen, limit: int | None) -> dict[str, int]:
    """Rows to score of each task. A group with a score of its own shares the limit, evenly over its tasks."""
    counts = {name: min(size, limit or size) for name, size in sizes.items()}
    for name in chosen.shown:
        if name in chosen.groups and limit is not None:
            counts |= _spread(limit, {leaf: sizes[leaf] for leaf in chosen.leaves(name) if leaf in sizes})
    return counts


def _spread(total: int, sizes: dict[str, int]) -> dict[str, int]:
    counts, left = {}, total
    # Smallest first: what they cannot take goes to the larger ones.
    for place, name in enumerate(sorted(sizes, key=lambda name: sizes[name])):
        share = -(-left // (len(sizes) - place))
        counts[name] = min(share, sizes[name])
        left -= counts[name]
    return counts


def _build(
    definition: Definition, rows: Rows, folder: Path | None, num_fewshot: int | None, seed: int, limit: int
) -> Ready:
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    name, config = definition.name, dict(definition.config)
    shots = config.get("num_fewshot") or 0 if num_fewshot is None else num_fewshot
    split = evaluated_split(config)
    fewshot = config.get("fewshot_config")
    fixed = isinstance(fewshot, dict) and "samples" in fewshot and not fewshot.get("split")
    pool = _pool(definition, rows, folder) if shots and not fixed else None
    data: dict[str, Any] = {}
    for key in ("tag", "group", "task_list", "training_split", "validation_split", "dataset_kwargs", "class"):
        config.pop(key, None)
    config |= {
        "custom_dataset": lambda **_: data,
        "test_split": split,
        "fewshot_split": None if fixed else split,
        "num_fewshot": shots,
    }
    if isinstance(fewshot, dict):
        config["fewshot_config"] = {key: value for key, value in fewshot.items() if key != "split"}
    kind = definition.config.get("class", ConfigurableTask)
    try:
        data[split] = Dataset.from_list(rows.rows)
        task = kind(config=config)
        if pool is not None:
            process = task.fewshot_cfg.process_docs
            task.sampler.replace_df(list(process(Dataset.from_list(pool.rows)) if process else pool.rows))
        unanswerable = _unanswerable(task, limit)
    except Exception as error:  # a template's, a function's or lm-eval's own: whatever a wrong row makes them raise
        reason = (str(error).splitlines() or [""])[0]
        columns = ", ".join(rows.rows[0])
        raise BllossomError(
            f"{rows.origin}: {name} cannot be asked about its rows ({type(error).__name__}: {reason}); they have the "
            f"columns {columns}: name data of the shape that {definition.key} reads"
        ) from error
    _check_score(definition, task)
    if unanswerable and (len(unanswerable) == limit or set(PAIRS) & task.aggregation().keys()):
        raise BllossomError(
            f"{rows.origin}: row {unanswerable[0] + 1}: {name} finds none of its choices right, as in "
            f"{len(unanswerable)} of {limit} rows; correct the rows, or the definition's doc_to_target"
        )
    task.set_fewshot_seed(seed)
    available = shots + 1 if fixed else len(rows.rows if pool is None else pool.rows)
    if shots >= available:
        raise ConfigError(f"{name}: {available} rows are too few for {shots} shots; lower num_fewshot")
    origin = None if not shots else "the definition" if fixed or pool is None else shots_split(definition.config)
    return Ready(definition, task, rows, shots, split if pool is rows else origin, limit, len(unanswerable))


def _pool(definition: Definition, rows: Rows, folder: Path | None) -> Rows:
    """Rows to draw solved examples from: of their own split, without tested ones; else those that are tested."""
    split = shots_split(definition.config)
    if split == evaluated_split(definition.config):
        return rows
    try:
        pool = read_split(definition, split, folder)
    except NoDataError:
        return rows  # told as shots_from
    tested = {json.dumps(row, sort_keys=True, default=str) for row in rows.rows}
    kept = [row for row in pool.rows if json.dumps(row, sort_keys=True, default=str) not in tested]
    return Rows(kept, pool.origin, pool.files)


def right_choice(task: Any, doc: dict[str, Any], choices: Sequence[str]) -> int | list[int] | None:
    """The right one of a document's choices, or several, by number; None where it is none of them."""
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(gold, str):
        return choices.index(gold) if gold in choices else None
    numbers = gold if isinstance(gold, list) else [gold]
    there = all(isinstance(number, int) and 0 <= number < len(choices) for number in numbers)
    return gold if there and numbers else None


def _unanswerable(task: Any, limit: int) -> list[int]:
    """The documents to be scored that have choices, and no right one."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return []
    with quick_and_quiet():
        docs = [task.eval_docs[number] for number in range(min(limit, len(task.eval_docs)))]
        return [number for number, doc in enumerate(docs) if right_choice(task, doc, task.doc_to_choice(doc)) is None]


def _check_score(definition: Definition, task: Any) -> None:
    """The metric that tables are to print is one of the task's, or one of its columns behind a filter."""
    named = definition.metadata.get("score")
    metric, _, kind = str(named).partition(",")
    filters = [found.name for found in task._filters] if hasattr(task, "_filters") else []
    if named is not None and (metric not in task.aggregation() or (kind and kind not in filters)):
        known = ", ".join(task.aggregation())
        raise ConfigError(f"{definition.name}: metadata: score: there is no {named!r}; its metrics are {known}")


@contextmanager
def quick_and_quiet() -> Iterator[None]:
    """lm-eval without its progress bars, which run over ours, and with each template compiled once, not by row."""
    from lm_eval import utils
    from lm_eval.api import task

    bar, compile_template = task.tqdm, utils.env.from_string
    task.tqdm = lambda items, **_: items
    utils.env.from_string = functools.cache(compile_template)
    try:
        with without_bars():
            yield
    finally:
        task.tqdm = bar
        del utils.env.from_string
