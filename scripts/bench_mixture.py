"""Measure reading random blocks of a mixture, beside datasets.interleave_datasets, on the same tokens.

    python scripts/bench_mixture.py

Korean and English below BLLOSSOM_SHARED (default ../shared) are prepared with Llama 2's tokenizer; the blocks of 2,048
tokens, 7:3, are then written as a data set per language, and interleaved and shuffled. Every side gives int64 arrays
of its own (a view into a file would have read nothing yet). `row by row` takes rows of the interleaved set, in the
faster of its two formats; `materialised` has it written out in order first (flatten_indices, not timed) and reads
Arrow batches, its fastest way, measured with several sizes of batch; it has neither positions nor the documents' ids.
Ours is the path that training takes: `mixture.block`, one by one, with positions and documents. All sides read the
same number of blocks, taking turns; the files are in the page cache, and the mixture is opened anew for each reading:
it has to find out again which block is where.
Results go to docs/results/mixture.md and .json.
"""

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Sequence, Value, interleave_datasets
from machine import commit, machine

from bllossom.corpus.prepare import PrepareConfig, prepare
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokens.mixture import Mixture, MixtureConfig

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("BLLOSSOM_SHARED", ROOT.parent / "shared"))
BLOCK = 2048
WEIGHTS = {"ko": 7.0, "en": 3.0}
BATCHES = (64, 256, 512)
OURS, ARROW = "mixture.block", "interleave_datasets, materialised, Arrow batches"
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=16384, help="blocks read by each side, or all there are")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, default=None, help="an empty folder for tokens and data sets")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "mixture")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = measure(arguments.work or Path(temporary), arguments.blocks, arguments.repeats)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text(render(results))
    print(render(results))


def measure(work: Path, blocks: int, repeats: int) -> dict[str, Any]:
    config = PrepareConfig.model_validate(
        {
            "tokenizer": str(SHARED / "tokenizers/llama2/tokenizer.model"),
            "sources": {language: [str(SHARED / "corpus" / language)] for language in WEIGHTS},
            "output": work / "tokens",
        }
    )
    prepare(config)

    def opened() -> Mixture:
        return Mixture.open(config.output, MixtureConfig(weights=WEIGHTS), BLOCK, seed=0)

    mixture = opened()
    blocks = min(blocks, mixture.longest())
    ways = sides(make_datasets(work, mixture, blocks), blocks)
    seconds: dict[str, list[float]] = {}
    for repeat in range(repeats + 1):
        for name, read in ways.items():
            fresh = opened()
            started = time.perf_counter()
            tokens = sum(part.size for part in read(fresh))
            if repeat:  # the first one warms the page cache
                seconds.setdefault(name, []).append((time.perf_counter() - started) / blocks)
            assert tokens == blocks * BLOCK
    return {
        "machine": machine(),
        "commit": commit(),
        "blocks": blocks,
        "seconds_per_block": seconds,
        "plan": mixture.plan(blocks).lines(),
        "read": count_read(mixture, config, blocks),
    }


def count_read(mixture: Mixture, config: PrepareConfig, blocks: int) -> dict[str, dict[str, int]]:
    """Tokens, and UTF-8 bytes of the text they spell, of the blocks as they are read, for each language."""
    tokenizer = load_tokenizer(config.output / "tokenizer")
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_ids)
    spelled = [
        0 if number in special else 1 if BYTE.fullmatch(piece) else len(piece.replace("▁", " ").encode())
        for number, piece in enumerate(pieces)
    ]
    table = np.asarray(spelled, np.int64)
    read = {language: {"tokens": 0, "bytes": 0} for language in WEIGHTS}
    for at in range(blocks):
        block = mixture.block(at)
        read[block.language]["tokens"] += block.ids.size
        # SentencePiece puts a space before each document, which is not in the text.
        read[block.language]["bytes"] += int(table[block.ids].sum() - (block.ids == tokenizer.bos_token_id).sum())
    return read


def make_datasets(work: Path, mixture: Mixture, blocks: int) -> Dataset:
    """The mixture's own blocks as a data set per language, mixed and shuffled the datasets way."""
    rows: dict[str, list[np.ndarray]] = {language: [] for language in WEIGHTS}
    for at in range(blocks):
        block = mixture.block(at)
        rows[block.language].append(block.ids.astype(np.int32))
    features = Features({"ids": Sequence(Value("int32"), length=BLOCK)})
    parts = []
    for language, ids in rows.items():
        Dataset.from_dict({"ids": ids}, features=features).save_to_disk(str(work / language))
        parts.append(Dataset.load_from_disk(str(work / language)))
    shares = [len(ids) / blocks for ids in rows.values()]
    mixed = interleave_datasets(parts, probabilities=shares, seed=0, stopping_strategy="all_exhausted")
    return mixed.shuffle(seed=0).select(range(blocks))


def sides(interleaved: Dataset, blocks: int) -> dict[str, Callable[[Mixture], Iterator[np.ndarray]]]:
    """What is measured, by name."""
    flat = interleaved.flatten_indices().with_format("arrow")
    python, numpy = interleaved.with_format(None), interleaved.with_format("numpy")
    return {
        OURS: lambda mixture: (mixture.block(at).ids for at in range(blocks)),
        "interleave_datasets, row by row (python)": lambda _: (np.asarray(python[at]["ids"]) for at in range(blocks)),
        "interleave_datasets, row by row (numpy)": lambda _: (
            numpy[at]["ids"].astype(np.int64, copy=False) for at in range(blocks)
        ),
        **{f"{ARROW} of {size}": partial(read_arrow, flat=flat, size=size) for size in BATCHES},
    }


def read_arrow(_: Mixture, flat: Dataset, size: int) -> Iterator[np.ndarray]:
    for batch in flat.iter(size):
        # astype copies, as int32 becomes int64
        yield batch["ids"].combine_chunks().flatten().to_numpy().reshape(-1, BLOCK).astype(np.int64)


def render(results: dict[str, Any]) -> str:
    medians = {name: statistics.median(times) for name, times in results["seconds_per_block"].items()}
    ours = medians[OURS]
    lines = [
        "# Reading random blocks of a mixture",
        "",
        f"{results['machine']}; commit {results['commit']}; `python scripts/bench_mixture.py`.",
        f"{results['blocks']:,} blocks of {BLOCK:,} tokens as int64; medians.",
        "",
        "| way | µs a block | beside mixture.block |",
        "|---|--:|--:|",
    ]
    lines += [f"| {name} | {1e6 * each:.1f} | {each / ours:.2f} × |" for name, each in medians.items()]
    totals = {unit: sum(read[unit] for read in results["read"].values()) for unit in ("bytes", "tokens")}
    lines += ["", "What the plan says, and what the blocks held when read:", "", "```", *results["plan"], "```", ""]
    lines += ["| language | target, by bytes | read, by bytes | read, by tokens |", "|---|--:|--:|--:|"]
    for language, read in results["read"].items():
        target = WEIGHTS[language] / sum(WEIGHTS.values())
        shares = [read[unit] / totals[unit] for unit in ("bytes", "tokens")]
        lines.append(f"| {language} | {target:.2%} | {shares[0]:.2%} | {shares[1]:.2%} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
