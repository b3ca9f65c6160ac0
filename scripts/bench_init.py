"""Choose expand's initialisers by measurement: bits per byte at step 0 and after short, equal pretraining.

    python scripts/bench_init.py                   # nine pairs × three seeds, 60 steps each: about an hour on 2 cores
    python scripts/bench_init.py --steps 20

The base is the micro recipe's: a Llama of 4.8 M non-embedding parameters, pretrained on English, with Llama 2's
vocabulary; what is missing of that recipe is run first. Every pair of input_init and output_init gives it the 7,478
Korean pieces, and is pretrained with the same blocks (configs/micro/pretrain.yaml, Korean to English 7:3 in bytes). A
seed stands for the initialiser's random numbers and for the order of the data, and is the same for all pairs.

Results go to docs/results/init.md, .json and .svg. What is in --work/runs.json already is not measured again.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

from machine import commit, machine
from transformers import AutoModelForCausalLM

from bllossom.config import load_config
from bllossom.evaluation.heldout import bits_per_byte, read_documents
from bllossom.evaluation.scoring.scorer import Scorer
from bllossom.model.expand import ExpandConfig, expand
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.pretrain import PretrainConfig, pretrain

ROOT = Path(__file__).parent.parent
KEPT_IN_A_TIE = "subword-mean / subword-mean"
PAIRS = (
    ("subword-mean", "subword-mean"),
    ("subword-mean", "subword-first"),  # EEVE
    ("subword-mean", "mean"),
    ("subword-mean", "normal"),
    ("subword-mean", "random"),
    ("random", "subword-mean"),
    ("mean", "mean"),
    ("normal", "normal"),  # resize_token_embeddings' way, with the whole covariance
    ("random", "random"),
)
SEEDS = (0, 1, 2)
LANGUAGES = ("ko", "en")
ENGLISH_SLACK = 1.02
BATCH_TOKENS = 1024
LONGEST_CHARACTERS = 4000  # of a held-out document, so that no single book is the measure

Bits = dict[str, float]
"""Bits per byte by language."""
Runs = dict[str, dict[str, dict[str, Bits]]]
"""By pair, by seed: the bits at `step 0` and `after`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micro", type=Path, default=ROOT / "runs/micro", help="the micro recipe's output")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/bench-init", help="scratch folder, to go on from")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of 2,048 tokens")
    parser.add_argument("--heldout-kb", type=int, default=150, help="held-out text of each language that is scored")
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="only the first so many pairs")
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results/init", help="path without suffix")
    options = parser.parse_args()
    recipe = ["run", "configs/micro/recipe.yaml", f"output={options.micro}", "--until", "tokens"]
    subprocess.run([sys.executable, "-m", "bllossom.cli", *recipe], check=True, cwd=ROOT)
    heldout = {name: first_kb(options.micro / f"tokens/heldout/{name}.jsonl", options.heldout_kb) for name in LANGUAGES}
    settings = {"steps": options.steps, "heldout_kb": options.heldout_kb}
    runs = measure_all(options, heldout, settings)
    base = score(options.micro / "base", heldout)
    result = {"machine": machine(), "commit": commit(), **settings, "base": base, "runs": runs, "chosen": choose(runs)}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    options.results.with_suffix(".svg").write_text(plot(runs, base))
    text = report(result, options.results.name)
    options.results.with_suffix(".md").write_text(text)
    print(text)


