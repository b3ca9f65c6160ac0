"""First values of new rows on a real tied model: bits per byte at step 0, by initialiser, and after distill-rows.

    python scripts/bench_rows.py --base models/smollm2 --vocab runs/vocab --text data/ko --heldout heldout.jsonl.zst

--vocab is merge-vocab's folder for --base. Nothing is trained but the rows that distill-rows learns, from --text; what
is scored is --heldout, which it does not read. Writes docs/results/rows.md and .json; what is in --work is kept.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from machine import commit, machine
from transformers import AutoModelForCausalLM

from bllossom.evaluation.heldout import bits_per_byte
from bllossom.evaluation.scoring.scorer import Scorer
from bllossom.model.distill_rows import DistillRowsConfig, distill_rows
from bllossom.model.expand import ExpandConfig, expand
from bllossom.text.sources import read_documents
from bllossom.tokenizer.load import load_tokenizer

METHODS = ("random", "mean", "normal", "subword-mean", "subword-first", "subword-weighted")
DOCUMENT_CHARACTERS = 2_000
BATCH_TOKENS = 4096


def score(folder: Path, texts: list[str]) -> float:
    """Bits per byte of the texts under the model in `folder`."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(folder)
    return round(bits_per_byte(Scorer.of(model, BATCH_TOKENS), tokenizer, texts).bits_per_byte, 4)


def measure(options: argparse.Namespace, texts: list[str]) -> dict[str, Any]:
    """The base, each initialiser, and the best of them with its rows distilled; found results are kept."""
    kept = options.work / "rows.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"base": score(options.base, texts)}
    for method in METHODS:
        if method not in found:
            output = options.work / method
            expand(ExpandConfig(model=str(options.base), tokenizer=options.vocab, input_init=method, output=output))
            found[method] = score(output, texts)
            kept.write_text(json.dumps(found))
            print(method, found[method], flush=True)
    best = min(METHODS, key=found.__getitem__)
    if "distilled" not in found:
        config = DistillRowsConfig(
            model=options.work / best,
            base=options.base,
            text=[str(options.text)],
            steps=options.steps,
            output=options.work / "distilled",
        )
        manifest = distill_rows(config)
        figures = {key: manifest.figures[key] for key in ("distance_before", "distance_after")}
        found |= {"distilled": score(config.output, texts), "of": best, **figures}
        found["distill_seconds"] = manifest.run["wall_seconds"]
        kept.write_text(json.dumps(found))
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path("models/smollm2"))
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--heldout-kb", type=int, default=30)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-rows"))
    parser.add_argument("--results", type=Path, default=Path("docs/results/rows"), help="path without suffix")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    texts: list[str] = []
    for document in read_documents(str(options.heldout)):
        if sum(len(text.encode()) for text in texts) > 1000 * options.heldout_kb:
            break
        texts.append(document[:DOCUMENT_CHARACTERS])
    found = measure(options, texts)
    result = {
        "machine": machine(),
        "commit": commit(),
        "heldout_kb": options.heldout_kb,
        "steps": options.steps,
    } | found
    lines = [
        "# First values of new rows on a tied model",
        "",
        f"SmolLM2-135M with the pieces of {options.vocab.name}; {result['machine']}, commit {result['commit']}; "
        f"`python scripts/bench_rows.py`. Korean bits per byte on {options.heldout_kb} KB of {options.heldout.name}, "
        "before any pretraining.",
        "",
        "| rows | bits per byte |",
        "|---|--:|",
        f"| the base, without new pieces | {found['base']:.3f} |",
        *(f"| {method} | {found[method]:.3f} |" for method in METHODS),
        f"| {found['of']}, then distill-rows, {options.steps} steps ({found['distill_seconds']:.0f} s) | "
        f"{found['distilled']:.3f} |",
        "",
        f"Distance of the hidden states behind the pieces: {found['distance_before']:.4f} before, "
        f"{found['distance_after']:.4f} after.",
        "",
    ]
    options.results.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    options.results.with_suffix(".md").write_text("\n".join(lines), encoding="utf8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
