"""Certificates of merge-vocab on SmolLM2 and on two tokenizers shaped as Llama 3's and Qwen 3's, in full.

    python scripts/show_certificates.py --base models/smollm2 --shared ../shared --work runs/certificates

The two shapes are trained here on English of --shared: their pre-tokenizers' patterns, special tokens above the
vocabulary, `ignore_merges` (Llama 3); NFC, added tokens that stand in tokenizer_config.json alone, and a model with
more rows than ids (Qwen 3). Each gets KoBERT's Hangul pieces (`repair: add`). Samples: a source of Korean, and one of
English. Results go to docs/results/certificates.md.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from machine import commit, machine
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from bllossom.export.gguf_tokenizer import PATTERNS
from bllossom.text.sources import read_documents
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.proof.certificate import summary

PIECES = 16_000
SPECIALS = {
    "llama-bpe": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}
SHOWN_PARTS = 5  # of the parts of characters, and what needs them


def main() -> None:
    """Make the bases, merge, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path("models/smollm2"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--work", type=Path, default=Path("runs/certificates"))
    parser.add_argument("--results", type=Path, default=Path("docs/results/certificates.md"))
    options = parser.parse_args()
    bases = {
        "SmolLM2": options.base,
        "Llama-3-shaped": train("llama-bpe", options.shared, options.work / "llama-3"),
        "Qwen-3-shaped": train("qwen2", options.shared, options.work / "qwen-3"),
    }
    samples = {
        "ko": [str(options.shared / "corpus/ko/tensorflow_docs_ko.jsonl.zst")],
        "en": [str(options.shared / "corpus/en/wikitext2_valid_test.jsonl.zst")],
    }
    parts = [
        "# Certificates",
        "",
        f"`python scripts/show_certificates.py`, commit {commit()}; {machine()}. KoBERT's Hangul pieces behind three "
        "bases, with `repair: add`. What is counted here was checked before anything was published; a text that breaks "
        f"it stops the stage. The two shapes are of {PIECES:,} pieces trained on English.",
        "",
    ]
    for name, base in bases.items():
        output = options.work / f"merged-{base.name}"
        donor = str(options.shared / "tokenizers/kobert")
        config = MergeVocabConfig(
            base=str(base), donor=donor, donor_filter=["Hangul"], repair="add", samples=samples, output=output
        )
        merge_vocab(config, force=True)
        certificate = json.loads((output / "certificate.json").read_text(encoding="utf8"))
        parts += [f"## {name}", "", *(f"- {sentence}" for sentence in summary(certificate)), "", "```json"]
        parts += [json.dumps(shortened(certificate), ensure_ascii=False, indent=1), "```", ""]
    options.results.write_text("\n".join(parts), encoding="utf8")


def shortened(certificate: dict[str, Any]) -> dict[str, Any]:
    """The certificate with its one long list cut, and a note of how much is left out."""
    needed = certificate["pieces"]["needed_by"]
    kept = dict(islice(needed.items(), SHOWN_PARTS))
    if left := len(needed) - len(kept):
        kept["…"] = f"{left:,} more"
    return certificate | {"pieces": certificate["pieces"] | {"needed_by": kept}}


def train(shape: str, shared: Path, folder: Path) -> Path:
    """A base of this shape, by llama.cpp's name of its pre-tokenizer; nothing where it is there already."""
    if (folder / "tokenizer.json").is_file():
        return folder
    tokenizer = Tokenizer(models.BPE())
    pattern = next(pattern for pattern, name in PATTERNS.items() if name == shape)
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=PIECES, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_english(shared), trainer)
    specials = SPECIALS[shape]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in specials])
    folder.mkdir(parents=True)
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": specials[-1]}
    if shape == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
        more = {str(PIECES + len(specials) + i): _added(token) for i, token in enumerate(("<think>", "</think>"))}
        config["added_tokens_decoder"] = more
        (folder / "config.json").write_text(json.dumps({"vocab_size": PIECES + 128}), encoding="utf8")
    settings = json.loads(tokenizer.to_str())
    settings["model"]["ignore_merges"] = shape == "llama-bpe"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf8")
    (folder / "tokenizer.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf8")
    return folder


def _added(token: str) -> dict[str, Any]:
    return {"content": token, "special": False, "normalized": False, "lstrip": False, "rstrip": False}


def _english(shared: Path) -> Iterator[str]:
    for path in sorted((shared / "corpus/en").glob("*.zst")):
        yield from islice(read_documents(str(path)), 60)


if __name__ == "__main__":
    main()
