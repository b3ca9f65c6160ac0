"""Measure new pieces for a byte-level base on Korean that learning did not see, beside the two plain methods.

    python scripts/bench_bytelevel.py --base models/smollm2 --shared ../shared --work runs/bench-bytelevel

Text: Korean of --shared, the first 4,000 characters of each document; words by white space. Each of the six sources is
left out once: pieces are chosen on the five others, and tokens per word counted on it, at 2,000, 4,000 and 6,000 new
rows (parts of characters counted). The methods:

- list: KoBERT's pieces in its order, each chained left to right, as many as fit;
- continued BPE: the base's own BPE goes on, on plain counts (arXiv 2512.03989);
- both: what `donor: [kobert, {text: …}]` does (vocab/learning);
- nested: the same with the weighing chosen, out of GRID, on the five others alone: each of them left out in turn.

The weighing that ships was chosen by hand, on the mean over these very figures of all six, so that *both* has seen what
it is measured on, if only through three numbers; *nested* has not. Then KoBERT's whole list with `repair: add`, beside
the shortest segmentation of all its text, and the curve that `pieces: auto` chooses from. Results go to
docs/results/bytelevel.md and .json; what is in --work already is not measured again.
"""

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from machine import commit, machine

from bllossom.text.sources import read_normalised
from bllossom.tokenizer.scripts import ScriptCodePoints
from bllossom.vocab.donor import DonorText, find_donor, read_donor
from bllossom.vocab.families.bases import Base, open_base
from bllossom.vocab.families.vocabulary import Atoms, count_atoms, count_words
from bllossom.vocab.learning.from_text import encode_with
from bllossom.vocab.learning.learn import Pair, Weighing, learn, weigh, without_loose_ends
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.repair.priorities import join

SIZES = (2000, 4000, 6000)
FIRST_CHARACTERS = 4_000
SCRIPTS = ("Hangul",)
GRID = [
    Weighing(0.7, 0.1, 0.1),
    Weighing(0.5, 0.1, 0.1),
    Weighing(0.85, 0.1, 0.1),
    Weighing(0.7, 0.1, 0.4),
    Weighing(0.7, 0.0, 0.1),
    Weighing(0.5, 0.5, 0.5),
]
CHOICE_SIZES = (2000, 4000)
CHOICE_CHARACTERS, CHOICE_EVERY = 2_000, 3  # of each document, and which documents: choosing is 126 learnings


class Source:
    """One source: its words as the base's atoms, and how many stand between spaces."""

    def __init__(self, base: Base, path: Path, characters: int = FIRST_CHARACTERS, every: int = 1) -> None:
        texts = [text[:characters] for text in islice(read_normalised(str(path)), None, None, every)]
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


class Folds:
    """Learning on some sources, counting on others; each result is kept as it comes."""

    def __init__(self, base: Base, donor: Mapping[str, float], files: Sequence[Path], kept: Path) -> None:
        self.base, self.kept = base, kept
        self.sources = {name_of(file): Source(base, file) for file in files}
        self.small = {name_of(file): Source(base, file, CHOICE_CHARACTERS, CHOICE_EVERY) for file in files}
        self.allowed, self.known = base.allowed(SCRIPTS), frozenset(base.vocabulary.pieces)
        self.listed = chain(base, list(donor))
        self.spelled = {base.vocabulary.spell(piece): likely for piece, likely in donor.items()}
        self.done: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}

    def figures(self, key: str, find: Callable[[], Any]) -> Any:
        """What was found before under `key`, or is found now."""
        if key not in self.done:
            self.done[key] = find()
            self.kept.write_text(json.dumps(self.done))
            print(key, self.done[key], flush=True)
        return self.done[key]

    def learn(self, words: Mapping[Atoms, float], count: int) -> list[Pair]:
        return learn(words, count, self.allowed, self.known, self.base.vocabulary.is_whole)

    def counted(self, source: Source, merges: Sequence[Pair], sizes: Sequence[int]) -> list[float]:
        """Tokens per word at each size."""
        whole = self.base.vocabulary.is_whole
        return [round(source.tokens_per_word(without_loose_ends(merges[:n], whole)), 4) for n in sizes]

    def measure(self, left_out: str) -> dict[str, list[float]]:
        """Tokens per word on the source left out, by method, at each size."""
        others = [source for name, source in self.sources.items() if name != left_out]
        text = [source.theirs for source in others]
        chosen = self.choose(left_out)

        def both(weighing: Weighing) -> list[float]:
            merges = self.learn(weigh(text, [self.spelled], weighing), SIZES[-1])
            return self.counted(self.sources[left_out], merges, SIZES)

        shipped = both(Weighing())
        return {
            "list": self.counted(self.sources[left_out], self.listed, SIZES),
            "continued BPE": self.counted(self.sources[left_out], self.learn(plain_counts(others), SIZES[-1]), SIZES),
            "both": shipped,
            "nested": shipped if chosen == Weighing() else both(chosen),
        }

    def choose(self, left_out: str | None) -> Weighing:
        """The weighing that serves the sources best, each left out in turn; `left_out` is not looked at."""
        inner = [name for name in self.small if name != left_out]

        def cost(weighing: Weighing) -> float:
            found = [self.figures_of_pair({name, left_out}, weighing)[name] for name in inner]
            # Each source and size counts the same, as a share of what the best weighing has there.
            return statistics.mean(
                tokens / min(self.figures_of_pair({name, left_out}, other)[name][i] for other in GRID)
                for name, figures in zip(inner, found, strict=True)
                for i, tokens in enumerate(figures)
            )

        return min(GRID, key=cost)

    def figures_of_pair(self, names: set[str | None], weighing: Weighing) -> dict[str, list[float]]:
        """Learned without these sources (one or two), tokens per word on each of them."""
        left = sorted(name for name in names if name is not None)

        def find() -> dict[str, list[float]]:
            text = [source.theirs for name, source in self.small.items() if name not in left]
            merges = self.learn(weigh(text, [self.spelled], weighing), CHOICE_SIZES[-1])
            return {name: self.counted(self.small[name], merges, CHOICE_SIZES) for name in left}

        return self.figures(f"{' '.join(left)} {tuple(vars(weighing).values())}", find)


