"""Run the demo with three seeds, check what it claims, and write docs/results/demo.md.

    python scripts/demo_seeds.py            # about 15 minutes on 2 cores

The claims, each over every seed: from the expanded model at step 0 Korean bits per byte fall by at least 35 % and end
at least 10 % below a unigram model over the same pieces; English rises by at most 10 % over the base; and at least one
task stands above its floor by more than the spread (largest − smallest) of the seeds.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import machine

from bllossom.artifacts import read_manifest

RECIPE = "configs/demo/recipe.yaml"
RESULTS = Path("docs/results")
SEEDS = (0, 1, 2)


def main() -> int:
    """Run, check, write; 1 if a claim fails."""
    runs = {seed: run(seed) for seed in SEEDS}
    summaries = {seed: summary for seed, (summary, _) in runs.items()}
    claims = check(list(summaries.values()))
    text = report(summaries, {seed: seconds for seed, (_, seconds) in runs.items()}, claims)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "demo.md").write_text(text, encoding="utf8")
    (RESULTS / "demo.json").write_text(json.dumps(summaries, ensure_ascii=False, indent=1) + "\n", encoding="utf8")
    print(text)
    return 0 if all(holds for _, holds in claims) else 1


def run(seed: int) -> tuple[dict[str, Any], float]:
    """The demo's summary with this seed, and its wall time in seconds."""
    output = Path(f"runs/demo-{seed}")
    started = time.monotonic()
    command = [sys.executable, "-m", "bllossom.cli", "run", RECIPE, f"seed={seed}", f"output={output}"]
    subprocess.run(command, check=True)
    return json.loads((output / "summary.json").read_text(encoding="utf8")), time.monotonic() - started


def check(summaries: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """Each claim in words with its figures, and whether it holds."""
    bits = [{model: found["bits_per_byte"] for model, found in summary["evaluations"].items()} for summary in summaries]
    fall = min(1 - seed["adapted"]["ko"] / seed["expanded"]["ko"] for seed in bits)
    unigram = [summary["evaluations"]["adapted"]["unigram_bits_per_byte"]["ko"] for summary in summaries]
    below = min(1 - seed["adapted"]["ko"] / floor for seed, floor in zip(bits, unigram, strict=True))
    rise = max(seed["adapted"]["en"] / seed["base"]["en"] - 1 for seed in bits)
    best = max(margins(summaries).items(), key=lambda item: item[1][0] - item[1][1])
    name, (margin, spread) = best
    return [
        (f"Korean bits per byte fall by at least 35 % from step 0: by {fall:.1%} or more", fall >= 0.35),
        (f"and end at least 10 % below the unigram model: {below:.1%} or more", below >= 0.10),
        (f"English bits per byte rise by at most 10 % over the base: by {rise:.1%} at most", rise <= 0.10),
        (
            f"a task stands above its floor by more than the seeds' spread: {name}, lowest margin "
            f"{margin * 100:.1f} points, spread {spread * 100:.1f}",
            margin > spread,
        ),
    ]


def margins(summaries: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Per task, of the adapted and tuned models: the lowest margin over the floor, and the spread over the seeds."""
    found: dict[str, tuple[float, float]] = {}
    for model in ("adapted", "tuned"):
        for task, figures in summaries[0]["evaluations"][model]["tasks"].items():
            metric = figures["score"]
            cells = [summary["evaluations"][model]["tasks"][task][metric] for summary in summaries]
            values = [cell["value"] for cell in cells]
            margin = min(cell["value"] - cell["floor"] for cell in cells)
            found[f"{task} {metric} ({model})"] = (margin, max(values) - min(values))
    return found


def report(summaries: dict[int, dict[str, Any]], seconds: dict[int, float], claims: list[tuple[str, bool]]) -> str:
    """The page: claims, wall times, means over the seeds, each seed's own table."""
    manifest = read_manifest(Path(f"runs/demo-{SEEDS[0]}/eval-tuned"))
    commit = manifest.git_commit if manifest else None
    lines = ["# The demo, three seeds", "", "`python scripts/demo_seeds.py`", ""]
    lines += [f"Machine: {machine()}; commit {commit}.", ""]
    lines += [f"- {'holds' if holds else '**fails**'}: {text}" for text, holds in claims]
    walls = ", ".join(f"{value:.0f} s (seed {seed})" for seed, value in seconds.items())
    mean = statistics.mean(seconds.values())
    lines += ["", f"Wall time of the whole recipe: {walls}; mean {mean:.0f} s.", ""]
    for seed in summaries:
        table = Path(f"runs/demo-{seed}/summary.md").read_text(encoding="utf8")
        lines += [f"## Seed {seed}", "", table]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
