"""Makes data/: the demo's small bilingual corpus, its held-out text, instructions, pairs of answers, KoBEST-like tasks.

Everything comes from the tables in scripts/demo_world/tables; the same seed gives the same bytes.

    python scripts/make_demo_data.py [--output data]
"""

import argparse
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from demo_world.benchmarks import make_benchmarks
from demo_world.documents import (
    BILINGUAL_SHARE,
    HELDOUT_SHARES,
    TRAINING_SHARES,
    DocumentMaker,
    make_documents,
    sentences,
)
from demo_world.instructions import make_instructions
from demo_world.preferences import make_preferences
from demo_world.world import Language, World

SEED = "bllossom demo"
# bytes of text; the mixture of the demo takes Korean and English 7:3, and the base is pretrained on English alone
CORPUS_BYTES = {"ko": 1_000_000, "en": 460_000, "en_base": 640_000}
HELDOUT_BYTES = {"ko": 80_000, "en": 70_000}


def make_corpora(world: World) -> dict[str, list[str]]:
    """Path below data/ (without .jsonl) → documents. No training document occurs twice, over all files."""
    corpora: dict[str, list[str]] = {}
    for lang in ("ko", "en"):
        seen: set[str] = set()
        for name in (n for n in CORPUS_BYTES if n.startswith(lang)):
            shares = TRAINING_SHARES | ({"bilingual": BILINGUAL_SHARE} if lang == "ko" else {})
            maker = DocumentMaker(world, lang, random.Random(f"{SEED} {name}"))
            corpora[f"corpus/{name}"] = list(make_documents(maker, shares, CORPUS_BYTES[name], seen, frozenset()))
        forbidden = frozenset(s for text in seen for s in sentences(text))
        corpora[f"heldout/{lang}"] = heldout_documents(world, lang, forbidden)
    for documents in corpora.values():
        random.Random(SEED).shuffle(documents)
    return corpora


def heldout_documents(world: World, lang: Language, forbidden: frozenset[str]) -> list[str]:
    maker = DocumentMaker(world, lang, random.Random(f"{SEED} heldout {lang}"), heldout=True)
    return list(make_documents(maker, HELDOUT_SHARES, HELDOUT_BYTES[lang], set(), forbidden))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def make_demo_data(output: Path) -> None:
    """Writes all files below `output`; other files there stay as they are."""
    world = World()
    for name, documents in make_corpora(world).items():
        write_jsonl(output / f"{name}.jsonl", ({"text": text} for text in documents))
    for lang in ("ko", "en"):
        examples = make_instructions(world, lang, random.Random(f"{SEED} instructions {lang}"))
        write_jsonl(output / f"instructions/{lang}_train.jsonl", examples)
    pairs = make_preferences(world, random.Random(f"{SEED} preferences"))
    write_jsonl(output / "preferences/ko.jsonl", pairs)
    for name, rows in make_benchmarks(world, random.Random(f"{SEED} benchmarks")).items():
        write_jsonl(output / f"benchmarks/kobest/{name}.jsonl", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the demo's data from its tables.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "data")
    make_demo_data(parser.parse_args().output)


if __name__ == "__main__":
    main()
