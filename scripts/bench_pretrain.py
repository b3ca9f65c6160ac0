"""Measure `bllossom pretrain` beside transformers' Trainer and a bare PyTorch loop: docs/results/pretrain.md and .json.

    python scripts/bench_pretrain.py             # about four minutes on a quiet 2-core machine
    python scripts/bench_pretrain.py --rounds 5  # more of the same

One shape for all: hidden 256, 6 layers, intermediate 704, 8 heads, 39,478 pieces, 8 × 512 tokens, fp32, AdamW, the
gradient clipped. The sides take turns, each round in a process of its own: its speed is the median of its steps after
the warm-up, its peak resident memory is counted above what was resident after the imports. The matmul limit is the
best of twenty products of 1,024 × 1,024, measured in the same process. Ratios are medians over the rounds.

    trainer     transformers.Trainer on group_texts rows (text end to end, cut into blocks), its own loss
    trainer-fa  the same with torch's fused AdamW, as our optimizer is
    bare        a loop of twelve lines with the chunked loss of bllossom, on the same tokens
    bllossom    the stage itself, on the mixture, with document masks; steps and loading from its own log
    bllossom-1  the same without document masks, which is what the others compute

Needs the real texts and vocabularies (BLLOSSOM_SHARED, default ../shared).
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from machine import commit, machine
from torch.nn import LinearCrossEntropyOptions
from torch.nn.functional import linear_cross_entropy
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from bllossom.artifacts import LOGS
from bllossom.corpus.prepare import PrepareConfig, prepare
from bllossom.memory import peak_rss_bytes, reset_peak_rss
from bllossom.tokens.mixture import MixtureConfig
from bllossom.tokens.shards import open_stream, read_index
from bllossom.training.engines.flops import training_flops_per_token
from bllossom.training.models import InitModel, LlamaShape, llama_config
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.settings import LearningRate
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("BLLOSSOM_SHARED", ROOT.parent / "shared"))
SHAPE = LlamaShape(hidden_size=256, intermediate_size=704, layers=6, heads=8)
PIECES, ROWS, BLOCK, LOSS_CHUNK = 39_478, 8, 512, 1024
WARM_UP = 3
RATE = 3e-4
TEXT = {
    "ko": [
        str(SHARED / "corpus/ko/libreoffice_help_ko.jsonl.zst"),
        str(SHARED / "corpus/ko/tensorflow_docs_ko.jsonl.zst"),
    ],
    "en": [str(SHARED / "corpus/en/wikitext2_valid_test.jsonl.zst")],
}

PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm")  # of matrices, as the profiler calls them


def make_tokens(folder: Path) -> Path:
    """Merge Llama 2's vocabulary with KoBERT's, and turn real text into its tokens."""
    vocabulary = folder / "vocabulary"
    merge_vocab(
        MergeVocabConfig(
            output=vocabulary,
            base=str(SHARED / "tokenizers/llama2"),
            donor=str(SHARED / "tokenizers/kobert"),
            expected_size=PIECES,
            samples={},
        )
    )
    prepare(PrepareConfig.model_validate({"output": folder / "tokens", "tokenizer": str(vocabulary), "sources": TEXT}))
    return folder / "tokens"


def grouped(tokens: Path, blocks: int) -> np.ndarray:
    """Blocks as transformers' run_clm groups texts: documents end to end, cut every 512 tokens; int64 [blocks, 512]."""
    index = read_index(tokens)
    streams = [open_stream(tokens, index, source) for source in index.sources]
    ids = np.concatenate([stream.read(0, stream.tokens) for stream in streams])
    rows = ids[: len(ids) // BLOCK * BLOCK].reshape(-1, BLOCK)
    picked: np.ndarray = rows[np.random.default_rng(0).permutation(len(rows))[:blocks]]
    return picked


def run_trainer(tokens: Path, steps: int, optimizer: str) -> dict[str, Any]:
    """transformers' Trainer; seconds of each step, from its callbacks."""
    rows = grouped(tokens, steps * ROWS).tolist()
    data = Dataset.from_dict({"input_ids": rows, "labels": rows}).with_format("torch")
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=ROWS,
            max_steps=steps,
            learning_rate=RATE,
            optim=optimizer,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        model = LlamaForCausalLM(llama_config(SHAPE, PIECES))
        Trainer(model, arguments, train_dataset=data, callbacks=[Clock()]).train()
    return {"seconds": [later - earlier for earlier, later in itertools.pairwise(ends)][WARM_UP - 1 :]}


def run_bare(tokens: Path, steps: int) -> dict[str, Any]:
    """The least that trains: model, chunked loss, clip, fused AdamW. After its steps, the share of one in products."""
    rows = torch.from_numpy(grouped(tokens, (steps + 1) * ROWS))
    model = LlamaForCausalLM(llama_config(SHAPE, PIECES)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    options = LinearCrossEntropyOptions(batch_chunk_size=LOSS_CHUNK, chunking_method=None)

    def train(step: int) -> None:
        ids = rows[step * ROWS : (step + 1) * ROWS]
        hidden = model.model(input_ids=ids, use_cache=False)[0][:, :-1].flatten(0, 1)
        loss = linear_cross_entropy(hidden, model.lm_head.weight, ids[:, 1:].flatten(), options=options)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    seconds = []
    for step in range(steps):
        started = time.perf_counter()
        train(step)
        seconds.append(time.perf_counter() - started)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        train(steps)
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    return {
        "seconds": seconds[WARM_UP:],
        "products": sum(times.get(name, 0) for name in PRODUCTS) / sum(times.values()),
    }


def run_bllossom(tokens: Path, steps: int, *, document_mask: bool) -> dict[str, Any]:
    """The stage, as the command runs it; from its own log. Its step time includes loading and logging."""
    with tempfile.TemporaryDirectory() as folder:
        config = PretrainConfig(
            output=Path(folder) / "model",
            model=InitModel(init=SHAPE),
            tokens=tokens,
            mixture=MixtureConfig(weights={"ko": 7, "en": 3}, max_epochs=100),
            block_size=BLOCK,
            micro_batch=ROWS,
            global_batch=ROWS * BLOCK,
            steps=steps,
            document_mask=document_mask,
            loss_chunk=LOSS_CHUNK,
            learning_rate=LearningRate(peak=RATE),
            checkpoint_every=10 * steps,
        )
        pretrain(config)
        log = (config.output / LOGS / "train.jsonl").read_text(encoding="utf8").splitlines()
    lines = [line for line in map(json.loads, log) if "tokens_per_second" in line][WARM_UP:]
    supervised = ROWS * (BLOCK - 1)  # what the log counts; a document's first token or two are too few to matter
    return {
        "seconds": [supervised / line["tokens_per_second"] for line in lines],
        "loading": statistics.mean(line["loading_share"] for line in lines),
    }


SIDES: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "trainer": lambda tokens, steps: run_trainer(tokens, steps, "adamw_torch"),
    "trainer-fa": lambda tokens, steps: run_trainer(tokens, steps, "adamw_torch_fused"),
    "bare": run_bare,
    "bllossom": lambda tokens, steps: run_bllossom(tokens, steps, document_mask=True),
    "bllossom-1": lambda tokens, steps: run_bllossom(tokens, steps, document_mask=False),
}


def matmul_limit() -> float:
    """FLOP/s of a 1,024 × 1,024 product in fp32: the best of twenty."""
    left = torch.ones(1024, 1024)
    rates = []
    for _ in range(20):
        started = time.perf_counter()
        left @ left
        rates.append(2 * 1024**3 / (time.perf_counter() - started))
    return max(rates)


def flops_a_step() -> float:
    """Multiplications and additions of a step: counted as the plan and the log count them."""
    with torch.device("meta"):
        model = LlamaForCausalLM(llama_config(SHAPE, PIECES))
    multiplied = sum(weight.numel() for weight in model.parameters()) - PIECES * SHAPE.hidden_size
    return ROWS * BLOCK * training_flops_per_token(multiplied, SHAPE.layers, SHAPE.hidden_size, BLOCK)


def run_side(side: str, tokens: Path, steps: int) -> None:
    """One side in this process; prints its figures as a line of JSON."""
    limit = matmul_limit()
    status = Path("/proc/self/status").read_text()
    resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
    reset_peak_rss()
    found = SIDES[side](tokens, steps)
    second = statistics.median(found["seconds"])
    figures = {
        "tokens_per_second": ROWS * BLOCK / second,
        "peak_bytes": peak_rss_bytes() - resident,
        "matmul_share": flops_a_step() / second / limit,
        "loading": found.get("loading"),
        "products": found.get("products"),
    }
    print(json.dumps(figures))


def measure(side: str, tokens: Path, steps: int) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--tokens", str(tokens), "--steps", str(steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{side:10} {json.dumps(found)}", file=sys.stderr)
    return found


