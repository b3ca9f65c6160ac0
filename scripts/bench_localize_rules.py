"""How often each rule flags real sentences of the language: `python scripts/bench_localize_rules.py CORPUS_FOLDER`.

Draws 1,000 sentences from the folder's files (the same number from each, by the seed), takes each as an answer without
a source, and prints each rule's share and a sample of 50 flags to be judged one by one.
"""

import argparse
import io
import json
import random
from collections import Counter
from pathlib import Path

import zstandard

from bllossom.localize.language import load_language, load_source_language
from bllossom.localize.rules.checker import Checker
from bllossom.localize.rules.reading import SENTENCE_END, Passage

LEAST, MOST = 15, 300  # characters of a sentence
SENTENCES = 1_000
SAMPLE = 50


def main() -> None:
    """Draw, flag, count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of .jsonl.zst files, each record with a text")
    parser.add_argument("--language", default="ko")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    files = sorted(arguments.folder.glob("*.jsonl.zst"))
    sentences = [sentence for path in files for sentence in sample(path, draw, -(-SENTENCES // len(files)))]
    sentences = sentences[:SENTENCES]
    checker = Checker(load_language(arguments.language), load_source_language("en"))
    flags = [
        (flag, sentence) for sentence in sentences for flag in checker.flags("", [Passage("assistant", "", sentence)])
    ]
    flagged = Counter(rule for rule, _ in {(flag.rule, sentence) for flag, sentence in flags})
    print(f"{len(sentences)} sentences of {len(files)} files, {len(flags)} flags")
    for rule, count in flagged.most_common():
        print(f"{rule:26} {count / len(sentences):.1%}")
    for flag, sentence in draw.sample(flags, min(SAMPLE, len(flags))):
        print(f"[{flag.rule}] {flag.reason}\n    {sentence}")


def sample(path: Path, draw: random.Random, count: int) -> list[str]:
    """`count` sentences of a file's documents."""
    with path.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as stream:
        documents = [json.loads(line)["text"] for line in io.TextIOWrapper(stream, encoding="utf8")]
    found: list[str] = []
    while len(found) < count:
        pieces = [
            piece.strip()
            for piece in SENTENCE_END.sub(lambda match: match[0] + "\0", draw.choice(documents)).split("\0")
        ]
        whole = [piece for piece in pieces if LEAST <= len(piece) <= MOST and piece[-1] in ".?!"]
        found += draw.sample(whole, min(3, len(whole)))
    return found[:count]


if __name__ == "__main__":
    main()
