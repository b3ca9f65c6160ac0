"""Measure `bllossom expand` on a 13B-shaped checkpoint, and beside transformers' resize_token_embeddings.

    python scripts/bench_expand.py                        # 13B shape, sparse; resize on a shape that fits in memory
    python scripts/bench_expand.py --resize-layers 4      # a smaller shape for the comparison with resize

Needs the Llama 2 and KoBERT vocabularies (BLLOSSOM_SHARED, default ../shared), about 14 GB of disk below --work, and
for the comparison memory for --resize-layers layers of 634 MB. Every figure comes from a process of its own, so that
its peak memory is its own. Files were just read or written, so the page cache is warm for both sides.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from machine import commit, machine
from transformers import LlamaConfig, LlamaForCausalLM

from bllossom.artifacts import publish
from bllossom.memory import peak_rss_bytes
from bllossom.model.checkpoint import open_checkpoint
from bllossom.model.expand import ExpandConfig, make_plan
from bllossom.model.initializers import Method
from bllossom.model.surgery import write_model
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("BLLOSSOM_SHARED", ROOT.parent / "shared"))
LLAMA_2_13B: dict[str, Any] = {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_attention_heads": 40,
    "vocab_size": 32000,
}
LAYERS_13B = 40
SHARD_BYTES = 2_000_000_000
LIMIT_SECONDS = 300


def make_checkpoint(folder: Path, layers: int, *, values: bool) -> None:
    """Write a Llama-2-13B shape of `layers` layers in bf16, in shards of about 2 GB, as transformers would cut it.

    The files are sparse: they read as zeros and take no room. With `values`, those with a matrix hold N(0, 0.02).
    """
    folder.mkdir(parents=True)
    config = LlamaConfig(**LLAMA_2_13B, num_hidden_layers=layers, dtype="bfloat16", architectures=["LlamaForCausalLM"])
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: list(weight.shape) for name, weight in LlamaForCausalLM(config).state_dict().items()}
    shards: list[dict[str, list[int]]] = [{}]
    filled = 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        if filled + size > SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for file_name, tensors in zip(names, shards, strict=True):
        has_matrix = "model.embed_tokens.weight" in tensors or "lm_head.weight" in tensors
        _write_shard(folder / file_name, tensors, values=values and has_matrix)
    weight_map = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
    total = 2 * sum(torch.Size(shape).numel() for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copyfile(SHARED / "tokenizers/llama2/tokenizer.model", folder / "tokenizer.model")


def _write_shard(path: Path, tensors: dict[str, list[int]], *, values: bool) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator().manual_seed(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        file.truncate(start + offset)
        done = 0
        while values and done < offset:
            block = torch.randn(1 << 23, generator=generator).mul_(0.02).bfloat16().view(torch.uint8).numpy()
            done += file.write(block[: offset - done].data)


def make_config(work: Path, base: str, method: Method) -> ExpandConfig:
    """The stage's config, with `method` on both sides."""
    folders = {"tokenizer": work / "vocab", "output": work / "out"}
    return ExpandConfig(model=str(work / base), **folders, input_init=method, output_init=method)


def step_expand(work: Path, base: str) -> dict[str, float]:
    """Time the plan (headers, tokenizers, spellings) and the surgery (all files written)."""
    config = make_config(work, base, "subword-mean")
    config.output.mkdir()
    started = time.perf_counter()
    plan = make_plan(config, work / base)
    planned = time.perf_counter()
    write_model(plan, config.output)
    done = time.perf_counter()
    return {"plan_seconds": planned - started, "surgery_seconds": done - planned}


def step_normal(work: Path, base: str) -> dict[str, float]:
    """The same with `normal` on both sides, which multiplies 7,478 × 32,000 × 5,120 twice."""
    config = make_config(work, base, "normal")
    config.output.mkdir()
    plan = make_plan(config, work / base)
    started = time.perf_counter()
    write_model(plan, config.output)
    return {"surgery_seconds": time.perf_counter() - started}