def name_of(file: Path) -> str:
    return file.name.removesuffix(".jsonl.zst")


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


def measure_knee(options: argparse.Namespace) -> dict[str, Any]:
    """`pieces: auto` on all text with the list: the curve, and what it takes."""
    config = MergeVocabConfig(
        base=str(options.base),
        donor=[
            str(options.shared / "tokenizers/kobert"),
            DonorText(text=[str(options.shared / "corpus/ko")], pieces="auto"),
        ],
        donor_filter=list(SCRIPTS),
        output=options.work / "auto",
    )
    manifest = merge_vocab(config, force=True)
    report = json.loads((config.output / "report.json").read_text(encoding="utf8"))
    return {"new_rows": manifest.figures["new_pieces"], "curve": report["curve"]}


def to_markdown(result: dict[str, Any]) -> str:
    """The tables of bytelevel.md."""
    folds: dict[str, dict[str, list[float]]] = result["folds"]
    methods = list(next(iter(folds.values())))
    chosen = ", ".join(f"{name} {tuple(values)}" for name, values in result["chosen"].items())
    lines = [
        "# New pieces for a byte-level base",
        "",
        f"SmolLM2's 49,152 pieces and Korean; {result['machine']}, commit {result['commit']}; "
        "`python scripts/bench_bytelevel.py`.",
        "",
        "Tokens per word (by white space) on the one source that was left out of learning, first 4,000 characters of "
        "each document, at so many new rows, parts of characters counted. *list*: KoBERT's pieces in its order, "
        "chained left to right; *BPE*: the base's own BPE goes on, on plain counts; *both*: `donor: [kobert, {text: "
        "…}]`, words weighed as `vocab/learning/learn.py` says. Those three numbers were chosen by hand, on this "
        "table's own figures of all six sources, by the mean over its cells; *nested*: by a rule, on the five others "
        "alone. In bold what is below list and BPE.",
        "",
        "| left out | base | " + " | ".join(f"{m}, {n:,}" for n in SIZES for m in methods) + " |",
        "|---|--:|" + "--:|" * len(methods) * len(SIZES),
    ]
    for name, by_method in folds.items():
        cells = []
        for i in range(len(SIZES)):
            plain = min(by_method["list"][i], by_method["continued BPE"][i])
            ours = [(method, by_method[method][i]) for method in methods]
            cells += [f"**{v:.3f}**" if m in ("both", "nested") and v < plain else f"{v:.3f}" for m, v in ours]
        lines.append(f"| {name} | {result['base'][name]:.3f} | " + " | ".join(cells) + " |")
    lines += ["", *(_beside_the_better(folds, method) for method in ("both", "nested"))]
    lines += [
        "",
        f"Weighings (power of counts, power of a source's size, the list's weight) that the rule chose without each "
        f"source (*none*: with all six): {chosen}; out of {len(GRID)}, on a part of the text, at "
        f"{' and '.join(f'{n:,}' for n in CHOICE_SIZES)} rows. *both* has {tuple(vars(Weighing()).values())}.",
        "",
    ]
    return "\n".join([*lines, *_whole_list(result), *_knee(result)])


