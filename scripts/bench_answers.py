"""Measure `bllossom answers` beside answering one prompt after the other: docs/results/answers.md and .json.

    python scripts/bench_answers.py                          # the demo's tuned model, which `make demo` leaves
    python scripts/bench_answers.py --model runs/micro/tuned --rounds 5

The prompts are the questions of data/instructions, Korean and English in turn, greedy. All sides take turns on the same
loaded model, fp32 on the CPU; a round's time is that of all answers. Ratios are medians over the rounds.

    transformers   model.generate, one by one
    1              ours with batch_size 1
    8, 16, 32      ours with that batch_size
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import commit, machine

from bllossom.evaluation.answers.model import AnswerModel
from bllossom.model.outputs.generate import stop_ids

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
BATCHES = (1, 8, 16, 32)
WANTED = 3.0  # times one by one


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/demo/tuned")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    model = AnswerModel.load(options.model, None, "cpu")
    prompts = [model.encode([{"role": "user", "content": question}]) for question in questions(options.prompts)]
    sides: dict[str, Callable[[], list[list[int]]]] = {"transformers": lambda: one_by_one(model, prompts, options)}
    sides |= {str(size): _ours(model, prompts, options, size) for size in BATCHES}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    made: dict[str, list[list[int]]] = {}
    for _ in range(options.rounds):
        for name, answer in sides.items():
            start = time.perf_counter()
            made[name] = answer()
            seconds[name].append(time.perf_counter() - start)
    results = {
        "machine": machine(),
        "commit": commit(),
        "model": options.model,
        "parameters": sum(weight.numel() for weight in model.model.parameters()),
        "threads": torch.get_num_threads(),
        "prompts": len(prompts),
        "max_tokens": options.max_tokens,
        "tokens": sum(map(len, made["1"])),
        "seconds": seconds,
        "times_one_by_one": {
            name: statistics.median(one / other for one, other in zip(seconds["1"], seconds[name], strict=True))
            for name in sides
        },
        "other_answers": {name: _differing(made["1"], found) for name, found in made.items()},
    }
    (RESULTS / "answers.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    text = report(results)
    (RESULTS / "answers.md").write_text(text, encoding="utf8")
    print(text)


def questions(count: int) -> list[str]:
    """The first questions of the demo's instructions, Korean and English in turn."""
    files = [ROOT / "data" / "instructions" / f"{language}_train.jsonl" for language in ("ko", "en")]
    read = [
        [json.loads(line)["instruction"] for line in file.read_text(encoding="utf8").splitlines()] for file in files
    ]
    return [question for pair in zip(*read, strict=False) for question in pair][:count]


def one_by_one(model: AnswerModel, prompts: list[list[int]], options: argparse.Namespace) -> list[list[int]]:
    """Greedy answers by transformers' own generate."""
    stops = sorted(stop_ids(model.model, model.tokenizer) | set(model.form.end_ids))
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        settings = {"do_sample": False, "eos_token_id": stops, "pad_token_id": stops[0]}
        out = model.model.generate(  # type: ignore[operator]
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=options.max_tokens, **settings
        )
        answer = out[0, ids.shape[1] :].tolist()
        found.append(answer[:-1] if answer[-1] in stops else answer)
    return found


def _ours(
    model: AnswerModel, prompts: list[list[int]], options: argparse.Namespace, size: int
) -> Callable[[], list[list[int]]]:
    def answer() -> list[list[int]]:
        made = model.answer(prompts, what="answers", max_tokens=options.max_tokens, batch_size=size)
        return [found.ids for found in sorted(made, key=lambda found: found.index)]

    return answer


def _differing(one: list[list[int]], other: list[list[int]]) -> int:
    return sum(first != second for first, second in zip(one, other, strict=True))


def report(results: dict) -> str:
    """The page."""
    lines = [
        "# Answers in batches",
        "",
        f"`python scripts/bench_answers.py --model {results['model']}`",
        "",
        f"Machine: {results['machine']}; {results['threads']} threads; commit {results['commit']}.",
        "",
        f"{results['parameters'] / 1e6:.1f} M parameters, fp32; {results['prompts']} prompts, greedy, at most "
        f"{results['max_tokens']} tokens, {results['tokens']:,} tokens in all; medians of "
        f"{len(results['seconds']['1'])} rounds.",
        "",
        "| | seconds | tokens a second | times batch_size 1 | other answers than batch_size 1 |",
        "| --- | --: | --: | --: | --: |",
    ]
    for name, ratio in results["times_one_by_one"].items():
        median = statistics.median(results["seconds"][name])
        label = "transformers' generate, one by one" if name == "transformers" else f"batch_size {name}"
        lines.append(
            f"| {label} | {median:.2f} | {results['tokens'] / median:,.0f} | {ratio:.2f} | "
            f"{results['other_answers'][name]} of {results['prompts']} |"
        )
    holds = "holds" if results["times_one_by_one"]["16"] >= WANTED else "does not hold"
    lines += ["", f"- {holds}: at least {WANTED:g} times one by one, at the default batch_size of 16", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
