"""What configs/ablation-13b and configs/table6 would take: hours, GPU-hours, memory and cost of every model.

    python scripts/plan_ablation.py [--price 2.5]

Pretraining is planned as `bllossom plan` does it. Tuning is bounded from above: every example as long as max_tokens
allows. Scoring is bounded likewise: every question once and every answer, in Llama 2's pieces, which spell Korean in
bytes, at two operations a parameter and token. Needs the real tasks (BLLOSSOM_SHARED, default ../shared). Writes
docs/results/ablation-13b.md and .json.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from machine import machine

from bllossom.evaluation.tasks.build import prepare
from bllossom.evaluation.tasks.definitions import choose
from bllossom.recipe.recipe import PlannedStep, read_recipe
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.plan import RunPlan, make_plan
from bllossom.training.planning.gpus import GPUS
from bllossom.training.pretrain_config import PretrainConfig
from bllossom.training.sft import SftConfig

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("BLLOSSOM_SHARED", ROOT.parent / "shared"))
SIX = ("llama2-kosft", "llama2-ko", "bllossom-ko", "bllossom-bi", "bllossom-bi-kosft", "bllossom-bi-bisft")
SOURCE = {"llama2-kosft": None, "bllossom-bi-kosft": "bllossom-bi", "bllossom-bi-bisft": "bllossom-bi"}
LIMA = 1030  # examples of each language
OLD_ROWS = 32_000
GPU = "h100-80g"
FORWARD_UTILISATION = 0.3  # a guess, below training's: short rows, and their logits in fp32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--price", type=float, default=2.5, help="US dollars a GPU-hour: an assumption, set yours")
    parser.add_argument("--gpus", type=int, default=8)
    options = parser.parse_args()
    os.environ.setdefault("AIHUB", "/data/aihub")
    os.environ.setdefault("LIMA_EN", "/data/lima_en.jsonl")
    os.environ.setdefault("LIMA_KO", "/data/lima_ko.json")
    recipe = read_recipe(ROOT / "configs/ablation-13b/recipe.yaml", (), allow_missing=True)
    steps = {step.name: step for step in recipe.steps}
    plans = {name: planned(steps[name], options.gpus) for name in SIX if steps[name].command == "pretrain"}
    rows = [row(name, steps[name], plans) for name in SIX]
    scoring = table6(next(iter(plans.values())))
    result = {"models": rows, "table6": scoring, "gpus": options.gpus, "gpu": GPU, "price": options.price}
    output = ROOT / "docs/results/ablation-13b.md"
    output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")
    output.write_text(page(result, plans), encoding="utf8")
    print(output)


def planned(step: PlannedStep, gpus: int) -> RunPlan:
    """The plan of a pretraining, of the shape that its vocabulary gives Llama-2-13b."""
    config = step.loaded.config
    assert isinstance(config, PretrainConfig)
    shape = json.loads((ROOT / "configs/bllossom-13b/config.json").read_text(encoding="utf8"))
    if step.name.startswith("llama2"):
        shape["vocab_size"] = OLD_ROWS
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(shape), encoding="utf8")
        return make_plan(config.model_copy(update={"model": folder}), Path(folder), gpus=gpus, gpu=GPU)


def row(name: str, step: PlannedStep, plans: dict[str, RunPlan]) -> dict[str, Any]:
    """Hours of a model's own training, and with what it comes out of."""
    if name in plans:
        plan = plans[name]
        peak = plan.recommended.memory.peak if plan.recommended else None
        return {"model": name, "tokens": plan.tokens, "hours": plan.hours, "before": 0.0, "peak_bytes": peak}
    config = step.loaded.config
    assert isinstance(config, SftConfig)
    tokens = LIMA * len(config.data) * int(config.max_tokens or 2048) * config.epochs
    like = plans["llama2-ko" if name.startswith("llama2") else "bllossom-bi"]
    before = SOURCE[name]
    return {
        "model": name,
        "tokens": tokens,
        "hours": tokens / like.tokens_per_second / 3600,
        "before": plans[before].hours if before else 0.0,
        "peak_bytes": None,
    }


def table6(plan: RunPlan) -> dict[str, float]:
    """Rows, tokens and hours of one model of 13B on all eight tasks, on one GPU."""
    ready, _ = prepare(choose(["table6"]), SHARED / "benchmarks", num_fewshot=None, limit=None, seed=0)
    tokenizer = load_tokenizer(SHARED / "tokenizers/llama2")
    texts: list[str] = []
    for each in ready.values():
        each.task.build_all_requests(limit=each.limit, rank=0, world_size=1)
        asked = [instance.args for instance in each.task.instances]
        texts += dict.fromkeys(context for context, _ in asked)
        texts += [answer for _, answer in asked]
    tokens = sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
    parameters = plan.size.parameters
    seconds = 2.0 * parameters * tokens / (GPUS[GPU].bf16 * FORWARD_UTILISATION)
    rows = sum(each.limit for each in ready.values())
    return {"rows": rows, "tokens": tokens, "hours": seconds / 3600, "weight_bytes": 2.0 * parameters}


def page(result: dict[str, Any], plans: dict[str, RunPlan]) -> str:
    gpus, price, scoring = result["gpus"], result["price"], result["table6"]
    lines = "".join(
        f"| {each['model']} | {each['tokens']:,} | {each['hours']:,.2f} | {each['hours'] * gpus:,.1f} | "
        f"{each['hours'] * gpus * price:,.0f} |\n"
        for each in result["models"]
    )
    hours = sum(each["hours"] for each in result["models"])
    memory = "".join(
        f"| {name} | {choice.strategy}{', gradient checkpointing' if choice.checkpointing else ''} | "
        f"{choice.micro_batch} | {choice.memory.peak / 1e9:.1f} | {plan.disk.total / 1e9:,.0f} |\n"
        for name, plan in plans.items()
        if (choice := plan.recommended) is not None
    )
    return f"""# The ablation at the paper's size: a plan

`python scripts/plan_ablation.py`; {machine()}.

Nothing here was run on a GPU: hours are those of `bllossom plan` on {gpus} × {result["gpu"]}, at
{next(iter(plans.values())).utilisation:.0%} model FLOP utilisation (docs/results/plan.md says whose) and {price:.2f} US
dollars a GPU-hour, which is an assumption: `--price` takes yours.

| model | tokens | hours | GPU-hours | cost, $ |
|---|--:|--:|--:|--:|
{lines}| all six | | {hours:,.1f} | {hours * gpus:,.0f} | {hours * gpus * price:,.0f} |

A model's line is its own training; `bllossom-bi` is trained once for the three that need it. Each pretraining is 33.09
GB of text: without new pieces Korean takes 2.4 times the tokens, so `llama2-ko` alone costs more than both others
together. Tunings are bounded from above: each example as long as `max_tokens` allows.

| pretraining | recommended | micro-batch | peak, GB a GPU | disk at once, GB |
|---|---|--:|--:|--:|
{memory}
## Table 6

One model of 13B on the eight tasks' {scoring["rows"]:,} rows is at most {scoring["tokens"]:,} tokens (Llama 2's pieces,
each question once): {scoring["hours"]:.2f} hours on one {result["gpu"]}, at a guessed {FORWARD_UTILISATION:.0%} of
its peak. Its weights take {scoring["weight_bytes"] / 1e9:.0f} GB in bf16, and the rows at work some GB: a GPU of 40 GB
holds it. The six comparators of `configs/table6` take six times that, or as long on six GPUs (`--jobs 6`); so do the
six models above and their backbone.
"""


if __name__ == "__main__":
    main()