def _beside_the_better(folds: Mapping[str, Mapping[str, Sequence[float]]], method: str) -> str:
    """In how many cells a method is below list and BPE, in which not, and by how much on the mean."""
    ratios = {
        f"{name} at {size:,}": by_method[method][i] / min(by_method["list"][i], by_method["continued BPE"][i])
        for name, by_method in folds.items()
        for i, size in enumerate(SIZES)
    }
    above = [f"{cell} ({100 * (ratio - 1):+.2f} %)" for cell, ratio in ratios.items() if ratio >= 1]
    told = f"; not: {', '.join(above)}" if above else ""
    return (
        f"*{method}* is below both others in {len(ratios) - len(above)} of {len(ratios)} cells{told}. On the mean over "
        f"the cells it takes {statistics.mean(ratios.values()):.4f} of the better one's tokens."
    )


def _whole_list(result: dict[str, Any]) -> list[str]:
    if (whole := result.get("list")) is None:
        return []
    above = 100 * (whole["all_text"]["merged"] / whole["all_text"]["shortest"] - 1)
    return [
        "## KoBERT's whole list, repair: add",
        "",
        f"Ordered on all of the text: {whole['new_rows']:,} new rows, {whole['intermediates']:,} of them "
        f"intermediates, {whole['unreachable']} never produced (a plain search, chained left to right: 8,395 rows, "
        f"1,235 intermediates, 2.542); {whole['tokens_per_word']:.3f} tokens per word on the text above, for the "
        f"base's {result['base']['all']:.3f}. On all text {whole['all_text']['merged']:.4f}, {above:.2f} % above "
        f"the shortest segmentation into the same pieces ({whole['all_text']['shortest']:.4f}). The stage took "
        f"{whole['seconds']:.0f} s, certificate and report included.",
        "",
    ]


def _knee(result: dict[str, Any]) -> list[str]:
    if (knee := result.get("knee")) is None:
        return []
    return [
        "## The knee",
        "",
        f"`donor: [kobert, {{text: …, pieces: auto}}]` on all of the text takes {knee['new_rows']:,} pieces, the "
        "most of which a tenth at most occur less than 100 times in it:",
        "",
        "| new pieces | tokens per word | rare ones |",
        "|--:|--:|--:|",
        *(f"| {p['pieces']:,} | {p['tokens_per_word']:.3f} | {p['rare'] / p['pieces']:.1%} |" for p in knee["curve"]),
        "",
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path("models/smollm2"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--work", type=Path, default=Path("runs/bench-bytelevel"))
    parser.add_argument("--results", type=Path, default=Path("docs/results/bytelevel"), help="path without suffix")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    base = open_base(str(options.base))
    files = sorted((options.shared / "corpus/ko").glob("*.zst"))
    listed = read_donor(find_donor(str(options.shared / "tokenizers/kobert")))
    points = ScriptCodePoints(SCRIPTS)
    written = {base.vocabulary.write(piece): likely for piece, likely in listed.likely.items() if points.holds(piece)}
    donor = {p: likely for p, likely in written.items() if p is not None and p not in set(base.vocabulary.pieces)}
    folds = Folds(base, donor, files, options.work / "folds.json")
    sources = folds.sources
    found = {name: folds.figures(name, partial(folds.measure, name)) for name in sources}
    per_word = {name: round(source.tokens_per_word([]), 4) for name, source in sources.items()}
    spaced = sum(source.spaced for source in sources.values())
    per_word["all"] = round(sum(per_word[name] * source.spaced for name, source in sources.items()) / spaced, 4)
    result: dict[str, Any] = {"machine": machine(), "commit": commit(), "base": per_word, "folds": found}
    result["chosen"] = {name: list(vars(folds.choose(name)).values()) for name in sources}
    result["list"] = folds.figures("list", lambda: measure_list(options, sources, base))
    write(result, options.results)  # what follows takes as long again
    result["chosen"]["none"] = list(vars(folds.choose(None)).values())
    result["knee"] = folds.figures("knee", lambda: measure_knee(options))
    write(result, options.results)
    print(to_markdown(result))


def write(result: dict[str, Any], path: Path) -> None:
    """The page and its figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf8")
    path.with_suffix(".md").write_text(to_markdown(result), encoding="utf8")


if __name__ == "__main__":
    main()
