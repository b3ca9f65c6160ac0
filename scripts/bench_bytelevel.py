"""Measure new pieces for a byte-level base on Korean that learning did not see, beside the two plain methods.

    python scripts/bench_bytelevel.py --base models/smollm2 --shared ../shared --work runs/bench-bytelevel

Text: Korean of --shared, the first 4,000 characters of each document; words by white space. Each of the six sources is
left out once: pieces are chosen on the five others, and tokens per word counted on it, at 2,000, 4,000 and 6,000 new
rows (parts of characters counted). The methods:

- list: KoBERT's pieces in its order, each chained left to right, as many as fit;
- continued BPE: the base's own BPE goes on, on plain counts (arXiv 2512.03989);
- both: what `donor: [kobert, {text: …}]` does (vocab/learning).

Then KoBERT's whole list with `repair: add`, beside the shortest segmentation of all its text. Results go to
docs/results/bytelevel.md and .json; a fold that is in --work already is not measured again.
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import commit, machine

from bllossom.text.sources import read_documents
from bllossom.tokenizer.scripts import ScriptCodePoints
from bllossom.vocab.donor import find_donor, read_donor
from bllossom.vocab.families.bases import Base, open_base
from bllossom.vocab.families.vocabulary import Atoms, count_atoms, count_words
from bllossom.vocab.learning.from_text import encode_with
from bllossom.vocab.learning.learn import Pair, learn, weigh, without_loose_ends
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.repair.priorities import join

SIZES = (2000, 4000, 6000)
FIRST_CHARACTERS = 4_000
SCRIPTS = ("Hangul",)


class Source:
    """One source: its words as the base's atoms, and how many stand between spaces."""

    def __init__(self, base: Base, path: Path) -> None:
        texts = [text[:FIRST_CHARACTERS] for text in read_documents(str(path))]
        self.spaced = sum(len(text.split()) for text in texts)
        words = count_words(base.vocabulary, texts)
        points = ScriptCodePoints(SCRIPTS)
        self.all = count_atoms(base.vocabulary, words)
        theirs = {word: count for word, count in words.items() if points.holds(base.vocabulary.read(word))}
        self.theirs = count_atoms(base.vocabulary, theirs)

    def tokens_per_word(self, merges: Sequence[Pair]) -> float:
        """With these merges behind the base's."""
        encoded = encode_with(merges, list(self.all))
        counts = self.all.values()
        return sum(len(pieces) * count for pieces, count in zip(encoded, counts, strict=True)) / self.spaced


def chain(base: Base, pieces: Sequence[str]) -> list[Pair]:
    """For each piece in turn, merges that join what the merges so far leave of it, from the left."""
    ranks: dict[str, float] = {}
    merges: list[Pair] = []
    for piece in pieces:
        symbols = join(base.vocabulary.spell(piece), ranks)
        while len(symbols) > 1:
            merges.append((symbols[0], symbols[1]))
            ranks[symbols[0] + symbols[1]] = float(len(ranks))
            symbols = join(symbols, ranks)
    return merges


def plain_counts(sources: Sequence[Source]) -> dict[Atoms, float]:
    """All words, as often as they occur."""
    counts: Counter[Atoms] = Counter()
    for source in sources:
        counts.update(source.theirs)
    return {atoms: float(count) for atoms, count in counts.items()}


def measure_fold(
    base: Base, donor: Mapping[str, float], sources: Mapping[str, Source], left_out: str
) -> dict[str, list[float]]:
    """Tokens per word on the source left out, by method, at each size."""
    others = [source for name, source in sources.items() if name != left_out]
    allowed, known, whole = base.allowed(SCRIPTS), frozenset(base.vocabulary.pieces), base.vocabulary.is_whole
    spelled = {base.vocabulary.spell(piece): likely for piece, likely in donor.items()}
    methods = {
        "list": chain(base, list(donor)),
        "continued BPE": learn(plain_counts(others), SIZES[-1], allowed, known, whole),
        "both": learn(weigh([source.theirs for source in others], [spelled]), SIZES[-1], allowed, known, whole),
    }
    return {
        name: [round(sources[left_out].tokens_per_word(without_loose_ends(m[:n], whole)), 4) for n in SIZES]
        for name, m in methods.items()
    }


