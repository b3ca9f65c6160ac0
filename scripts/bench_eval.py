"""Eval beside stock lm_eval: documents per second and peak memory over the eight tasks, and every log-likelihood.

    python scripts/bench_eval.py [MODEL] [--rows 200] [--rounds 3]     # the tasks' rows under BLLOSSOM_SHARED

Without MODEL it is a random Llama of 8 layers, 256 wide, with Llama 2's 32,000 pieces.

Each side is a process of its own, in turns; its clock starts when its imports are done, and runs to its last score:
loading the model, reading the rows and writing what it writes are in it. Both ask the same definitions of the same
rows, in fp32 on CPU, with lm-eval's encoding; lm_eval's HFLM takes 16 sequences a batch.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from eval_results import write
from machine import commit, machine

DATA = Path(os.environ.get("BLLOSSOM_SHARED", "../shared")) / "benchmarks"
BATCH_SEQUENCES = 16
Answers = dict[str, list[list[float]]]  # log-likelihoods by task, document and choice


def main() -> int:
    """Measure both sides, compare, write docs/results/eval.*; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["ours", "lm_eval"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        side = {"ours": measure_ours, "lm_eval": measure_lm_eval}[given.side]
        print(json.dumps(side(given.model, given.rows)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or make_model(Path(folder) / "random")
        rounds = [{side: run(side, model, given.rows) for side in ("ours", "lm_eval")} for _ in range(given.rounds)]
    result = summarise(rounds) | {"model": model.name, "rows": given.rows}
    write("speed", {result["model"]: result | {"machine": machine(), "commit": commit()}})
    return 0 if result["speed"] >= 3 and result["memory"] <= 0.5 and result["largest_difference"] <= 1e-4 else 1


def make_model(folder: Path) -> Path:
    """The random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from bllossom.tokenizer.load import load_tokenizer

    load_tokenizer(DATA.parent / "tokenizers" / "llama2").save_pretrained(folder)
    shape: dict[str, Any] = {
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
    }
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=32_000, max_position_embeddings=2048, initializer_range=0.05, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def run(side: str, model: Path, rows: int) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, str(model), "--rows", str(rows), "--side", side]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if found.returncode:
        sys.exit(f"{side} failed:\n{found.stderr[-3000:]}")
    measured: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    print(f"{side}: {measured['seconds']:.1f} s, {measured['peak_bytes'] / 1e9:.2f} GB", file=sys.stderr)
    return measured


def measure_ours(model: Path, rows: int) -> dict[str, Any]:
    """`bllossom eval` on the eight tasks."""
    import datasets  # noqa: F401
    import lm_eval.tasks  # noqa: F401

    from bllossom.evaluation.harness import EvalConfig, evaluate

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        started = time.monotonic()
        config = EvalConfig(output=output, model=str(model), tasks=["table6"], data=DATA, limit=rows, gpus=0)
        evaluate(config)
        seconds = time.monotonic() - started
        answers = {}
        for path in sorted((output / "samples").glob("*.jsonl")):
            samples = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
            answers[path.stem] = [[float(nats) for nats, _ in sample["filtered_resps"]] for sample in samples]
    return figures(seconds, answers)


def measure_lm_eval(model: Path, rows: int) -> dict[str, Any]:
    """lm_eval's own model class and evaluator on the same definitions and rows."""
    import datasets  # noqa: F401
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    from bllossom.evaluation.tasks.definitions import OURS, PREFIX

    started = time.monotonic()
    tasks: dict[str, Any] = {}
    for path in sorted((OURS / "ko").glob("*.yaml")):
        definition = load_yaml(path)
        if "group" in definition:
            continue
        split = definition["test_split"]
        (file,) = DATA.glob(definition["metadata"]["files"].format(split=split))
        definition |= {
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(file)}},
        }
        tasks |= TaskManager(include_defaults=False).load(definition | {"fewshot_split": split})["tasks"]
    lm = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=BATCH_SEQUENCES)
    results = lm_eval.evaluate(lm, {"tasks": tasks}, limit=rows)
    seconds = time.monotonic() - started
    answers = {
        name.removeprefix(PREFIX): [[float(nats) for nats, _ in sample["filtered_resps"]] for sample in samples]
        for name, samples in results["samples"].items()
    }
    return figures(seconds, answers)


def figures(seconds: float, answers: Answers) -> dict[str, Any]:
    """What one side reports."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak_bytes": peak, "answers": answers}


def summarise(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians over the rounds, the ratio of each round's speeds, and how far the log-likelihoods are apart."""
    documents = sum(map(len, rounds[0]["ours"]["answers"].values()))
    ratios = [both["lm_eval"]["seconds"] / both["ours"]["seconds"] for both in rounds]
    memory = [both["ours"]["peak_bytes"] / both["lm_eval"]["peak_bytes"] for both in rounds]
    result: dict[str, Any] = {
        "documents": documents,
        "speed": statistics.median(ratios),
        "speeds": ratios,
        "memory": statistics.median(memory),
        "largest_difference": max(
            largest_difference(both["ours"]["answers"], both["lm_eval"]["answers"]) for both in rounds
        ),
    }
    for side in ("ours", "lm_eval"):
        seconds = statistics.median(both[side]["seconds"] for both in rounds)
        peak = statistics.median(both[side]["peak_bytes"] for both in rounds)
        result[side] = {"seconds": seconds, "documents_per_second": documents / seconds, "peak_gigabytes": peak / 1e9}
    return result


def largest_difference(ours: Answers, theirs: Answers) -> float:
    """The largest difference of two log-likelihoods, relative where they are beyond 1 nat."""
    assert ours.keys() == theirs.keys()
    pairs = [
        pair
        for name in ours
        for mine, other in zip(ours[name], theirs[name], strict=True)
        for pair in zip(mine, other, strict=True)
    ]
    return max(abs(mine - other) / max(1.0, abs(other)) for mine, other in pairs)


if __name__ == "__main__":
    sys.exit(main())
