"""What the eval stage reports: figures with floors, lm-eval's results.json, and lines for people."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.text import Text

from bllossom.artifacts import NOT_RUN
from bllossom.evaluation.metrics import DEVIATIONS_OF_95_PERCENT, is_share, score_text
from bllossom.evaluation.samples import summary
from bllossom.evaluation.tasks.definitions import PREFIX, Chosen, Group

MERGED = ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples")


def gather(chosen: Chosen, asked: Mapping[str, dict[str, Any]], missing: Mapping[str, str]) -> dict[str, Any]:
    """The figures of a manifest from those of the tasks: what gets a line, what is below it, averages, what is missing.

    A group with a score of its own gets it as lm-eval computes it, and is missing where one of its tasks is.
    """
    found = {name: results["figures"] for name, results in asked.items()}
    tasks: dict[str, Any] = {}
    below: dict[str, Any] = {}
    not_run: dict[str, str] = {}
    no_rows: list[str] = []
    for name in chosen.shown:
        leaves = chosen.leaves(name)
        if absent := [leaf for leaf in leaves if leaf in missing]:
            not_run[name] = missing[absent[0]]
        elif name in chosen.groups:
            figures = _aggregate(chosen.groups[name], [found[leaf] for leaf in leaves if leaf in found])
            # A group's metrics may be none of its tasks': each of them has its line then.
            tasks |= {name: figures} if figures["score"] else {leaf: found[leaf] for leaf in leaves if leaf in found}
        elif name not in found:  # its group's limit leaves it none: nothing that may be here later
            no_rows.append(name)
        else:
            tasks[name] = found[name]
        if name in chosen.groups:
            below |= {leaf: found[leaf] for leaf in leaves if leaf in found}
    table6 = [name for name in tasks if name in chosen.tasks and "table6" in chosen.tasks[name].metadata]
    averages = {
        name: _average(tasks, within)
        for name, group in chosen.groups.items()
        if not group.aggregates and (within := [part for part in _lines_of(chosen, group) if part in tasks])
    }
    average = _average(tasks, table6) if table6 else {"value": None, "floor": None}
    return {
        "tasks": tasks,
        "subtasks": below,
        NOT_RUN: not_run,
        "average": average["value"],
        "average_floor": average["floor"],
        "averages": averages,
    } | ({"no_rows": no_rows} if no_rows else {})


def _lines_of(chosen: Chosen, group: Group) -> list[str]:
    """What of `shown` makes up a group; nothing where the group is only a part of what is shown."""
    lines = [name for name in chosen.shown if set(chosen.leaves(name)) <= set(group.members)]
    covered = {leaf for name in lines for leaf in chosen.leaves(name)}
    return lines if covered == set(group.members) else []


def _average(tasks: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """The mean of the scores that are shares; perplexities and the like have no mean with them, and are named."""
    left_out = [name for name in names if not is_share(tasks[name]["score"])]
    scores = [tasks[name][tasks[name]["score"]] for name in names if name not in left_out]
    floors = [score["floor"] for score in scores]
    return {
        "tasks": len(scores),
        "value": sum(score["value"] for score in scores) / len(scores) if scores else None,
        "floor": None if None in floors or not scores else sum(floors) / len(floors),
    } | ({"left_out": left_out} if left_out else {})


def _aggregate(group: Group, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The score of a group from those of its tasks; a limit of fewer rows than it has tasks leaves some out."""
    from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr, unweighted_mean_stderr

    sizes = [part["rows"] for part in parts]
    figures: dict[str, Any] = {"rows": sum(sizes), "score": "", "subtasks": len(parts)}
    if left_out := len(group.members) - len(parts):
        figures["subtasks_left_out"] = left_out
    for wanted in group.aggregates:
        weighted = wanted.get("weight_by_size", True)
        for column in [column for column in parts[0] if column.partition(",")[0] == wanted["metric"]]:
            cells = [part[column] for part in parts if column in part]
            if len(cells) < len(parts):
                continue
            merged: dict[str, float | None] = {}
            for name in ("value", "floor", "chance"):
                values = [cell[name] for cell in cells]
                merged[name] = None if None in values else float(aggregate_subtask_metrics(values, sizes, weighted))
            errors = [cell["stderr"] for cell in cells]
            stderr = None
            if None not in errors:
                stderr = float(pooled_sample_stderr(errors, sizes) if weighted else unweighted_mean_stderr(errors))
            assert merged["value"] is not None
            figures[column] = summary(merged["value"], stderr, merged["floor"], merged["chance"])
            figures["score"] = figures["score"] or column
    shots = {part["shots"] for part in parts}
    hub = dict.fromkeys(part["data_from_hub"] for part in parts if part["data_from_hub"])
    figures |= {"data": "+".join(part["data"] for part in parts), "data_from_hub": "; ".join(hub) or None}
    figures["shots"] = shots.pop() if len(shots) == 1 else None
    if drawings := [part["drawing"] for part in parts if "drawing" in part]:
        figures["drawing"] = drawings[0]
    return figures