def measure_list(options: argparse.Namespace, sources: Mapping[str, Source], base: Base) -> dict[str, Any]:
    """KoBERT's list with repair: add, on all samples: the stage's figures, and tokens per word on the text above."""
    config = MergeVocabConfig(
        base=str(options.base),
        donor=str(options.shared / "tokenizers/kobert"),
        donor_filter=list(SCRIPTS),
        repair="add",
        samples={"ko": [str(options.shared / "corpus/ko")]},
        output=options.work / "kobert",
    )
    manifest = merge_vocab(config, force=True)
    settings = json.loads((config.output / "tokenizer.json").read_text(encoding="utf8"))
    old = len(json.loads((options.base / "tokenizer.json").read_text(encoding="utf8"))["model"]["merges"])
    merges = [(left, right) for left, right in settings["model"]["merges"][old:]]
    tokens = sum(source.tokens_per_word(merges) * source.spaced for source in sources.values())
    return {
        "new_rows": manifest.figures["new_pieces"],
        "intermediates": manifest.figures["intermediates"],
        "unreachable": manifest.figures["unreachable_pieces"],
        "tokens_per_word": round(tokens / sum(source.spaced for source in sources.values()), 4),
        "all_text": manifest.figures["tokens_per_word"]["ko"],
        "seconds": manifest.run["wall_seconds"],
    }


def to_markdown(result: dict[str, Any]) -> str:
    """The tables of bytelevel.md."""
    folds: dict[str, dict[str, list[float]]] = result["folds"]
    lines = [
        "# New pieces for a byte-level base",
        "",
        f"SmolLM2's 49,152 pieces and Korean; {result['machine']}, commit {result['commit']}; "
        "`python scripts/bench_bytelevel.py`.",
        "",
        "Tokens per word on the source that was left out, at so many new rows (parts of characters counted). *list*: "
        "KoBERT's pieces in its order, chained left to right; *continued BPE*: the base's BPE goes on, plain counts; "
        "*both*: `donor: [kobert, {text: …}]`, words weighed as vocab/learning/learn.py says, the list as a source.",
        "",
        "| left out | base | "
        + " | ".join(f"{name}, {n:,}" for n in SIZES for name in next(iter(folds.values())))
        + " |",
        "|---|--:|" + "--:|" * 3 * len(SIZES),
    ]
    for name, methods in folds.items():
        cells = [f"{methods[m][i]:.3f}" for i in range(len(SIZES)) for m in methods]
        lines.append(f"| {name} | {result['base'][name]:.3f} | " + " | ".join(cells) + " |")
    below = all(m["both"][i] < min(m["list"][i], m["continued BPE"][i]) for m in folds.values() for i in range(3))
    lines += ["", f"Below both others in {'every' if below else 'not every'} cell.", ""]
    if (whole := result.get("list")) is not None:
        above = 100 * (whole["all_text"]["merged"] / whole["all_text"]["shortest"] - 1)
        lines += [
            f"KoBERT's whole list with `repair: add` (learned on all of the text): {whole['new_rows']:,} new rows, "
            f"{whole['intermediates']:,} of them intermediates, {whole['unreachable']} never produced; "
            f"{whole['tokens_per_word']:.3f} tokens per word on the text above, for the base's "
            f"{result['base']['all']:.3f}. On all text {whole['all_text']['merged']:.4f}, {above:.2f} % above the "
            f"shortest segmentation into the same pieces ({whole['all_text']['shortest']:.4f}). The stage took "
            f"{whole['seconds']:.0f} s, certificate and report included.",
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path("models/smollm2"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--work", type=Path, default=Path("runs/bench-bytelevel"))
    parser.add_argument("--results", type=Path, default=Path("docs/results/bytelevel"), help="path without suffix")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    kept = options.work / "folds.json"
    base = open_base(str(options.base))
    files = sorted((options.shared / "corpus/ko").glob("*.zst"))
    sources = {file.name.removesuffix(".jsonl.zst"): Source(base, file) for file in files}
    listed = read_donor(find_donor(str(options.shared / "tokenizers/kobert")))
    points = ScriptCodePoints(SCRIPTS)
    written = {base.vocabulary.write(piece): likely for piece, likely in listed.likely.items() if points.holds(piece)}
    donor = {p: likely for p, likely in written.items() if p is not None and p not in set(base.vocabulary.pieces)}
    folds: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in sources:
        if name not in folds:
            folds[name] = measure_fold(base, donor, sources, name)
            kept.write_text(json.dumps(folds))
            print(name, folds[name], flush=True)
    per_word = {name: round(source.tokens_per_word([]), 4) for name, source in sources.items()}
    spaced = sum(source.spaced for source in sources.values())
    per_word["all"] = round(sum(per_word[name] * source.spaced for name, source in sources.items()) / spaced, 4)
    result = {"machine": machine(), "commit": commit(), "base": per_word, "folds": folds}
    result["list"] = measure_list(options, sources, base)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.with_suffix(".json").write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    options.results.with_suffix(".md").write_text(to_markdown(result), encoding="utf8")
    print(to_markdown(result))


if __name__ == "__main__":
    main()
