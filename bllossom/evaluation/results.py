"""What the eval stage reports: figures with floors, lm-eval's results.json, and lines for people."""

import json
from typing import Any

from bllossom.evaluation.metrics import Metric, accuracy, binary_f1, bootstrap_stderr, floor, macro_f1

# The score of each task that Table 6 prints and averages.
TABLE_SCORES = {
    "klue_nli": "acc",
    "klue_sts": "acc",
    "klue_ynat": "acc",
    "kosbi": "f1",
    "kobest_boolq": "f1",
    "kobest_copa": "f1",
    "kobest_hellaswag": "f1",
    "kobest_sentineg": "f1",
}
BINARY_F1_TASKS = ("klue_sts", "kosbi")
PREFIX = "bllossom_"  # of the task names inside lm-eval, which has a kobest_copa of its own


def task_figures(name: str, results: dict[str, Any], seed: int) -> dict[str, Any]:
    """Each metric with its standard error and floor. lm-eval knows no standard error of F1: it is bootstrapped."""
    scores, samples = results["results"][PREFIX + name], results["samples"][PREFIX + name]
    golds = [sample["target"] for sample in samples]
    figures: dict[str, Any] = {"rows": len(samples), "score": TABLE_SCORES[name]}
    for metric in ("acc", "acc_norm", "f1"):
        if f"{metric},none" not in scores:
            continue
        function: Metric = accuracy
        stderr = scores[f"{metric}_stderr,none"]
        if metric == "f1":
            function = binary_f1 if name in BINARY_F1_TASKS else macro_f1
            pairs = [(int(gold), int(predicted)) for gold, predicted in (sample["f1"] for sample in samples)]
            stderr = bootstrap_stderr(pairs, function, seed)
        figures[metric] = {
            "value": float(scores[f"{metric},none"]),
            "stderr": stderr if isinstance(stderr, float) else None,
            "floor": floor(golds, function),
        }
    return figures


def results_json(results: dict[str, Any], figures: dict[str, Any], settings: dict[str, Any]) -> str:
    """lm-eval's results.json, with standard errors of F1 and bits per byte, without paths, samples and dates.

    `settings` become its "config": what the scores depend on besides model and data.
    """
    kept = {key: value for key, value in results.items() if key != "samples"}
    for name, task in figures["tasks"].items():
        if "f1" in task and task["f1"]["stderr"] is not None:
            kept["results"][PREFIX + name]["f1_stderr,none"] = task["f1"]["stderr"]
        # lm-eval notes the folders of definition and data there.
        kept["configs"][PREFIX + name]["metadata"] = {"version": kept["versions"][PREFIX + name]}
    for language, value in figures["bits_per_byte"].items():
        alias = f"heldout_{language}"
        kept["results"][PREFIX + alias] = {"alias": alias, "bits_per_byte,none": value}
    kept["config"] = {"model": "BllossomLM", **settings}
    return json.dumps(kept, ensure_ascii=False, indent=2, sort_keys=True, default=str) + "\n"


def table(figures: dict[str, Any]) -> list[str]:
    """The stage's figures as lines for people: each task's Table 6 score beside its floor, then bits per byte."""
    lines = []
    for name, task in figures["tasks"].items():
        score = task[task["score"]]
        error = "" if score["stderr"] is None else f" ± {100 * score['stderr']:.1f}"
        value = f"{100 * score['value']:.1f}{error}"
        lines.append(
            f"{name:18} {task['score']:4} {value:12} floor {100 * score['floor']:.1f}  ({task['rows']:,} rows)"
        )
    if figures["average"] is not None:
        lines.append(f"{'average':23} {100 * figures['average']:<12.1f} floor {100 * figures['average_floor']:.1f}")
    lines += [f"bits per byte, {language}: {value:.4f}" for language, value in figures["bits_per_byte"].items()]
    return lines
