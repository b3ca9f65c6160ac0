"""One task asked of a model: its scores with their floors, and a line for each document, as lm-eval logs samples.

{"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
 "target_hash", METRIC: …}    and of ours: "prediction", the choice taken; "gold", the right one
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bllossom.errors import BllossomError
from bllossom.evaluation import metrics
from bllossom.evaluation.tasks.build import PAIRS, Ready, quick_and_quiet, right_choice

RIGHT_OR_WRONG = ("acc", "acc_norm", "acc_bytes")

Sample = dict[str, Any]


def ask(ready: Ready, lm: Any, *, chat: bool) -> tuple[dict[str, Any], list[Sample]]:
    """Ask a task's questions: lm-eval's results of it, and the samples."""
    import lm_eval

    key = ready.definition.key
    with quick_and_quiet():
        results: dict[str, Any] = lm_eval.evaluate(
            lm, {"tasks": {key: ready.task}}, limit=ready.limit, bootstrap_iters=0, apply_chat_template=chat
        )
    samples = results.pop("samples")[key]
    for sample in samples:
        sample |= _choice(ready, sample)
    return results, samples


def lines(samples: Sequence[Sample]) -> str:
    """The samples as lm-eval writes them: JSONL, responses as text."""
    from lm_eval.utils import handle_non_serializable, sanitize_list

    text = []
    for sample in samples:
        arguments = {
            f"gen_args_{number}": {f"arg_{place}": value for place, value in enumerate(values)}
            for number, values in enumerate(sample["arguments"])
        }
        responses = {name: sanitize_list(sample[name]) for name in ("resps", "filtered_resps")}
        row = sample | responses | {"arguments": arguments, "target": str(sample["target"])}
        text.append(json.dumps(row, default=handle_non_serializable, ensure_ascii=False) + "\n")
    return "".join(text)


def figured(ready: Ready, results: dict[str, Any], samples: Sequence[Sample], seed: int) -> dict[str, Any]:
    """Each metric with its value, standard error, floor, chance, and whether it is at its floor."""
    scores = results["results"][ready.definition.key]
    figures: dict[str, Any] = {"rows": ready.limit, **ready.figures()}
    aggregations: dict[str, Callable[[Any], float]] = ready.task.aggregation()
    for column, value in scores.items():
        metric, _, kind = column.partition(",")
        if not kind or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        taken = [sample for sample in samples if sample["filter"] == kind and metric in sample]
        items = [sample[metric] for sample in taken]
        aggregation = aggregations.get(metric, np.mean)
        if all(isinstance(item, int | float | np.number) for item in items) and _is_mean(items, value):
            stderr = metrics.mean_stderr(items)
        else:
            stderr = metrics.bootstrap_stderr(items, aggregation, seed)
        bounds = _bounds(metric, aggregation, taken, seed)
        figures[metric if kind == "none" else column] = summary(float(value), stderr, *bounds)
    return figures | {"score": _printed(ready, figures)}


def summary(value: float, stderr: float | None, floor: float | None, chance: float | None) -> dict[str, Any]:
    """One score. It is at its floor where its 95 % interval reaches the best constant answer, or chance."""
    bounds = [bound for bound in (floor, chance) if bound is not None]
    low, _ = metrics.interval(value, stderr)
    at_floor = low <= max(bounds) if bounds else None
    return {"value": value, "stderr": stderr, "floor": floor, "chance": chance, "at_floor": at_floor}


def _printed(ready: Ready, figures: dict[str, Any]) -> str:
    """The column that tables print: of a metric behind several filters, as gsm8k's, that of the first."""
    columns = [column for column, score in figures.items() if isinstance(score, dict)]
    named = ready.definition.metadata.get("score") or next(iter(ready.task.aggregation()))
    same = [column for column in columns if column.partition(",")[0] == named]
    if named not in columns and not same:
        raise BllossomError(f"{ready.definition.name}: lm-eval gave no number for {named}; leave that task out")
    return str(named if named in columns else same[0])


def _is_mean(items: Sequence[float], value: float) -> bool:
    return bool(items) and math.isclose(float(np.mean(items)), value, rel_tol=1e-9, abs_tol=1e-12)


def _choice(ready: Ready, sample: Sample) -> Sample:
    """The choice taken and the right one, of a question with choices and one right answer."""
    if ready.task.OUTPUT_TYPE != "multiple_choice":
        return {}
    choices = ready.task.doc_to_choice(sample["doc"])
    nats = [response[0] for response in sample["filtered_resps"]][: len(choices)]
    gold = right_choice(ready.task, sample["doc"], choices)
    return {"prediction": int(np.argmax(nats))} | ({"gold": gold} if isinstance(gold, int) else {})


def _bounds(
    metric: str, aggregation: Callable[[Any], float], samples: Sequence[Sample], seed: int
) -> tuple[float | None, float | None]:
    """The best constant answer and chance: for questions with choices and one right answer each."""
    if not samples or metric not in (*RIGHT_OR_WRONG, *PAIRS) or any("gold" not in sample for sample in samples):
        return None, None
    golds = [sample["gold"] for sample in samples]
    counts = [len(sample["filtered_resps"]) for sample in samples]
    if metric in RIGHT_OR_WRONG:
        return metrics.floor(golds, metrics.accuracy), float(np.mean([1 / count for count in counts]))
    return metrics.floor(golds, aggregation), metrics.chance(golds, counts, aggregation, seed)