def results_json(
    asked: Mapping[str, dict[str, Any]], chosen: Chosen, figures: Mapping[str, Any], settings: Mapping[str, Any]
) -> str:
    """lm-eval's results.json, with standard errors of F1 and bits per byte, without paths, samples and dates.

    `settings` become its "config": what the scores depend on besides model and data. `figures` stand under "bllossom".
    """
    kept: dict[str, Any] = {section: {} for section in MERGED}
    for name, results in asked.items():
        for section in MERGED:
            kept[section] |= results.get(section, {})
        key = chosen.tasks[name].key
        for column, score in results["figures"].items():
            if isinstance(score, dict) and score.get("stderr") is not None:
                metric, _, kind = column.partition(",")
                kept["results"][key][f"{metric}_stderr,{kind or 'none'}"] = score["stderr"]
    kept["group_subtasks"] = {
        name: [chosen.tasks[leaf].key for leaf in group.members if leaf in asked]
        for name, group in chosen.groups.items()
    }
    kept["groups"] = {}
    for name, group in chosen.groups.items():
        if group.aggregates and name in figures["tasks"]:
            kept["groups"][name] = {"alias": name}
            for column, score in figures["tasks"][name].items():
                if isinstance(score, dict):
                    metric, _, kind = column.partition(",")
                    kept["groups"][name] |= {
                        f"{metric},{kind or 'none'}": score["value"],
                        f"{metric}_stderr,{kind or 'none'}": score["stderr"],
                    }
    for language, held in figures["heldout"].items():
        alias = f"heldout_{language}"
        kept["results"][PREFIX + alias] = {"alias": alias, "bits_per_byte,none": held["bits_per_byte"]}
        if held["stderr"] is not None:
            kept["results"][PREFIX + alias]["bits_per_byte_stderr,none"] = held["stderr"]
    kept["config"] = {"model": "BllossomLM", **settings}
    kept["bllossom"] = figures
    return json.dumps(kept, ensure_ascii=False, indent=2, sort_keys=True, default=str) + "\n"


def table(figures: Mapping[str, Any]) -> list[Text]:
    """The stage's figures as lines for people: each score with its 95 % interval, floor and chance; grey at them."""
    no_rows = figures.get("no_rows", [])
    named = [*figures["tasks"], *figures["not_run"], *no_rows, *(f"average, {name}" for name in figures["averages"])]
    width = max((len(name) for name in named), default=0)
    lines = []
    for name, task in figures["tasks"].items():
        score = task[task["score"]]
        shown = partial(score_text, metric=task["score"])
        reach = "" if score["stderr"] is None else f" ± {shown(DEVIATIONS_OF_95_PERCENT * score['stderr'])}"
        bounds = "".join(f"  {bound} {shown(score[bound])}" for bound in ("floor", "chance"))
        value = f"{shown(score['value'])}{reach}"
        of = ""
        if left_out := task.get("subtasks_left_out"):
            of = f" of {task['subtasks']} of its {task['subtasks'] + left_out} tasks"
        told = f"{name:{width}}  {task['score']:8} {value:13}{bounds}  ({task['rows']:,} rows{of})"
        lines.append(Text(f"{told}  at its floor", style="bright_black") if score["at_floor"] else Text(told))
    for name, why in figures["not_run"].items():
        lines.append(Text(f"{name:{width}}  not run: {why.removeprefix(f'{name}: ')}"))
    lines += [Text(f"{name:{width}}  not run: limit leaves no row to it; raise limit") for name in no_rows]
    for name, average in figures["averages"].items():
        floor = f"  floor {_percent(average['floor'])}"
        title = f"average, {name}"
        without = f", without {', '.join(average['left_out'])}: no shares" if average.get("left_out") else ""
        told = f"({average['tasks']} tasks{without})"
        lines.append(Text(f"{title:{width}}  {'':8} {_percent(average['value']):13}{floor}  {told}"))
    if figures["average"] is not None and not figures["averages"]:
        floor = _percent(figures["average_floor"])
        lines.append(Text(f"{'average':{width}}  {'':8} {_percent(figures['average']):13}  floor {floor}"))
    for language, held in figures["heldout"].items():
        reach = "" if held["stderr"] is None else f" ± {DEVIATIONS_OF_95_PERCENT * held['stderr']:.4f}"
        lines.append(Text(f"bits per byte, {language}: {held['bits_per_byte']:.4f}{reach}"))
    return lines


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
