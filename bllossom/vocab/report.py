"""report.json and report.html: what a person decides from."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from bllossom.tokenizer.sentencepiece_file import BYTE, NORMAL, SPACE, ModelProto
from bllossom.vocab.page import render
from bllossom.vocab.proof import Proof
from bllossom.vocab.repair.repair import Repaired
from bllossom.vocab.samples import count_tokens, encode_words, processor, shortest_model
from bllossom.vocab.scripts import script_of

EXAMPLES = 40


@dataclass(frozen=True)
class MergedVocabulary:
    """The three vocabularies, and how the third came about."""

    base: ModelProto
    donor: ModelProto
    merged: ModelProto
    repaired: Repaired


def measure(
    merge: MergedVocabulary,
    documents: Mapping[str, Sequence[str]],
    words: Mapping[str, Counter[str]],
    proof: Proof,
    example: str,
) -> dict[str, Any]:
    """All that report.json holds; the same for the same inputs."""
    encoders = {"base": processor(merge.base), "merged": processor(merge.merged)}
    new = [piece.piece for piece in islice(merge.merged.pieces, len(merge.base.pieces), None)]
    unmade = find_unmade(encoders["merged"], new)
    uses = sum((counts.ids for counts in proof.languages.values()), np.zeros(len(merge.merged.pieces), np.int64))
    new_uses = Counter({piece: int(uses[len(merge.base.pieces) + i]) for i, piece in enumerate(new)})
    unused = [piece for piece in new if not new_uses[piece] and piece not in set(unmade)]
    return {
        "pieces": {
            "base": len(merge.base.pieces),
            "new": len(new),
            "merged": len(merge.merged.pieces),
            "intermediates": _list(merge.repaired.intermediates),
            "given_up": _list(merge.repaired.given_up),
            "reachable": {"count": len(new) - len(unmade)},
            "unreachable": _list(unmade),
            "used": _list([piece for piece, count in new_uses.most_common() if count]),
            "unused": _list(unused),
        },
        "languages": {
            language: _measure_language(merge, encoders, texts, words[language], proof.languages[language].ids)
            | {"changed_documents": proof.languages[language].changed_documents}
            for language, texts in documents.items()
        },
        "scripts": {
            name: _count_scripts(model)
            for name, model in (("base", merge.base), ("donor", merge.donor), ("merged", merge.merged))
        },
        "example": {"text": example} | {name: e.encode(example, out_type=str) for name, e in encoders.items()},
        "proof": {
            "generated_strings": proof.generated,
            "documents": sum(counts.documents for counts in proof.languages.values()),
            "disagreements": 0,  # one would have stopped the stage
        },
    }


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write report.json and report.html."""
    text = json.dumps(report, ensure_ascii=False, indent=1)
    (folder / "report.json").write_text(text + "\n", encoding="utf8")
    (folder / "report.html").write_text(render(report), encoding="utf8")


def key_figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that the manifest repeats."""
    pieces, languages = report["pieces"], report["languages"]
    return {
        "new_pieces": pieces["new"],
        "unreachable_pieces": pieces["unreachable"]["count"],
        "intermediates": pieces["intermediates"]["count"],
        "given_up": pieces["given_up"]["count"],
        "tokens_per_word": {
            name: {side: figures[side]["tokens_per_word"] for side in ("base", "merged", "shortest")}
            for name, figures in languages.items()
        },
        "changed_documents": {name: figures["changed_documents"] for name, figures in languages.items()},
        "documents": {name: figures["documents"] for name, figures in languages.items()},
        "generated_strings": report["proof"]["generated_strings"],
        "disagreements": report["proof"]["disagreements"],
    }


def find_unmade(encoder: sentencepiece.SentencePieceProcessor, pieces: Sequence[str]) -> list[str]:
    """The pieces that can never be produced.

    A piece that starts with ▁ is what encoding the rest of it gives; any other is the last one of a newline followed by
    it (fast.py says why one text decides for all).
    """
    texts = [piece[1:] if piece.startswith(SPACE) else "\n" + piece for piece in pieces]
    encoded = encoder.encode(texts, out_type=str)
    return [
        piece
        for piece, symbols in zip(pieces, encoded, strict=True)
        if (symbols != [piece] if piece.startswith(SPACE) else symbols[-1:] != [piece])
    ]


def _list(pieces: Sequence[str]) -> dict[str, Any]:
    return {"count": len(pieces), "examples": list(pieces[:EXAMPLES])}


def _measure_language(
    merge: MergedVocabulary,
    encoders: Mapping[str, sentencepiece.SentencePieceProcessor],
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
    uses = {"base": _count_ids(encoders["base"], words), "merged": merged_uses}
    figures: dict[str, Any] = dict(total)
    for side, counts in uses.items():
        is_byte = np.array([piece.type == BYTE for piece in getattr(merge, side).pieces])
        tokens = int(counts.sum())
        figures[side] = _rates(tokens, total) | {"byte_fallback_share": round(float(counts[is_byte].sum()) / tokens, 5)}
    figures["shortest"] = _rates(count_tokens(processor(shortest_model(merge.merged)), words), total)
    return figures


def _count_ids(encoder: sentencepiece.SentencePieceProcessor, words: Mapping[str, int]) -> np.ndarray:
    keys = list(words)
    encoded = encode_words(encoder, keys)
    repeats = np.repeat([words[word] for word in keys], [len(ids) for ids in encoded])
    flat = np.fromiter((i for ids in encoded for i in ids), np.int64, len(repeats))
    return np.bincount(flat, repeats, encoder.get_piece_size()).astype(np.int64)


def _rates(tokens: int, total: Mapping[str, int]) -> dict[str, Any]:
    return {
        "tokens": tokens,
        "tokens_per_word": round(tokens / total["words"], 4) if total["words"] else None,
        "tokens_per_character": round(tokens / total["characters"], 4),
        "bytes_per_token": round(total["bytes"] / tokens, 4),
    }


def _count_scripts(model: ModelProto) -> dict[str, int]:
    counts = Counter(
        script_of(piece.piece) if piece.type == NORMAL else "bytes and special tokens" for piece in model.pieces
    )
    return dict(counts.most_common())
