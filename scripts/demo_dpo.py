"""Tune the demo's model on pairs with three seeds, and write docs/results/dpo.md and .json.

    bllossom run configs/demo/recipe.yaml --until tuned   # the model, unless it is there
    python scripts/demo_dpo.py [MODEL]                    # a minute a seed on one core

The claim: the accuracy on facts that are held out goes from within the interval (95 %) of one half to above it. The
interval is that of so many prompts, not pairs: the two pairs of a prompt are of one fact. A seed is the order of the
pairs and which prompts are held out.
"""

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import commit, machine

from bllossom.artifacts import read_manifest

ROOT = Path(__file__).parent.parent
CONFIG = "configs/demo/dpo.yaml"
SEEDS = (0, 1, 2)
PAIRS_PER_PROMPT = 2


def run(model: Path, seed: int) -> dict[str, Any]:
    """The figures of one seed."""
    output = model.with_name(f"preferred-{seed}")
    started = time.monotonic()
    command = [sys.executable, "-m", "bllossom.cli", "dpo", "--config", CONFIG, f"model={model}", f"output={output}"]
    subprocess.run([*command, f"seed={seed}"], check=True, cwd=ROOT)
    seconds = time.monotonic() - started
    lines = [json.loads(line) for line in (output / "logs/train.jsonl").read_text(encoding="utf8").splitlines()]
    manifest = read_manifest(output)
    assert manifest is not None
    figures = manifest.figures
    prompts = figures["heldout_pairs"] // PAIRS_PER_PROMPT
    half = 1.96 * (0.25 / prompts) ** 0.5
    return {
        "pairs": figures["pairs"],
        "heldout_pairs": figures["heldout_pairs"],
        "heldout_prompts": prompts,
        "steps": figures["steps"],
        "interval": [round(0.5 - half, 4), round(0.5 + half, 4)],
        "accuracy_before": lines[0]["accuracy"],  # of training pairs, at the first step; all are ties
        "accuracy_after": figures["heldout"]["accuracy"],
        "training_accuracy_after": lines[-1]["accuracy"],
        "margin_after": lines[-1]["rewards/margin"],
        "loss": [lines[0]["loss"], lines[-1]["loss"]],
        "heldout_loss_after": figures["heldout"]["loss"],
        "seconds": round(seconds, 1),
    }


def report(runs: dict[int, dict[str, Any]], model: Path) -> str:
    """The page."""
    holds = all(run["accuracy_after"] > run["interval"][1] for run in runs.values())
    lines = [
        "# dpo on the demo's pairs",
        "",
        f"Made by `python scripts/demo_dpo.py` on `{model.name}` of the demo (seed 0): {machine()}, Python "
        f"{platform.python_version()}, commit {commit()}.",
        "",
        f"- {'holds' if holds else 'FAILS'}: accuracy on facts that are held out goes from one half to above the "
        "interval (95 %) of one half",
        "",
        "Before the first step the model is its own reference, so that every pair is a tie, which counts half. Later a",
        "pair is right where the answer that tells the fact gained more (or lost less) over the reference.",
        "",
        "Of the two pairs of a prompt one sets the fact beside another subject's value of the same kind, one beside a "
        "value of another kind. With pairs of the first sort alone (566 of them, the same settings) the accuracy "
        "ended at 0.540, 0.556 and 0.556, within the interval; the second sort was added after that was seen. How much "
        "of the gain is of either sort was not measured.",
        "",
        "| seed | pairs | held out (prompts) | interval of 1/2 | before | after | last step's pairs | loss | s |",
        "|--:|--:|--:|---|--:|--:|--:|--:|--:|",
    ]
    for seed, run in runs.items():
        low, high = run["interval"]
        lines.append(
            f"| {seed} | {run['pairs']} | {run['heldout_pairs']} ({run['heldout_prompts']}) | {low:.3f} – {high:.3f} | "
            f"{run['accuracy_before']:.3f} | {run['accuracy_after']:.3f} | {run['training_accuracy_after']:.3f} | "
            f"{run['loss'][0]:.4f} → {run['loss'][1]:.4f} | {run['seconds']:.0f} |"
        )
    return "\n".join([*lines, ""])


def main() -> int:
    """Run, write; 1 if the claim fails."""
    model = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo/tuned").resolve()
    runs = {seed: run(model, seed) for seed in SEEDS}
    text = report(runs, model)
    (ROOT / "docs/results/dpo.md").write_text(text, encoding="utf8")
    (ROOT / "docs/results/dpo.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf8")
    print(text)
    return 0 if all(run["accuracy_after"] > run["interval"][1] for run in runs.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
