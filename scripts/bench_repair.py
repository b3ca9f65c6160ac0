"""Measure `repair: add` on donors of other alphabets than the one it was made for.

    python scripts/bench_repair.py --shared ../shared --output docs/results

For Greek, Thai, Hindi and Amharic: words of the language's shape are generated (no text of these languages is needed:
what makes repair hard is how many parts words have, and whether the base has the letters), a Unigram donor is trained
on them, and merge-vocab puts it on Llama 2's vocabulary, with and without repair. A BPE donor of the same size stands
beside. Writes repair.md and repair.json.
"""

import argparse
import itertools
import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from machine import commit, machine

from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.train import TrainVocabConfig, train_vocab

BAR_SECONDS = 180
STEMS, ENDINGS = 12_000, 60


@dataclass(frozen=True)
class Shape:
    """How words of a language are built: letters, their order, and what stands between words."""

    onsets: tuple[str, ...]
    vowels: tuple[str, ...]
    codas: tuple[str, ...]
    syllables: tuple[int, int]
    space: str = " "


def _letters(first: int, last: int, without: str = "") -> tuple[str, ...]:
    return tuple(chr(number) for number in range(first, last + 1) if chr(number) not in without)


SHAPES = {
    "Greek": Shape(tuple("βγδζθκλμνξπρστφχψ"), (*"αεηιουωάέήίόύώ", "ου", "αι", "ει"), ("", "", "ς", "ν"), (2, 5)),
    # Written without spaces between words.
    "Thai": Shape(
        _letters(0x0E01, 0x0E2E), ("ะ", "า", "ิ", "ี", "ุ", "ู", "้า", "่อ", "ั"), ("", "น", "ง", "ก", "ม"), (1, 3), ""
    ),
    "Hindi": Shape(
        _letters(0x0915, 0x0939, "ऩऱऴ"), ("", "", "ा", "ि", "ी", "ु", "े", "ो", "ं", "्र"), ("", "", "न", "र"), (2, 4)
    ),
    # Syllabic: each letter is three bytes, and Llama 2 has none of them.
    "Amharic": Shape(_letters(0x1200, 0x1356), ("",), ("",), (2, 6)),
}


def generate_text(shape: Shape, path: Path, words: int, seed: int = 0) -> None:
    """Sentences of stems with endings, a few of them often and most of them seldom (Zipf); each is a document."""
    generator = random.Random(seed)

    def syllables(least: int, most: int) -> str:
        parts = (
            generator.choice(shape.onsets) + generator.choice(shape.vowels) + generator.choice(shape.codas)
            for _ in range(generator.randint(least, most))
        )
        return "".join(parts)

    stems = [syllables(*shape.syllables) for _ in range(STEMS)]
    endings = ["", "", *(syllables(1, 1) for _ in range(ENDINGS))]
    stem_weights = list(itertools.accumulate(1 / (i + 10) for i in range(len(stems))))
    ending_weights = list(itertools.accumulate(1 / (i + 3) for i in range(len(endings))))
    with path.open("w", encoding="utf8") as file:
        for _ in range(words // 12):
            chosen = zip(
                generator.choices(stems, cum_weights=stem_weights, k=12),
                generator.choices(endings, cum_weights=ending_weights, k=12),
                strict=True,
            )
            file.write(shape.space.join(stem + ending for stem, ending in chosen) + ".\n\n")


def measure(name: str, base: Path, folder: Path, pieces: int, words: int) -> list[dict[str, Any]]:
    """The rows of one alphabet."""
    text = folder / f"{name}.txt"
    generate_text(SHAPES[name], text, words)
    rows = []
    runs: tuple[tuple[Literal["unigram", "bpe"], Literal["none", "add"]], ...] = (
        ("unigram", "none"),
        ("unigram", "add"),
        ("bpe", "add"),
    )
    for kind, repair in runs:
        donor = folder / f"{name}-{kind}"
        if not donor.exists():
            train_vocab(TrainVocabConfig(text=[str(text)], type=kind, vocab_size=pieces, output=donor))
        output = folder / f"{name}-{kind}-{repair}"
        config = MergeVocabConfig(
            base=str(base), donor=str(donor), repair=repair, samples={name: [str(text)]}, output=output
        )
        started = time.perf_counter()
        figures = merge_vocab(config).figures
        seconds = time.perf_counter() - started
        rows.append(
            {
                "alphabet": name,
                "donor": kind,
                "repair": repair,
                "seconds": round(seconds, 1),
                "new_pieces": figures["new_pieces"],
                "intermediates": figures["intermediates"],
                "never_produced": figures["unreachable_pieces"],
                **figures["tokens_per_word"][name],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def to_markdown(result: dict[str, Any]) -> str:
    """The table of repair.md."""
    lines = [
        "# Repair of other alphabets",
        "",
        f"{result['machine']}, commit {result['commit']}; `python scripts/bench_repair.py`. Donors of "
        f"{result['pieces']:,} pieces, trained on {result['words']:,} generated words, on Llama 2's vocabulary; the "
        f"whole stage with samples, proof and report. Bar: {BAR_SECONDS} s.",
        "",
        "| alphabet | donor | repair | s | new pieces | intermediates | never produced | tokens per word | limit |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in result["rows"]:
        cells = (row["alphabet"], row["donor"], row["repair"], row["seconds"], f"{row['new_pieces']:,}")
        more = (f"{row['intermediates']:,}", f"{row['never_produced']:,}", row["merged"], row["shortest"])
        lines.append("| " + " | ".join(map(str, (*cells, *more))) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with tokenizers/")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--pieces", type=int, default=8_000, help="pieces of each donor")
    parser.add_argument("--words", type=int, default=150_000, help="generated words")
    parser.add_argument("--only", choices=SHAPES, nargs="*", default=list(SHAPES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = arguments.shared / "tokenizers/llama2"
        made = [measure(name, base, Path(folder), arguments.pieces, arguments.words) for name in arguments.only]
    result = {
        "machine": machine(),
        "commit": commit(),
        "pieces": arguments.pieces,
        "words": arguments.words,
        "rows": [row for rows in made for row in rows],
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "repair.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")
    (arguments.output / "repair.md").write_text(to_markdown(result), encoding="utf8")
    print(to_markdown(result))


if __name__ == "__main__":
    main()
