"""Choose expand's initialisers by measurement: bits per byte at step 0 and after short, equal pretraining.

    python scripts/bench_init.py                   # nine pairs × three seeds, 60 steps each: about an hour on 2 cores
    python scripts/bench_init.py --base smollm2    # eight rules, then untied pairs, 100 steps: see below

micro: a Llama of 4.8 M non-embedding parameters, pretrained on English, with Llama 2's vocabulary, gets the 7,478
Korean pieces by every pair of input_init and output_init, and is pretrained with the same blocks of its recipe.
smollm2: SmolLM2-135M, which has seen trillions of tokens, gets the pieces of configs/smollm2. It is tied, so that a
rule fills one matrix; then pairs are measured with `untie: true`: subword-mean and the rules that came out best, each
on both sides, and what was chosen on micro.
What is missing of either recipe is run first. A seed stands for the initialiser's random numbers and for the order of
the data, and is the same for all.

Results go to docs/results/init[-smollm2].md, .json and .svg. What is in --work/runs.json already is not measured again,
so that a stopped run goes on; `--only N` ends after so many new measurements, `--jobs N` makes so many side by side.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import commit, machine
from transformers import AutoModelForCausalLM

from bllossom.config import load_config
from bllossom.evaluation.heldout import bits_per_byte, read_documents
from bllossom.evaluation.scoring.scorer import Scorer
from bllossom.model.distill_rows import DistillRowsConfig, distill_rows
from bllossom.model.expand import ExpandConfig, expand
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.pretrain import PretrainConfig, pretrain

ROOT = Path(__file__).parent.parent
MICRO_PAIRS = (
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
RULES = ("subword-mean", "subword-weighted", "subword-first", "mean", "normal", "random")
DISTILLED = ("subword-mean", "subword-weighted")
DISTILL_STEPS = 12
DISTILLED_TOO, UNTIED = ", distilled", ", untied"  # ends of methods' names
MICRO_CHOICE = ("random", "subword-mean")  # what docs/results/init.md chose
LANGUAGES = ("ko", "en")
ENGLISH_SLACK = 1.02
BATCH_TOKENS = 1024
LONGEST_CHARACTERS = 4000  # of a held-out document, so that no single book is the measure

Bits = dict[str, float]
"""Bits per byte by language."""
Runs = dict[str, dict[str, dict[str, Bits]]]
"""By pair, by seed: the bits at `step 0` and `after`."""
Method = dict[str, Any]
"""expand's keys, and `distill` where the rows are distilled before step 0."""


@dataclass(frozen=True)
class Base:
    """A base and what it is measured with."""

    recipe: str  # the folder below configs/
    model: Path
    steps: int
    heldout_kb: int
    methods: dict[str, Method]
    tie: str
    """The method that is kept where another is not better with every seed."""
    told: str
    training: dict[str, Any]


