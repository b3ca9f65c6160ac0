"""Measure `bllossom prepare` beside datasets.map + group_texts (transformers' run_clm), on the same text.

    python scripts/bench_prepare.py                      # 100 MB both ways, 1 GB for the memory of prepare alone
    python scripts/bench_prepare.py --repeats 1 --large-mb 0

The text is the real Korean and English corpora below BLLOSSOM_SHARED (default ../shared), repeated with a tenth of the
letters exchanged in every copy after the first, so that no cache flatters anyone; half of it is Korean by bytes. The
tokenizer is Llama 2's merged with KoBERT's (39,478 pieces). Every run is a process of its own; its time is that of the
work after imports, and its memory the largest sum over its process tree of resident memory, shared pages counted once
(PSS), seen every 50 ms. Files were just read, so the page cache is warm for both sides. Results go to
docs/results/prepare.md and .json.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from machine import commit, machine

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("BLLOSSOM_SHARED", ROOT.parent / "shared"))
LANGUAGES = ("ko", "en")
BLOCK = 2048

PREPARE = """
import json, sys, time
from pathlib import Path
from bllossom.corpus.prepare import PrepareConfig, prepare
config = PrepareConfig.model_validate(json.loads(sys.argv[1]))
start = time.perf_counter()
figures = prepare(config).figures
seconds = time.perf_counter() - start
held = sum(source["heldout"]["tokens"] for source in figures["sources"].values() if source["heldout"])
size = sum(path.stat().st_size for path in config.output.rglob("*") if path.is_file())
size -= sum(path.stat().st_size for path in (config.output / "tokenizer").iterdir())
result = {"seconds": seconds, "tokens": figures["tokens"] + held, "bytes": size, "encoders": figures["encoders"]}
print(json.dumps(result))
"""

DATASETS = """
import json, sys, time
from pathlib import Path
from datasets import load_dataset
from transformers import PreTrainedTokenizerFast
settings = json.loads(sys.argv[1])
tokenizer = PreTrainedTokenizerFast.from_pretrained(settings["tokenizer"])
block = settings["block"]

def tokenize(batch):
    return tokenizer(batch["text"])

def group_texts(batch):
    joined = {key: [token for row in batch[key] for token in row] for key in batch}
    total = len(joined["input_ids"]) // block * block
    result = {key: [value[at : at + block] for at in range(0, total, block)] for key, value in joined.items()}
    result["labels"] = [row.copy() for row in result["input_ids"]]
    return result