def page(rounds: list[dict[str, dict[str, Any]]], steps: int) -> str:
    """The results as Markdown."""

    def median(side: str, key: str) -> float:
        return statistics.median(one[side][key] for one in rounds)

    def ratio(side: str, other: str, key: str) -> float:
        return statistics.median(one[side][key] / one[other][key] for one in rounds)

    lines = [
        "# Pretraining speed on a CPU",
        "",
        f"Made by `python scripts/bench_pretrain.py`, which says what is measured: {len(rounds)} rounds of "
        f"{steps - WARM_UP} steps after {WARM_UP}, {torch.get_num_threads()} threads; "
        f"{machine()}, torch {torch.__version__}, commit {commit()}. Load average at the end "
        f"{os.getloadavg()[0]:.1f}.",
        "",
        "| | tokens/s | / trainer | / bare | peak MB above imports | / trainer | share of matmul limit |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for side in SIDES:
        lines.append(
            f"| {side} | {median(side, 'tokens_per_second'):,.0f} | {ratio(side, 'trainer', 'tokens_per_second'):.2f} "
            f"| {ratio(side, 'bare', 'tokens_per_second'):.2f} | {median(side, 'peak_bytes') / 1e6:,.0f} "
            f"| {ratio(side, 'trainer', 'peak_bytes'):.2f} | {median(side, 'matmul_share'):.2f} |"
        )
    products = statistics.median(one["bare"]["products"] for one in rounds)
    limit = ratio("bare", "trainer", "tokens_per_second") / products
    loading = max(one["bllossom"]["loading"] for one in rounds)
    lines += [
        "",
        f"Loading takes {loading:.2%} of bllossom's step time (the highest of the rounds).",
        f"Products of matrices take {products:.0%} of the bare loop's step: with nothing else in it, it would have "
        f"{limit:.2f} × trainer's speed.",
        "",
        "Asked for: 1.5 × trainer's speed, 0.8 × its memory, 0.95 × bare's speed, loading under 1 %.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=9, help=f"of each side and round, {WARM_UP} of them to warm up")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        run_side(arguments.side, arguments.tokens, arguments.steps)
        return
    with tempfile.TemporaryDirectory() as work:
        tokens = make_tokens(Path(work))
        rounds = [{side: measure(side, tokens, arguments.steps) for side in SIDES} for _ in range(arguments.rounds)]
    results = ROOT / "docs" / "results"
    text = page(rounds, arguments.steps)
    (results / "pretrain.md").write_text(text, encoding="utf8")
    (results / "pretrain.json").write_text(json.dumps(rounds, indent=1) + "\n", encoding="utf8")
    print(text)


if __name__ == "__main__":
    main()
