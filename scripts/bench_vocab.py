"""Measure merge-vocab on the real vocabularies and texts, beside what it is to beat.

    python scripts/bench_vocab.py --shared ../shared --output docs/results

For the paper's mode and each repair: the stage as a user runs it (with all samples, proof and report), then tokens per
word on the first 4,000 characters of each Korean document, beside the limit (the shortest segmentation) and beside the
plain search (segment each new piece, add the pair of neighbours that mends most, last in priority, repeat). Speed:
merging without samples, and the proof for 30 MB. Writes vocab.md and vocab.json.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from machine import commit, machine

from bllossom.tokenizer.convert import encode_alone, normal_scores
from bllossom.tokenizer.scripts import holds_script
from bllossom.tokenizer.sentencepiece_file import NORMAL, read_model
from bllossom.vocab.families.sentencepiece import SentencePieceVocabulary, append
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.proof.sentencepiece import prove
from bllossom.vocab.samples import count_tokens, count_words, processor, read_samples, shortest_model

FIRST_CHARACTERS = 4_000
MODES: dict[str, dict[str, Any]] = {
    "paper (all, none)": {"repair": "none", "expected_size": 39478},
    "add (all, add)": {"repair": "add"},
    "swap (all, swap)": {"repair": "swap", "expected_size": 39478},
    "Hangul only (Hangul, none)": {"donor_filter": ["Hangul"], "repair": "none"},
    "Hangul, add (Hangul, add)": {"donor_filter": ["Hangul"], "repair": "add"},
}


class Text:
    """Korean text to measure on: its words and how many there are."""

    def __init__(self, documents: Sequence[str]) -> None:
        self.count = sum(len(document.split()) for document in documents)
        self.words = count_words(documents)

    def per_word(self, model: Any) -> float:
        """Tokens per whitespace-separated word."""
        return count_tokens(processor(model), self.words) / self.count


def plain_search(base: Any, pieces: list[str]) -> list[str]:
    """The intermediates that the plain search adds to `pieces`."""
    scores = normal_scores(append(base, pieces))
    lowest, added = min(s for s in scores.values() if s > -1e8), []
    broken = {piece: encode_alone(piece, scores)[-1] for piece in pieces}
    while broken := {piece: symbols for piece, symbols in broken.items() if len(symbols) > 1}:
        pairs = Counter(a + b for symbols in broken.values() for a, b in set(itertools.pairwise(symbols)))
        best = max(pairs, key=lambda text: (pairs[text], text))
        lowest -= 1
        scores[best] = lowest
        added.append(best)
        broken = {p: encode_alone(p, scores)[-1] if best in p else s for p, s in broken.items()}
    return added


def plain_swap(base: Any, pieces: list[str], uses: Counter[str], places: int) -> tuple[list[str], list[str]]:
    """Give up the rarest pieces, a few at a time, until what is left fits with its intermediates."""
    kept = sorted(pieces, key=lambda piece: (-uses[piece], pieces.index(piece)))
    while True:
        keep = set(kept)
        added = plain_search(base, [piece for piece in pieces if piece in keep])
        over = len(kept) + len(added) - places
        if over <= 0:
            return [piece for piece in pieces if piece in keep], added
        kept = kept[: -max(1, over // 2)]


def timed(run: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    """Seconds of each repeat after one that is not counted, and the last result."""
    seconds, result = [], run()
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds.append(round(time.perf_counter() - start, 2))
    return seconds, result


def measure_modes(shared: Path, text: Text, folder: Path) -> list[dict[str, Any]]:
    """Run every mode of the stage on all samples."""
    rows = []
    for name, settings in MODES.items():
        output = folder / name.split(" (")[0].replace(", ", "-").replace(" ", "-")
        samples = {language: [str(shared / "corpus" / language)] for language in ("ko", "en")}
        config = MergeVocabConfig(
            base=str(shared / "tokenizers/llama2"),
            donor=str(shared / "tokenizers/kobert"),
            output=output,
            samples=samples,
            **settings,
        )
        manifest = merge_vocab(config)
        model = read_model(output / "tokenizer.model")
        merged, shortest = text.per_word(model), text.per_word(shortest_model(model))
        figures = manifest.figures
        rows.append(
            {
                "mode": name,
                "size": figures["pieces"],
                "intermediates": figures["intermediates"],
                "given_up": figures["given_up"],
                "never_produced": figures["unreachable_pieces"],
                "tokens_per_word": round(merged, 4),
                "limit": round(shortest, 4),
                "above_limit_percent": round(100 * (merged / shortest - 1), 3),
                "changed_english_documents": figures["changed_documents"]["en"],
                "documents": sum(figures["documents"].values()),
                "disagreements": figures["disagreements"],
                "stage_seconds": manifest.run["wall_seconds"],
                "report": figures,
            }
        )
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    return rows


def measure_plain(shared: Path, text: Text) -> list[dict[str, Any]]:
    """The same figures for the plain search, Llama 2 and KoBERT's own model."""
    base = read_model(shared / "tokenizers/llama2/tokenizer.model")
    donor = read_model(shared / "tokenizers/kobert/spiece.model")
    have = {piece.piece for piece in base.pieces}
    new = [piece.piece for piece in donor.pieces if piece.type == NORMAL and piece.piece not in have]
    encoder = processor(append(base, new))
    uses: Counter[str] = Counter()
    keys = list(text.words)
    for word, symbols in zip(keys, encoder.encode([word[1:] for word in keys], out_type=str), strict=True):
        for symbol in symbols:
            uses[symbol] += text.words[word]
    hangul = [piece for piece in new if holds_script(piece, ["Hangul"])]
    swapped = plain_swap(base, hangul, uses, len(new))
    rows = []
    for name, (pieces, added) in {"add": (new, plain_search(base, new)), "swap": swapped}.items():
        model = append(base, [*pieces, *added])
        merged, shortest = text.per_word(model), text.per_word(shortest_model(model))
        rows.append(
            {
                "mode": f"plain search, {name}",
                "size": len(model.pieces),
                "intermediates": len(added),
                "given_up": len(new) - len(pieces),
                "never_produced": len(SentencePieceVocabulary(model).unmade([*pieces, *added])),
                "tokens_per_word": round(merged, 4),
                "limit": round(shortest, 4),
                "above_limit_percent": round(100 * (merged / shortest - 1), 3),
            }
        )
    for name, model in (("Llama 2", base), ("KoBERT's own model", donor)):
        rows.append({"mode": name, "size": len(model.pieces), "tokens_per_word": round(text.per_word(model), 4)})
    return rows


