"""report.json and report.html: what a person decides from."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from bllossom.text.sources import read_normalised
from bllossom.tokenizer.scripts import script_of
from bllossom.vocab.families.vocabulary import Vocabulary, count_words
from bllossom.vocab.page import render
from bllossom.vocab.proof.counts import Proof
from bllossom.vocab.repair.repair import Repaired

EXAMPLES = 40
EXAMPLE_WORDS = 6


@dataclass(frozen=True)
class MergedVocabulary:
    """The base, the donors' pieces as text, the result, and how it came about."""

    base: Vocabulary
    donor: Sequence[str]
    merged: Vocabulary
    first_new_id: int
    repaired: Repaired


def measure(
    merge: MergedVocabulary,
    documents: Mapping[str, Sequence[str]],
    words: Mapping[str, Counter[str]],
    proof: Proof,
    example: str | None,
) -> dict[str, Any]:
    """All that report.json holds; the same for the same inputs."""
    first = merge.first_new_id
    new = list(merge.merged.pieces[first:])
    unmade = merge.merged.unmade(new)
    uses = sum((counts.ids for counts in proof.languages.values()), np.zeros(len(merge.merged.pieces), np.int64))
    new_uses = Counter({piece: int(uses[first + i]) for i, piece in enumerate(new)})
    never = set(unmade)
    unused = [piece for piece in new if not new_uses[piece] and piece not in never]

    def listed(pieces: Sequence[str]) -> dict[str, Any]:
        return {"count": len(pieces), "examples": [merge.merged.read(piece) for piece in pieces[:EXAMPLES]]}

    return {
        "pieces": {
            "base": first,
            "new": len(new),
            "merged": len(merge.merged.pieces),
            "intermediates": listed(merge.repaired.intermediates),
            "given_up": listed(merge.repaired.given_up),
            "left_out": {reason: listed(pieces) for reason, pieces in merge.repaired.left_out.items()},
            "reachable": {"count": len(new) - len(unmade)},
            "unreachable": listed(unmade),
            "used": listed([piece for piece, count in new_uses.most_common() if count]),
            "unused": listed(unused),
        },
        "languages": {
            language: _measure_language(merge, texts, words[language], proof.languages[language].ids)
            | {"changed_documents": proof.languages[language].changed_documents}
            for language, texts in documents.items()
        },
        "scripts": {
            "base": _count_scripts(merge.base),
            "donor": dict(Counter(map(script_of, merge.donor)).most_common()),
            "merged": _count_scripts(merge.merged),
        },
        "example": None
        if example is None
        else {"text": example} | {side: _cut(getattr(merge, side), example) for side in ("base", "merged")},
        "proof": {
            "generated_strings": proof.generated,
            "documents": sum(counts.documents for counts in proof.languages.values()),
            "disagreements": 0,  # one would have stopped the stage
        },
    }


def choose_example(
    merge: MergedVocabulary, documents: Mapping[str, Sequence[str]], files: Sequence[Path]
) -> str | None:
    """The beginning of a document, or else of one of the donor's `files`, that the new pieces change; None: of none."""
    samples = (text for texts in documents.values() for text in texts[:EXAMPLES])
    learned = (text for path in files for text in islice(read_normalised(str(path)), EXAMPLES))
    for text in chain(samples, learned):
        beginning = " ".join(text.split()[:EXAMPLE_WORDS])
        if _cut(merge.base, beginning) != _cut(merge.merged, beginning):
            return beginning
    return None


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write report.json and report.html."""
    text = json.dumps(report, ensure_ascii=False, indent=1)
    (folder / "report.json").write_text(text + "\n", encoding="utf8")
    (folder / "report.html").write_text(render(report), encoding="utf8")


def write_left_out(folder: Path, left_out: Mapping[str, Sequence[str]]) -> None:
    """Write left_out.json: every donor piece that could not be added, by the reason. Nothing where there is none."""
    if left_out:
        text = json.dumps(left_out, ensure_ascii=False, indent=1)
        (folder / "left_out.json").write_text(text + "\n", encoding="utf8")


def key_figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that the manifest repeats."""
    pieces, languages = report["pieces"], report["languages"]
    return {
        "new_pieces": pieces["new"],
        "unreachable_pieces": pieces["unreachable"]["count"],
        "intermediates": pieces["intermediates"]["count"],
        "given_up": pieces["given_up"]["count"],
        "left_out": sum(listed["count"] for listed in pieces["left_out"].values()),
        "tokens_per_word": {
            name: {side: figures[side]["tokens_per_word"] for side in ("base", "merged", "shortest")}
            for name, figures in languages.items()
        },
        "changed_documents": {name: figures["changed_documents"] for name, figures in languages.items()},
        "documents": {name: figures["documents"] for name, figures in languages.items()},
        "generated_strings": report["proof"]["generated_strings"],
        "disagreements": report["proof"]["disagreements"],
    }


def _measure_language(
    merge: MergedVocabulary,
    texts: Sequence[str],
    words: Counter[str],
    merged_uses: np.ndarray,
) -> dict[str, Any]:
    total = {
        "documents": len(texts),
        "words": sum(len(text.split()) for text in texts),
        "characters": sum(map(len, texts)),
        "bytes": sum(len(text.encode()) for text in texts),
    }
    uses = {"base": _count_ids(merge.base, words), "merged": merged_uses}
    if merge.merged.crosses_words and not merge.base.crosses_words:
        words = count_words(merge.merged, texts)
    figures: dict[str, Any] = dict(total)
    for side, counts in uses.items():
        is_byte = np.isin(np.arange(len(counts)), sorted(getattr(merge, side).byte_ids))
        tokens = int(counts.sum())
        figures[side] = _rates(tokens, total) | {"byte_fallback_share": round(float(counts[is_byte].sum()) / tokens, 5)}
    figures["shortest"] = _rates(merge.merged.shortest(words), total)
    return figures


def _count_ids(vocabulary: Vocabulary, words: Mapping[str, int]) -> np.ndarray:
    keys = list(words)
    encoded = vocabulary.encode(keys)
    repeats = np.repeat([words[word] for word in keys], [len(ids) for ids in encoded])
    flat = np.fromiter((i for ids in encoded for i in ids), np.int64, len(repeats))
    return np.bincount(flat, repeats, len(vocabulary.pieces)).astype(np.int64)


def _cut(vocabulary: Vocabulary, text: str) -> list[str]:
    """The pieces of a text, for people."""
    return [vocabulary.read(piece) for atoms in vocabulary.cut(vocabulary.split(text)) for piece in atoms]


def _rates(tokens: int, total: Mapping[str, int]) -> dict[str, Any]:
    return {
        "tokens": tokens,
        "tokens_per_word": round(tokens / total["words"], 4) if total["words"] else None,
        "tokens_per_character": round(tokens / total["characters"], 4),
        "bytes_per_token": round(total["bytes"] / tokens, 4),
    }


def _count_scripts(vocabulary: Vocabulary) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for number, piece in enumerate(vocabulary.pieces):
        ordinary = number not in vocabulary.specials and number not in vocabulary.byte_ids
        counts[script_of(vocabulary.read(piece)) if ordinary else "bytes and special tokens"] += 1
    return dict(counts.most_common())