def step_publish(work: Path, base: str) -> dict[str, float]:
    """Time the whole stage: also the sha256 of the base and of the output, and bringing it to the disk."""
    config = make_config(work, base, "subword-mean")
    started = time.perf_counter()
    inputs = {"model": work / base, "tokenizer": config.tokenizer}
    plan = make_plan(config, work / base)
    publish(config, stage="expand", inputs=inputs, build=lambda partial: write_model(plan, partial))
    return {"stage_seconds": time.perf_counter() - started}


def step_copy(work: Path, base: str) -> dict[str, float]:
    """Time a plain copy of the shards that hold a matrix."""
    checkpoint = open_checkpoint(work / base)
    paths = {checkpoint.find(name)[0].path for name in (checkpoint.input_name, "lm_head.weight")}
    (work / "out").mkdir()
    started = time.perf_counter()
    for path in sorted(paths):
        shutil.copyfile(path, work / "out" / path.name)
    return {"copy_seconds": time.perf_counter() - started}


def step_resize(work: Path, base: str, *, mean_resizing: bool) -> dict[str, float]:
    """Time loading, resizing and saving with transformers."""
    started = time.perf_counter()
    model = LlamaForCausalLM.from_pretrained(work / base, dtype=torch.bfloat16)
    loaded = time.perf_counter()
    model.resize_token_embeddings(39_488, mean_resizing=mean_resizing)
    resized = time.perf_counter()
    model.save_pretrained(work / "out", max_shard_size=SHARD_BYTES)
    done = time.perf_counter()
    return {
        "load_seconds": loaded - started,
        "resize_seconds": resized - loaded,
        "save_seconds": done - resized,
        "total_seconds": done - started,
    }


STEPS = {
    "expand": step_expand,
    "expand, normal": step_normal,
    "expand, whole stage": step_publish,
    "copy": step_copy,
    "resize": lambda work, base: step_resize(work, base, mean_resizing=True),
    "resize, mean_resizing=False": lambda work, base: step_resize(work, base, mean_resizing=False),
}


