"""From a definition and its rows to a task of lm-eval's, ready to be asked.

Solved examples never hold the tested document: where they come from the evaluated split, lm-eval keeps the document
out only if `fewshot_split` names that very split, so it always does here; and rows of another split that stand in the
evaluated one too are left out.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.tasks.data import NoDataError, Rows, evaluated_split, read_split, shots_split
from bllossom.evaluation.tasks.definitions import Chosen, Definition


@dataclass(frozen=True)
class Ready:
    """A task with its rows; `limit` of them are scored, the first ones."""

    definition: Definition
    task: Any  # lm-eval's
    rows: Rows
    shots: int
    shots_from: str | None
    limit: int

    def figures(self) -> dict[str, Any]:
        """What its scores depend on, for results: they are comparable where these are equal."""
        return {
            "data": self.rows.fingerprint(self.limit),
            "data_from_hub": self.rows.hub_source,
            "shots": self.shots,
            "shots_from": self.shots_from,
        }


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
        else:
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
    data = {split: Dataset.from_list(rows.rows)}
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
        task = kind(config=config)
        if pool is not None:
            process = task.fewshot_cfg.process_docs
            task.sampler.replace_df(list(process(Dataset.from_list(pool.rows)) if process else pool.rows))
        task.doc_to_choice(task.eval_docs[0]) if config.get("doc_to_choice") else None
    except Exception as error:  # a template's, a function's or lm-eval's own: whatever a wrong row makes them raise
        reason = (str(error).splitlines() or [""])[0]
        columns = ", ".join(rows.rows[0])
        raise BllossomError(
            f"{rows.origin}: {name} cannot be asked about its rows ({type(error).__name__}: {reason}); they have the "
            f"columns {columns}: name data of the shape that {definition.key} reads"
        ) from error
    task.set_fewshot_seed(seed)
    available = shots + 1 if fixed else len(rows.rows if pool is None else pool.rows)
    if shots >= available:
        raise ConfigError(f"{name}: {available} rows are too few for {shots} shots; lower num_fewshot")
    origin = None if not shots else "the definition" if fixed or pool is None else shots_split(definition.config)
    return Ready(definition, task, rows, shots, split if pool is rows else origin, limit)


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
