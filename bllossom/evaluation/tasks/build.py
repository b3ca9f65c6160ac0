"""From a definition and its rows to a task of lm-eval's, ready to be asked.

Solved examples never hold the tested document: where they come from the evaluated split, lm-eval keeps the document
out, as `fewshot_split` names that very split; and rows of another split that stand in the evaluated one too are left
out here.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.tasks.data import NoDataError, Rows, evaluated_split, read_split, shots_split
from bllossom.evaluation.tasks.definitions import Chosen, Definition
from bllossom.evaluation.tasks.hub_rows import without_bars

DRAWING = 2  # the way to draw solved examples from a split of their own: 1 drew one more than is shown
FIXED = "the definition"  # of which solved examples are
PAIRS = ("f1", "mcc")  # metrics that lm-eval keeps (gold, predicted) of


@dataclass(frozen=True)
class Ready:
    """A task with its rows; its first `limit` documents are scored, of which `unanswerable` have no right choice.

    The documents are the rows, or what the definition's process_docs makes of them, which may leave some out.
    """

    definition: Definition
    task: Any  # lm-eval's
    rows: Rows
    shots: int
    shots_from: str | None
    limit: int
    unanswerable: int

    @property
    def whole(self) -> bool:
        """Whether every row is a document."""
        return len(self.task.task_docs) == len(self.rows.rows)

    def figures(self) -> dict[str, Any]:
        """What its scores depend on, for results: they are comparable where these are equal."""
        return {
            "data": self._asked().fingerprint(self.limit),
            "data_from_hub": self.rows.hub_source,
            "shots": self.shots,
            "shots_from": self.shots_from,
            **({"drawing": DRAWING} if self._drawn_apart else {}),
            **({"unanswerable": self.unanswerable} if self.unanswerable else {}),
        }

    @property
    def _drawn_apart(self) -> bool:
        return self.shots_from not in (None, FIXED, evaluated_split(self.definition.config))

    def _asked(self) -> Rows:
        """The rows as they came; where some are left out, the documents: the first of those are other ones."""
        return self.rows if self.whole else replace(self.rows, rows=list(self.task.task_docs))


def prepare(
    chosen: Chosen, folder: Path | None, *, num_fewshot: int | None, limit: int | None, seed: int
) -> tuple[dict[str, Ready], dict[str, str]]:
    """Read and check the rows of all tasks, and build them; and why those without data are not run.

    A task of a group with one score that the group's limit leaves no row to is in neither.

    Raises:
        BllossomError: rows are of another shape than the task needs, or there are too few for the shots.
    """
    built: dict[str, Ready] = {}
    missing: dict[str, str] = {}
    for name, definition in chosen.tasks.items():
        try:
            rows = read_split(definition, evaluated_split(definition.config), folder)
        except NoDataError as error:
            missing[name] = str(error)
        else:
            built[name] = _build(definition, rows, folder, num_fewshot, seed)
    counts = limits({name: each.limit for name, each in built.items()}, chosen, limit)
    return {name: _limited(each, counts[name]) for name, each in built.items() if counts[name]}, missing


def limits(sizes: dict[str, int], chosen: Chosen, limit: int | None) -> dict[str, int]:
    """Of so many documents, those to score of each task. A group with one score shares the limit over its tasks."""
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


def count_documents(definition: Definition, rows: Rows) -> int:
    """How many documents a task makes of rows.

    Raises:
        BllossomError: rows are of another shape than the task needs.
    """
    if definition.config.get("process_docs") is None:
        return len(rows.rows)
    with without_bars():
        return len(_task(definition, rows, rows, shots=0).task_docs)


def _build(definition: Definition, rows: Rows, folder: Path | None, num_fewshot: int | None, seed: int) -> Ready:
    name, config = definition.name, definition.config
    shots = config.get("num_fewshot") or 0 if num_fewshot is None else num_fewshot
    fixed = _has_shots(definition)
    pool = _pool(definition, rows, folder) if shots and not fixed else rows
    task = _task(definition, rows, pool, shots=shots)
    _check_score(definition, task)
    task.set_fewshot_seed(seed)
    if shots and not fixed:
        available = len(task.sampler.df)
        # From the documents themselves one more is drawn than is shown: the tested one may be among them.
        if shots + (pool is rows) > available:
            raise ConfigError(f"{name}: {available} rows are too few for {shots} shots; lower num_fewshot")
    origin = FIXED if fixed else evaluated_split(config) if pool is rows else shots_split(config)
    return Ready(definition, task, rows, shots, origin if shots else None, len(task.task_docs), 0)


def _task(definition: Definition, rows: Rows, pool: Rows, *, shots: int) -> Any:
    """lm-eval's task, with `pool` to draw examples from, unless the definition has its own.

    Raises:
        BllossomError: rows are of another shape than it needs.
    """
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    config = dict(definition.config)
    split = evaluated_split(config)
    fewshot = config.get("fewshot_config")
    shown = split if pool is rows else shots_split(config)
    data: dict[str, Any] = {}
    for key in ("tag", "group", "task_list", "training_split", "validation_split", "dataset_kwargs", "class"):
        config.pop(key, None)
    config |= {
        "custom_dataset": lambda **_: data,
        "test_split": split,
        "fewshot_split": None if _has_shots(definition) else shown,
        "num_fewshot": shots,
    }
    if isinstance(fewshot, dict):
        config["fewshot_config"] = {key: value for key, value in fewshot.items() if key != "split"}
    kind = definition.config.get("class", ConfigurableTask)
    try:
        data |= {name: Dataset.from_list(each.rows) for name, each in ((shown, pool), (split, rows))}
        return kind(config=config)
    except Exception as error:  # a template's, a function's or lm-eval's own: whatever a wrong row makes them raise
        raise _misfit(definition, rows, error) from error


def _has_shots(definition: Definition) -> bool:
    """Whether the definition itself holds the solved examples."""
    fewshot = definition.config.get("fewshot_config")
    return isinstance(fewshot, dict) and "samples" in fewshot and not fewshot.get("split")


def _limited(ready: Ready, limit: int) -> Ready:
    """The task with so many documents to be scored.

    Raises:
        BllossomError: they have no right choice.
    """
    name, rows = ready.definition.name, ready.rows
    row = "row" if ready.whole else "kept row"
    try:
        unanswerable = _unanswerable(ready.task, limit)
    except Exception as error:  # as in _task
        raise _misfit(ready.definition, rows, error) from error
    if unanswerable and (len(unanswerable) == limit or set(PAIRS) & ready.task.aggregation().keys()):
        raise BllossomError(
            f"{rows.origin}: {row} {unanswerable[0] + 1}: {name} finds none of its choices right, as in "
            f"{len(unanswerable)} of {limit} rows; correct the rows, or the definition's doc_to_target"
        )
    return replace(ready, limit=limit, unanswerable=len(unanswerable))


def _misfit(definition: Definition, rows: Rows, error: Exception) -> BllossomError:
    reason = (str(error).splitlines() or [""])[0]
    return BllossomError(
        f"{rows.origin}: {definition.name} cannot be asked about its rows ({type(error).__name__}: {reason}); they "
        f"have the columns {', '.join(rows.rows[0])}: name data of the shape that {definition.key} reads"
    )


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
        docs = [task.task_docs[number] for number in range(limit)]
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