def measure(step: str, work: Path, base: str) -> dict[str, float]:
    """Run one step in a process of its own; its seconds, and its peak resident memory in GB."""
    shutil.rmtree(work / "out", ignore_errors=True)
    os.sync()  # what the last step left unwritten must not slow this one
    command = [sys.executable, __file__, "--step", step, "--base", base, "--work", str(work)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return {"not_done_after_seconds": LIMIT_SECONDS}
    if done.returncode != 0:
        return {"exit_code": done.returncode}
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{base}: {step}: {found}", file=sys.stderr)
    return found


def median_of(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "runs/bench-expand", help="scratch folder; removed")
    parser.add_argument("--repeats", type=int, default=5, help="runs of expand and copy; medians are reported")
    parser.add_argument("--resize-layers", type=int, default=28, help="layers of that comparison; 0 for none")
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results/expand", help="path without suffix")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        found = STEPS[options.step](options.work, options.base)
        print(json.dumps(found | {"peak_rss_gb": peak_rss_bytes() / 1e9}))
        return
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    vocabularies = {"base": str(SHARED / "tokenizers/llama2"), "donor": str(SHARED / "tokenizers/kobert")}
    vocab = MergeVocabConfig(**vocabularies, output=options.work / "vocab", pad_to_multiple_of=64)
    merge_vocab(vocab)
    result = run_all(options.work, options.repeats, options.resize_layers)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    options.results.with_suffix(".md").write_text(report(result))
    shutil.rmtree(options.work)
    print(report(result))


def run_all(work: Path, repeats: int, resize_layers: int) -> dict[str, Any]:
    """All figures: 13B sparse, 13B with values in the shards that change, and the shape that resize can hold."""
    result: dict[str, Any] = {
        "machine": machine(),
        "commit": commit(),
        "repeats": repeats,
        "resize_layers": resize_layers,
    }
    for base, values in (("13b-sparse", False), ("13b-values", True)):
        make_checkpoint(work / base, LAYERS_13B, values=values)
        runs = [(measure("expand", work, base), measure("copy", work, base)) for _ in range(repeats + 1)][1:]
        if any("exit_code" in run for pair in runs for run in pair):
            raise SystemExit(f"{base}: a run failed; what it said is above")
        result[base] = {
            "expand": median_of([run for run, _ in runs]),
            "copy": median_of([run for _, run in runs]),
            "ratio": statistics.median(run["surgery_seconds"] / copy["copy_seconds"] for run, copy in runs),
            "ratios": [run["surgery_seconds"] / copy["copy_seconds"] for run, copy in runs],
        }
        if values:
            result[base]["expand, normal"] = measure("expand, normal", work, base)
            result[base]["expand, whole stage"] = measure("expand, whole stage", work, base)
        shutil.rmtree(work / base)
    result["side by side"] = {}
    if resize_layers == 0:
        return result
    make_checkpoint(work / "resize", resize_layers, values=True)
    for step in ("expand", "resize, mean_resizing=False", "resize"):
        result["side by side"][step] = measure(step, work, "resize")
    return result


INTRODUCTION = """# expand on a 13B-shaped checkpoint

`python scripts/bench_expand.py`; {machine}; commit {commit}.
Medians of {repeats} runs after one that is not counted, expand and copy by turns, warm page cache, each run a process
of its own.

Hidden 5120, 40 layers, 32,000 → 39,488 rows (7,478 new pieces, 10 padding), bf16, 26 GB in shards of about 2 GB,
`subword-mean` on both sides. *Surgery* is everything that is written: the new rows, the two shards that hold a matrix,
links, config, index, tokenizer. *Plan* comes before it: headers, both tokenizers, spellings. *Copy* is
shutil.copyfile of the two shards that hold a matrix, 3.2 GB, one after the other; expand writes them side by side.

| checkpoint | plan s | surgery s | copy s | surgery / copy (each run) | peak RSS GB |
|---|--:|--:|--:|---|--:|"""


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [INTRODUCTION.format(**{key: result[key] for key in ("machine", "commit", "repeats")})]
    for base, what in (("13b-sparse", "sparse, all zeros"), ("13b-values", "values in the shards that change")):
        own, copy = result[base]["expand"], result[base]["copy"]
        each = ", ".join(f"{ratio:.2f}" for ratio in result[base]["ratios"])
        times = f"{own['plan_seconds']:.2f} | {own['surgery_seconds']:.2f} | {copy['copy_seconds']:.2f}"
        lines.append(f"| {what} | {times} | **{result[base]['ratio']:.2f}** ({each}) | {own['peak_rss_gb']:.2f} |")
    normal, stage = result["13b-values"]["expand, normal"], result["13b-values"]["expand, whole stage"]
    lines += [
        "",
        f"- `normal` on both sides: surgery {normal['surgery_seconds']:.1f} s, peak RSS {normal['peak_rss_gb']:.2f} GB",
        f"- The whole stage, with the sha256 of the base's 26 GB and of what was written, and fsync: "
        f"{stage['stage_seconds']:.1f} s, peak RSS {stage['peak_rss_gb']:.2f} GB",
    ]
    if not result["side by side"]:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        f"## Beside resize_token_embeddings, {result['resize_layers']} layers",
        "",
        "`from_pretrained` in bf16, `resize_token_embeddings(39488)`, `save_pretrained`; one run each.",
        "",
        "| | load s | change s | save s | total s | peak RSS GB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for step, run in result["side by side"].items():
        if "exit_code" in run:
            lines.append(f"| {step} | | | | ended with exit code {run['exit_code']} | |")
        elif "not_done_after_seconds" in run:
            lines.append(f"| {step} | | | | not done after {run['not_done_after_seconds']:.0f} s, ended | |")
        elif step == "expand":
            total = run["plan_seconds"] + run["surgery_seconds"]
            times = f"{run['plan_seconds']:.1f} (plan) | {run['surgery_seconds']:.1f} | | {total:.1f}"
            lines.append(f"| {step} | {times} | {run['peak_rss_gb']:.2f} |")
        else:
            times = " | ".join(f"{run[key]:.1f}" for key in ("load_seconds", "resize_seconds", "save_seconds"))
            lines.append(f"| {step} | {times} | {run['total_seconds']:.1f} | {run['peak_rss_gb']:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