def first_kb(path: Path, kilobytes: int) -> list[str]:
    """Held-out documents spread over the whole file, of about `kilobytes` together."""
    documents = [document[:LONGEST_CHARACTERS] for document in read_documents(str(path))]
    size = sum(len(document.encode()) for document in documents)
    spread = documents[:: max(1, size // (kilobytes * 1000))]
    sizes = accumulate(len(document.encode()) for document in spread)
    return [spread[i] for i, _ in enumerate(takewhile(lambda total: total < 2 * kilobytes * 1000, sizes))]


def measure_all(options: argparse.Namespace, heldout: dict[str, list[str]], settings: dict[str, int]) -> Runs:
    """Measure every pair with every seed, seed by seed, keeping each result as it comes."""
    options.work.mkdir(parents=True, exist_ok=True)
    kept = options.work / "runs.json"
    state: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"settings": settings, "runs": {}}
    if state["settings"] != settings:
        raise SystemExit(f"{kept} was measured with {state['settings']}; name another --work, or remove it")
    for seed in SEEDS:
        for input_init, output_init in PAIRS[: options.pairs]:
            found = state["runs"].setdefault(f"{input_init} / {output_init}", {})
            if str(seed) not in found:
                found[str(seed)] = measure(
                    options, heldout, {"input_init": input_init, "output_init": output_init}, seed
                )
                kept.write_text(json.dumps(state))
    return state["runs"]


def measure(
    options: argparse.Namespace, heldout: dict[str, list[str]], methods: dict[str, str], seed: int
) -> dict[str, Bits]:
    """Expand, score, pretrain, score; the models are removed."""
    expanded, adapted, micro = options.work / "expanded", options.work / "adapted", options.micro
    folders = {"model": str(micro / "base"), "tokenizer": micro / "vocab", "output": expanded}
    expand(ExpandConfig.model_validate({**folders, **methods, "seed": seed}), force=True)
    values = {"output": adapted, "model": str(expanded), "tokens": micro / "tokens", "seed": seed}
    values |= {"tokens_total": None, "steps": options.steps, "checkpoint_every": 10_000}
    config = load_config(
        PretrainConfig, ROOT / "configs/micro/pretrain.yaml", values={key: str_path(v) for key, v in values.items()}
    )
    found = {"step 0": score(expanded, heldout)}
    pretrain(config.config, force=True)
    found["after"] = score(adapted, heldout)
    print(f"{methods} seed {seed}: {found}", file=sys.stderr)
    shutil.rmtree(expanded)
    shutil.rmtree(adapted)
    return found


def str_path(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def score(folder: Path, heldout: dict[str, list[str]]) -> Bits:
    """Bits per byte of the held-out documents under the model in `folder`, by language."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(folder)
    scorer = Scorer.of(model, BATCH_TOKENS)
    return {name: bits_per_byte(scorer, tokenizer, texts).bits_per_byte for name, texts in heldout.items()}


def mean_bits(runs: Runs, pair: str, when: str, language: str) -> float:
    return statistics.mean(seed[when][language] for seed in runs[pair].values())


def choose(runs: Runs) -> str:
    """The pair with the lowest mean Korean bits after training, of those whose English is within 2 % of the best.

    A tie keeps subword-mean on both sides: another pair must be better with every seed.
    """
    english = {pair: mean_bits(runs, pair, "after", "en") for pair in runs}
    allowed = [pair for pair in runs if english[pair] <= ENGLISH_SLACK * min(english.values())]
    best = min(allowed, key=lambda pair: mean_bits(runs, pair, "after", "ko"))
    if KEPT_IN_A_TIE in allowed:
        seeds = runs[KEPT_IN_A_TIE]
        wins = [runs[best][seed]["after"]["ko"] < seeds[seed]["after"]["ko"] for seed in seeds]
        return best if all(wins) else KEPT_IN_A_TIE
    return best


INTRODUCTION = """# Which initialiser: bits per byte before and after short, equal pretraining

`python scripts/bench_init.py --steps {steps}`; {machine}; commit {commit}.

The micro base (4.8 M non-embedding parameters) with 7,478 new pieces; {steps} steps of 2,048 tokens, Korean to English
7:3 in bytes; about {heldout_kb} KB of held-out text in each language; mean over {seeds} seeds (smallest–largest). The
base itself: Korean {base[ko]:.3f}, English {base[en]:.3f}.

| input / output | Korean, step 0 | Korean, after | English, step 0 | English, after |
|---|--:|--:|--:|--:|"""
CONCLUSION = """
Chosen: **{chosen}**: the lowest mean Korean bits per byte after training, of the pairs
whose English is within 2 % of the best. A pair that is not better than subword-mean on both sides with every seed ties
with it, and a tie keeps that one.

![bits per byte after training]({name}.svg)"""


def report(result: dict[str, Any], name: str) -> str:
    """The result as Markdown."""
    runs: Runs = result["runs"]
    lines = [INTRODUCTION.format(**result, seeds=len(SEEDS))]
    for pair in sorted(runs, key=lambda pair: mean_bits(runs, pair, "after", "ko")):
        cells = [_cell(runs, pair, when, language) for language in LANGUAGES for when in ("step 0", "after")]
        mark = "**" if pair == result["chosen"] else ""
        lines.append(f"| {mark}{pair}{mark} | " + " | ".join(cells) + " |")
    lines.append(CONCLUSION.format(chosen=result["chosen"], name=name))
    return "\n".join(lines) + "\n"


def _cell(runs: Runs, pair: str, when: str, language: str) -> str:
    values = [seed[when][language] for seed in runs[pair].values()]
    return f"{statistics.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def plot(runs: Runs, base: Bits) -> str:
    """An SVG: for each pair its Korean (left) and English (right) bits after training, a dot a seed, a bar the mean."""
    pairs = sorted(runs, key=lambda pair: mean_bits(runs, pair, "after", "ko"))
    height, row, left, wide = 60 + 26 * len(pairs), 26, 230, 260
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {height}" font-family="sans-serif" font-size="12">'
    ]
    parts.append(f'<rect width="800" height="{height}" fill="white"/>')
    for column, (language, title) in enumerate((("ko", "Korean"), ("en", "English"))):
        x0 = left + column * (wide + 25)
        values = [seed["after"][language] for pair in pairs for seed in runs[pair].values()]
        low, high = min(values), max(values)
        scale = wide / ((high - low) or 1.0)
        parts.append(f'<text x="{x0}" y="18" font-weight="bold">{title}, bits per byte after training</text>')
        parts.append(f'<text x="{x0}" y="{height - 8}">{low:.3f}</text>')
        parts.append(f'<text x="{x0 + wide}" y="{height - 8}" text-anchor="end">{high:.3f}</text>')
        parts.append(
            f'<text x="{x0 + wide / 2}" y="{height - 8}" text-anchor="middle">base {base[language]:.3f}</text>'
        )
        for index, pair in enumerate(pairs):
            y = 40 + index * row
            parts.append(f'<line x1="{x0}" x2="{x0 + wide}" y1="{y}" y2="{y}" stroke="#ddd"/>')
            middle = x0 + (mean_bits(runs, pair, "after", language) - low) * scale
            parts.append(f'<rect x="{middle - 1.5:.1f}" y="{y - 8}" width="3" height="16" fill="#c2410c"/>')
            for seed in runs[pair].values():
                x = x0 + (seed["after"][language] - low) * scale
                parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="#1d4ed8" fill-opacity="0.6"/>')
    for index, pair in enumerate(pairs):
        parts.append(f'<text x="{left - 12}" y="{44 + index * row}" text-anchor="end">{pair}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
