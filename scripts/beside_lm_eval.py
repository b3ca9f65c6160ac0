"""A model's scores as `bllossom eval` published them, beside those of stock lm_eval on the same rows.

    bllossom eval output=runs/smollm2 model=MODEL 'tasks=[table6]' data=../shared/benchmarks limit=200
    python scripts/beside_lm_eval.py runs/smollm2 MODEL runs/smollm2-lm-eval [--tasks kobest_sentineg,…] [--batch 4]

Where lm-eval has the task with the same prompts (KoBEST's BoolQ, HellaSwag and SentiNeg) its own definition is asked;
its COPA has another prompt, and KLUE's and KoSBi's tasks are not in it: for these, ours through its HFLM. What is done
is kept task by task: the same command goes on with the first that is missing, and writes docs/results/eval.* of what
there is.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from eval_results import write
from machine import machine

DATA = Path(os.environ.get("BLLOSSOM_SHARED", "../shared")) / "benchmarks"
STOCK = ("kobest_sentineg", "kobest_hellaswag", "kobest_boolq")
TASKS = (*STOCK[:2], "kobest_copa", "klue_sts", "klue_ynat", "klue_nli", "kosbi", STOCK[2])


def main() -> None:
    """Ask lm_eval what it has not been asked yet, and write both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("kept", type=Path)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--batch", type=int, default=4, help="sequences in one pass of lm_eval's HFLM")
    given = parser.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    wanted = given.tasks.split(",") if given.tasks else []
    missing = [task for task in wanted if not (given.kept / f"{task}.json").exists()]
    rows = json.loads((given.ours / "manifest.json").read_text())["figures"]["limit"] if given.ours.exists() else 200
    if missing:
        ask_stock(missing, given.model, given.kept, rows, given.batch)
    if given.ours.exists():
        found = {task: beside(task, given.ours, given.kept) for task in TASKS}
        write("beside", {given.model.name: {"tasks": found, "rows": rows, "machine": machine()}})


def ask_stock(tasks: list[str], model: Path, kept: Path, rows: int, batch: int) -> None:
    """lm_eval's answers to the first rows of each task: its scores, and log-likelihoods by document."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=batch)
    for task in tasks:
        definition = definition_of(task)
        loaded = TaskManager(include_defaults=False).load(definition)["tasks"]
        results = lm_eval.evaluate(lm, {"tasks": loaded}, limit=rows, bootstrap_iters=0)
        (key,) = results["samples"]
        answers = [[float(nats) for nats, _ in sample["filtered_resps"]] for sample in results["samples"][key]]
        scores = {name: value for name, value in results["results"][key].items() if isinstance(value, float)}
        beside = kept / f"{task}.tmp"
        beside.write_text(
            json.dumps({"scores": scores, "answers": answers, "prompts": prompts(results["samples"][key])})
        )
        beside.rename(kept / f"{task}.json")
        print(task, scores, file=sys.stderr, flush=True)


def definition_of(task: str) -> dict[str, Any]:
    """lm-eval's own definition, or ours where it has none, of the rows that lie here."""
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    from bllossom.evaluation.tasks.definitions import OURS

    ours = load_yaml(OURS / "ko" / f"{task}.yaml")
    split = ours["test_split"]
    (file,) = DATA.glob(ours["metadata"]["files"].format(split=split))
    folder = Path(lm_eval.tasks.__file__).parent / "kobest"
    definition = load_yaml(folder / f"{task}.yaml") if task in STOCK else ours
    for name in ("training_split", "validation_split", "dataset_name"):
        definition.pop(name, None)
    for metric in definition["metric_list"]:
        metric.pop("hf_evaluate", None)  # a script of the hub's that is not called
    rows = {"dataset_path": "json", "dataset_kwargs": {"data_files": {split: str(file)}}}
    return definition | rows | {"fewshot_split": split}


def prompts(samples: list[dict[str, Any]]) -> list[list[str]]:
    """Context and continuation of each choice, by document."""
    return [["".join(pair) for pair in sample["arguments"]] for sample in samples]


def beside(task: str, ours: Path, kept: Path) -> dict[str, Any]:
    """Our score with its bounds, and lm_eval's where it was asked: its score, and how far log-likelihoods are apart."""
    figures = json.loads((ours / "manifest.json").read_text())["figures"]["tasks"][task]
    metric = figures["score"]
    found: dict[str, Any] = {"metric": metric, "rows": figures["rows"], "ours": figures[metric], "stock": task in STOCK}
    if (kept / f"{task}.json").exists():
        theirs = json.loads((kept / f"{task}.json").read_text())
        lines = (ours / "samples" / f"{task}.jsonl").read_text(encoding="utf8").splitlines()
        samples = sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])
        asked = [[pair["arg_0"] + pair["arg_1"] for pair in sample["arguments"].values()] for sample in samples]
        assert asked == theirs["prompts"], task
        mine = [[float(nats) for nats, _ in sample["filtered_resps"]] for sample in samples]
        pairs = [pair for both in zip(mine, theirs["answers"], strict=True) for pair in zip(*both, strict=True)]
        found["lm_eval"] = theirs["scores"][f"{metric},none"]
        found["largest_difference"] = max(abs(one - two) / max(1.0, abs(two)) for one, two in pairs)
        found["other_answers"] = sum(
            one.index(max(one)) != two.index(max(two)) for one, two in zip(mine, theirs["answers"], strict=True)
        )
    return found


if __name__ == "__main__":
    main()