start = time.perf_counter()
raw = load_dataset("json", data_files=settings["files"], split="train", cache_dir=settings["cache"])
tokens = raw.map(tokenize, batched=True, num_proc=settings["processes"], remove_columns=["text"])
blocks = tokens.map(group_texts, batched=True, num_proc=settings["processes"])
seconds = time.perf_counter() - start
size = sum(Path(file["filename"]).stat().st_size for file in blocks.cache_files)
print(json.dumps({"seconds": seconds, "tokens": len(blocks) * block, "bytes": size}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small-mb", type=int, default=100, help="text for both ways, in MB")
    parser.add_argument(
        "--large-mb", type=int, default=1000, help="text for the memory of prepare alone; 0 leaves it out"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=None, help="an empty folder for text and outputs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "prepare")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        results = measure(work, arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text(render(results))
    print(render(results))


def measure(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(work)
    small = make_text(work / f"small-{arguments.small_mb}", arguments.small_mb)
    ours, theirs = [], []
    for _ in range(arguments.repeats):
        ours.append(run_prepare(work, small, tokenizer))
        theirs.append(run_datasets(work, small, tokenizer))
    reference = run_prepare(work, small, tokenizer, force_reference=True)
    results: dict[str, Any] = {
        "machine": machine(),
        "commit": commit(),
        "text_bytes": {"small": text_bytes(small)},
        "prepare": ours,
        "datasets": theirs,
        "reference": [reference],
        "near_lookup_ms": near_lookup_ms(),
    }
    if arguments.large_mb:
        large = make_text(work / f"large-{arguments.large_mb}", arguments.large_mb)
        results["text_bytes"]["large"] = text_bytes(large)
        results["prepare_large"] = [run_prepare(work, large, tokenizer)]
    return results


def near_lookup_ms() -> dict[str, float]:
    """Milliseconds to find which of 1,000 documents are among 1,000,000 near duplicates: prepare's way, and np.isin."""
    from bllossom.corpus.dedup import are_among

    near, batch = np.arange(0, 3_000_000, 3), np.arange(500_000, 501_000)

    def milliseconds(look: Callable[[Any, Any], Any]) -> float:
        return min(timeit.repeat(lambda: look(batch, near), number=10, repeat=5)) * 100

    return {"prepare": milliseconds(are_among), "np.isin": milliseconds(np.isin)}


def make_tokenizer(work: Path) -> Path:
    from bllossom.vocab.merge import MergeVocabConfig, merge_vocab

    vocabularies = SHARED / "tokenizers"
    output = work / "tokenizer"
    config = MergeVocabConfig(
        base=str(vocabularies / "llama2/tokenizer.model"),
        donor=str(vocabularies / "kobert/spiece.model"),
        output=output,
    )
    merge_vocab(config)
    return output


def make_text(folder: Path, megabytes: int) -> list[Path]:
    """A JSONL file per language, together of so many MB of text; made once."""
    files = [folder / f"{language}.jsonl" for language in LANGUAGES]
    if all(file.exists() for file in files):
        return files
    folder.mkdir(parents=True, exist_ok=True)
    for language, file in zip(LANGUAGES, files, strict=True):
        left = megabytes * 1_000_000 // len(LANGUAGES)
        unfinished = file.with_suffix(".unfinished")
        with unfinished.open("w", encoding="utf8") as out:
            for text in copies(language):
                out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                left -= len(text.encode())
                if left <= 0:
                    break
        unfinished.rename(file)
    return files


def copies(language: str) -> Iterator[str]:
    """The corpus of a language over and over; from the second time on, a tenth of its letters stand for one another."""
    from bllossom.text.sources import read_documents

    rng = random.Random(language)
    texts = list(read_documents(str(SHARED / "corpus" / language)))
    yield from texts
    letters = sorted({letter for text in texts for letter in text if letter.isalpha()})
    while True:
        exchanged = rng.sample(letters, k=len(letters) // 10)
        table = str.maketrans(dict(zip(exchanged, exchanged[1:] + exchanged[:1], strict=True)))
        yield from (text.translate(table) for text in texts)


def text_bytes(files: list[Path]) -> int:
    from bllossom.text.sources import read_documents

    return sum(len(text.encode()) for file in files for text in read_documents(str(file)))


def run_prepare(work: Path, files: list[Path], tokenizer: Path, *, force_reference: bool = False) -> dict[str, Any]:
    output = work / "tokens"
    config = {
        "tokenizer": str(tokenizer),
        "sources": {language: [str(file)] for language, file in zip(LANGUAGES, files, strict=True)},
        "output": str(output),
        "holdout": 0.005,
    }
    code = PREPARE
    if force_reference:
        code = "import sys\nsys.modules['gigatoken'] = None" + code
    result = run(code, config)
    shutil.rmtree(output)
    return result


def run_datasets(work: Path, files: list[Path], tokenizer: Path) -> dict[str, Any]:
    cache = work / "cache"
    settings = {
        "tokenizer": str(tokenizer),
        "files": [str(file) for file in files],
        "cache": str(cache),
        "block": BLOCK,
        "processes": os.cpu_count(),
    }
    result = run(DATASETS, settings)
    shutil.rmtree(cache)
    return result


def run(code: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Run one side in a process of its own, and watch the memory of its tree."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", code, json.dumps(settings)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    peak = 0
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, resident(tree))
        time.sleep(0.05)
    assert process.stdout is not None
    assert process.stderr is not None
    if process.returncode:
        raise SystemExit(process.stderr.read())
    result: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    return result | {"peak_rss_bytes": peak}


def resident(tree: psutil.Process) -> int:
    """Resident bytes of a process and its children, shared pages counted once (PSS), as far as they are still there.

    A child of a moment ago may be a vfork that has not started its own program yet, and shows its parent's memory.
    """
    try:
        children = [child for child in tree.children(recursive=True) if time.time() - child.create_time() > 0.3]
    except psutil.NoSuchProcess:  # something ended between being listed and being looked at: see its parent alone
        children = []
    return sum(proportional(process) for process in (tree, *children))


def proportional(process: psutil.Process) -> int:
    """A process's proportional set size in bytes; 0 once it has ended, and holds nothing any more."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0


def render(results: dict[str, Any]) -> str:
    small = results["text_bytes"]["small"]
    rows = [
        ("prepare", results["prepare"], small),
        ("prepare, without gigatoken", results["reference"], small),
        ("datasets.map + group_texts", results["datasets"], small),
    ]
    if "prepare_large" in results:
        rows.append(("prepare", results["prepare_large"], results["text_bytes"]["large"]))
    base = small / statistics.median(run["seconds"] for run in results["datasets"]) / 1e6
    lines = [
        "# prepare, beside datasets.map + group_texts",
        "",
        f"{results['machine']}; commit {results['commit']}; `python scripts/bench_prepare.py`.",
        "NFC and exact deduplication are on, near duplicates off. Medians; in brackets the lowest and highest.",
        "",
        "| way | text, MB | MB/s | ratio | bytes a token | peak RSS, GB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, runs, size in rows:
        rates = [size / run["seconds"] / 1e6 for run in runs]
        rate = statistics.median(rates)
        memory = max(run["peak_rss_bytes"] for run in runs) / 1e9
        each = statistics.median(run["bytes"] / run["tokens"] for run in runs)
        spread = f" ({min(rates):.1f}–{max(rates):.1f})" if len(rates) > 1 else ""
        lines.append(
            f"| {name} | {size / 1e6:,.0f} | {rate:.1f}{spread} | {rate / base:.1f} × | {each:.2f} | {memory:.2f} |"
        )
    near = results["near_lookup_ms"]
    kept = statistics.median(run["tokens"] for run in results["datasets"])
    ours = statistics.median(run["tokens"] for run in results["prepare"])
    lines += [
        "",
        f"Which of 1,000 documents are among 1,000,000 near duplicates is found in {near['prepare']:.2f} ms; np.isin "
        f"takes {near['np.isin']:.1f} ms.",
        "",
        f"Tokens in the output: prepare {ours:,.0f}, datasets {kept:,.0f} (what does not fill a block is dropped).",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