def bases(options: argparse.Namespace) -> dict[str, Base]:
    """Both bases, by what --base calls them."""
    pairs = {f"{i} / {o}": {"input_init": i, "output_init": o} for i, o in MICRO_PAIRS}
    rules: dict[str, Method] = {rule: {"input_init": rule} for rule in RULES}
    rules |= {f"{rule}{DISTILLED_TOO}": {"input_init": rule, "distill": True} for rule in DISTILLED}
    smollm2 = Path(os.environ.get("SMOLLM2", ROOT / "models/smollm2"))
    return {
        "micro": Base(
            "micro",
            options.run / "base",
            60,
            150,
            pairs,
            "subword-mean / subword-mean",
            "The micro base (4.8 M non-embedding parameters) with 7,478 new pieces; steps of 2,048 tokens",
            {},
        ),
        "smollm2": Base(
            "smollm2",
            smollm2,
            100,
            20,
            rules,
            "subword-mean",
            "SmolLM2-135M-Instruct (tied) with the pieces of configs/smollm2; steps of 512 tokens, the body in bf16. "
            f"*distilled*: {DISTILL_STEPS} steps of distill-rows first, which take half again as long as the training. "
            "*untied*: a rule for each matrix",
            {"global_batch": 512, "micro_batch": 1, "evaluate_every": False, "bytes_total": None, "precision": "bf16"},
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", choices=("micro", "smollm2"), default="micro")
    parser.add_argument("--run", type=Path, help="the recipe's output; runs/BASE if left out")
    parser.add_argument("--work", type=Path, help="scratch folder, to go on from; runs/bench-init-BASE if left out")
    parser.add_argument("--steps", type=int, help="optimizer steps")
    parser.add_argument("--heldout-kb", type=int, help="held-out text of each language that is scored")
    parser.add_argument("--seeds", type=int, default=3, help="the first so many seeds")
    parser.add_argument("--methods", type=int, help="only the first so many methods")
    parser.add_argument(
        "--untied", type=int, default=3, help="so many of smollm2's best rules are measured untied, too"
    )
    parser.add_argument("--only", type=int, help="end after so many new measurements")
    parser.add_argument(
        "--jobs", type=int, default=1, help="measurements side by side, each with its part of the cores"
    )
    parser.add_argument("--results", type=Path, help="path without suffix")
    options = parser.parse_args()
    options.run = options.run or ROOT / f"runs/{options.base}"
    options.work = options.work or ROOT / f"runs/bench-init-{options.base}"
    suffix = "" if options.base == "micro" else f"-{options.base}"
    options.results = options.results or ROOT / f"docs/results/init{suffix}"
    base = bases(options)[options.base]
    base = replace(base, steps=options.steps or base.steps, heldout_kb=options.heldout_kb or base.heldout_kb)
    base = replace(base, methods=dict([*base.methods.items()][: options.methods]))
    recipe = ["run", f"configs/{base.recipe}/recipe.yaml", f"output={options.run}", "--until", "tokens"]
    subprocess.run([sys.executable, "-m", "bllossom.cli", *recipe], check=True, cwd=ROOT)
    heldout = {name: first_kb(options.run / f"tokens/heldout/{name}.jsonl", base.heldout_kb) for name in LANGUAGES}
    bench = Bench(options, base, heldout)
    runs = bench.measure_all(base.methods)
    if options.base == "smollm2" and bench.left > 0:
        best = sorted((rule for rule in RULES if rule in runs), key=lambda rule: mean_bits(runs, rule, "after", "ko"))
        own = [(base.tie, base.tie), MICRO_CHOICE, *((rule, rule) for rule in best[: options.untied])]
        pairs = dict.fromkeys(own)
        untied = {f"{i} / {o}{UNTIED}": {"input_init": i, "output_init": o, "untie": True} for i, o in pairs}
        runs = bench.measure_all(untied)
    if bench.left <= 0:
        raise SystemExit(f"{options.only} measured; the same command goes on")
    base_bits = bench.base_bits()
    result = {"machine": machine(), "commit": commit(), **bench.settings, "base": base_bits, "runs": runs}
    result |= {"chosen": choices(runs, base.tie), "tie": base.tie, "told": base.told, "recipe": base.recipe}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    options.results.with_suffix(".svg").write_text(plot(runs, base_bits))
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


class Bench:
    """The measurements, each kept as it comes."""

    def __init__(self, options: argparse.Namespace, base: Base, heldout: dict[str, list[str]]) -> None:
        self.options, self.base, self.heldout = options, base, heldout
        self.left = options.only or 10**9  # measurements that may still be made
        self.settings = {"steps": base.steps, "heldout_kb": base.heldout_kb}
        options.work.mkdir(parents=True, exist_ok=True)
        self.kept = options.work / "runs.json"
        kept = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        self.state: dict[str, Any] = {"settings": self.settings, "runs": {}} | kept
        if self.state["settings"] != self.settings:
            raise SystemExit(f"{self.kept} was measured with {kept['settings']}; name another --work, or remove it")

    def measure_all(self, methods: dict[str, Method]) -> Runs:
        """Measure every method with every seed, seed by seed."""
        runs = self.state["runs"]
        todo = [
            (name, seed)
            for seed in range(self.options.seeds)
            for name in methods
            if str(seed) not in runs.get(name, {})
        ][: self.left]
        self.left -= len(todo)
        # Read by torch as a job starts: more threads than cores would wait for each other.
        os.environ["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // self.options.jobs))
        pool = ProcessPoolExecutor(self.options.jobs, get_context("spawn"))
        try:
            asked = {pool.submit(self.measure, methods[name], seed): (name, seed) for name, seed in todo}
            for future in as_completed(asked):
                name, seed = asked[future]
                bits, seconds = future.result()
                runs.setdefault(name, {})[str(seed)] = bits
                self.kept.write_text(json.dumps(self.state))
                print(f"{name}, seed {seed}, {seconds:.0f} s: {bits}", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
        return runs

    def base_bits(self) -> Bits:
        """Bits per byte of the base itself."""
        if "base" not in self.state:
            self.state["base"] = score(self.base.model, self.heldout)
            self.kept.write_text(json.dumps(self.state))
        return self.state["base"]

    def measure(self, method: Method, seed: int) -> tuple[dict[str, Bits], float]:
        """Expand, distil, score, pretrain, score: the bits, and the seconds they took. The models are removed."""
        started = time.monotonic()
        with TemporaryDirectory(dir=self.options.work) as folder:
            bits = self._measure(method, seed, Path(folder))
        return bits, time.monotonic() - started

    def _measure(self, method: Method, seed: int, work: Path) -> dict[str, Bits]:
        run = self.options.run
        start = expanded = work / "expanded"
        folders = {"model": str(self.base.model), "tokenizer": run / "vocab", "output": expanded, "seed": seed}
        expand(ExpandConfig.model_validate(folders | {k: v for k, v in method.items() if k != "distill"}))
        if method.get("distill"):
            start = work / "distilled"
            values = {"model": expanded, "base": self.base.model, "tokens": run / "tokens", "output": start}
            distill_rows(DistillRowsConfig.model_validate(values | {"steps": DISTILL_STEPS, "seed": seed}))
        changes = {"output": work / "adapted", "model": start, "tokens": run / "tokens", "seed": seed}
        changes |= {"tokens_total": None, "steps": self.base.steps, "checkpoint_every": 10_000} | self.base.training
        values = {key: str(value) if isinstance(value, Path) else value for key, value in changes.items()}
        config = load_config(PretrainConfig, ROOT / f"configs/{self.base.recipe}/pretrain.yaml", values=values)
        found = {"step 0": score(start, self.heldout)}
        pretrain(config.config)
        return found | {"after": score(work / "adapted", self.heldout)}


def score(folder: Path, heldout: dict[str, list[str]]) -> Bits:
    """Bits per byte of the held-out documents under the model in `folder`, by language."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(folder)
    scorer = Scorer.of(model, BATCH_TOKENS)
    return {name: bits_per_byte(scorer, tokenizer, texts).bits_per_byte for name, texts in heldout.items()}


def mean_bits(runs: Runs, pair: str, when: str, language: str) -> float:
    return statistics.mean(seed[when][language] for seed in runs[pair].values())


def choices(runs: Runs, tie: str) -> list[str]:
    """What is chosen of the rows as the base has them, and of the untied ones. Distilled ones cost twice as much."""
    asked = {name: seeds for name, seeds in runs.items() if not name.endswith(DISTILLED_TOO)}
    untied = {name: seeds for name, seeds in asked.items() if name.endswith(UNTIED)}
    own = {name: seeds for name, seeds in asked.items() if name not in untied}
    groups = [(own, tie), (untied, f"{tie} / {tie}{UNTIED}")]
    return [choose(group, of_group) for group, of_group in groups if group]


def choose(runs: Runs, tie: str) -> str:
    """The method with the lowest mean Korean bits after training, of those whose English is within 2 % of the best.

    A tie keeps `tie`: another must be better with every seed. What had fewer seeds than others is not asked.
    """
    runs = {pair: seeds for pair, seeds in runs.items() if len(seeds) == max(map(len, runs.values()))}
    english = {pair: mean_bits(runs, pair, "after", "en") for pair in runs}
    allowed = [pair for pair in runs if english[pair] <= ENGLISH_SLACK * min(english.values())]
    best = min(allowed, key=lambda pair: mean_bits(runs, pair, "after", "ko"))
    if tie in allowed:
        seeds = runs[tie]
        wins = [runs[best][seed]["after"]["ko"] < seeds[seed]["after"]["ko"] for seed in seeds]
        return best if all(wins) else tie
    return best


INTRODUCTION = """# Which initialiser: bits per byte before and after short, equal pretraining

`python scripts/bench_init.py --base {recipe} --steps {steps}`; {machine}; commit {commit}.

{told}.

{steps} steps, Korean to English 7:3 in bytes; about {heldout_kb} KB of held-out text in each language; mean
over {seeds} seeds (smallest–largest), where a row names no other number. The base itself: Korean {base[ko]:.3f},
English {base[en]:.3f}.

| method | Korean, step 0 | Korean, after | English, step 0 | English, after |
|---|--:|--:|--:|--:|"""
CONCLUSION = """
Chosen: {named}: the lowest mean Korean bits per byte after training, of those
whose English is within 2 % of the best. What is not better than {tie} with every seed ties with it, and a tie keeps
that one.

![bits per byte after training]({name}.svg)"""


def report(result: dict[str, Any], name: str) -> str:
    """The result as Markdown."""
    runs: Runs = result["runs"]
    most = max(map(len, runs.values()))
    named = " and ".join(f"**{pair}**" for pair in result["chosen"])
    lines = [INTRODUCTION.format(**result, seeds=most)]
    for pair in sorted(runs, key=lambda pair: mean_bits(runs, pair, "after", "ko")):
        cells = [_cell(runs, pair, when, language) for language in LANGUAGES for when in ("step 0", "after")]
        mark = "**" if pair in result["chosen"] else ""
        fewer = f", {len(runs[pair])} seed(s)" if len(runs[pair]) < most else ""
        lines.append(f"| {mark}{pair}{mark}{fewer} | " + " | ".join(cells) + " |")
    lines.append(CONCLUSION.format(**result, named=named, name=name))
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