def measure_speed(shared: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds for merging and writing without samples, for the proof on 30 MB, and each library's share of that."""
    config = MergeVocabConfig(
        base=str(shared / "tokenizers/llama2"), donor=str(shared / "tokenizers/kobert"), output=folder / "bare"
    )

    def merge() -> None:
        for path in sorted((folder / "bare").glob("*")):
            path.unlink()
        merge_vocab(config)

    merging, _ = timed(merge, repeats)
    documents = read_samples(
        {
            "ko": sorted((shared / "corpus/ko").glob("[als]*.zst")),  # bills, interface help, statutes: 20 MB
            "en": [shared / "corpus/en/peps.jsonl.zst"],  # 11 MB
        }
    )
    megabytes = sum(len(text.encode()) for texts in documents.values() for text in texts) / 1e6
    proving, _ = timed(lambda: prove(folder / "paper", documents, 32000), repeats)
    everything = [text for texts in documents.values() for text in texts]
    slow = sentencepiece.SentencePieceProcessor(model_file=str(folder / "paper/tokenizer.model"))
    encoding, _ = timed(lambda: slow.encode(everything, num_threads=2), repeats)
    return {
        "merge_without_samples_seconds": merging,
        "proof_megabytes": round(megabytes, 1),
        "proof_seconds": proving,
        "proof_seconds_for_30_megabytes": round(statistics.median(proving) / megabytes * 30, 1),
        "sentencepiece_encoding_alone_seconds": encoding,
    }


def to_markdown(result: dict[str, Any]) -> str:
    """The tables of vocab.md."""
    lines = [
        "# Vocabulary",
        "",
        f"{result['machine']}, commit {result['commit']}; `python scripts/bench_vocab.py`.",
        "",
    ]
    lines += [
        f"Korean of the samples, first {FIRST_CHARACTERS:,} characters of each document, tokens per word. The limit is "
        "the shortest segmentation of the same text with the same pieces.",
        "",
        "| | size | intermediates | given up | never produced | tokens per word | limit | above | "
        "English documents changed |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in [*result["modes"], *result["plain"]]:
        above = f"{row['above_limit_percent']:.2f} %" if "limit" in row else ""
        keys = ("mode", "size", "intermediates", "given_up", "never_produced", "tokens_per_word", "limit")
        cells = [f"{row[key]:,}" if isinstance(row.get(key), int) else str(row.get(key, "")) for key in keys]
        lines.append("| " + " | ".join([*cells, above, str(row.get("changed_english_documents", ""))]) + " |")
    speed = result["speed"]
    encoding = statistics.median(speed["sentencepiece_encoding_alone_seconds"])
    documents = result["modes"][0]["documents"]
    lines += [
        "",
        f"tokenizer.json and SentencePiece: {sum(row['disagreements'] for row in result['modes'])} disagreements on "
        f"{documents:,} documents and 20,000 generated strings, in each mode.",
        "",
        f"- merging and writing without samples: {statistics.median(speed['merge_without_samples_seconds']):.1f} s",
        f"- the proof on 30 MB: {speed['proof_seconds_for_30_megabytes']} s ({speed['proof_megabytes']} MB measured; "
        f"SentencePiece's encoding alone takes {encoding:.1f} s)",
        "- the whole stage on all samples (77 MB), proof and report included: "
        + ", ".join(f"{row['mode'].split(' (')[0]} {row['stage_seconds']:.0f} s" for row in result["modes"]),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with tokenizers/ and corpus/")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    shared = arguments.shared
    korean = read_samples({"ko": sorted((shared / "corpus/ko").glob("*.zst"))})["ko"]
    text = Text([document[:FIRST_CHARACTERS] for document in korean])
    del korean
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "machine": machine(),
            "commit": commit(),
            "words": text.count,
            "modes": measure_modes(shared, text, Path(folder)),
            "plain": measure_plain(shared, text),
            "speed": measure_speed(shared, Path(folder), arguments.repeats),
        }
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = json.dumps(result, ensure_ascii=False, indent=1)
    (arguments.output / "vocab.json").write_text(written + "\n", encoding="utf8")
    (arguments.output / "vocab.md").write_text(to_markdown(result), encoding="utf8")
    print(to_markdown(result))


if __name__ == "__main__":
    main()
