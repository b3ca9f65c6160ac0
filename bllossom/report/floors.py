"""The floor of bits per byte: a unigram model over the pieces of the model that was scored.

A run may prepare its text with several vocabularies, and each has a floor of its own.
"""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from bllossom.artifacts import Manifest
from bllossom.errors import BllossomError
from bllossom.hub import is_hub_id, name_and_revision
from bllossom.tokenizer.added_tokens import TOKENIZER
from bllossom.tokens.shards import read_index

UNIGRAM = "unigram_bits_per_byte"
"""The figure of prepare, by language."""


def same_pieces(evaluation: Manifest, folders: Mapping[Path, Manifest]) -> list[Path]:
    """Of the published `folders` those that prepare made with the tokenizer of the model that was scored, the newest
    first; none where that tokenizer is not here any more."""
    # Here, not above: `bllossom --help` imports neither torch nor transformers.
    from bllossom.tokenizer.ids import tokenizer_fingerprint
    from bllossom.tokenizer.load import load_tokenizer

    model = _model(evaluation, folders)
    if model is None:
        return []
    try:
        tokenizer = tokenizer_fingerprint(load_tokenizer(model))
    except BllossomError:
        return []
    found = [folder for folder, manifest in folders.items() if _tokenizer_of(folder, manifest) == tokenizer]
    return sorted(found, key=lambda folder: str(folders[folder].run.get("started", "")), reverse=True)


def floors(evaluation: Manifest, folders: Mapping[Path, Manifest]) -> dict[str, float]:
    """The floor of an evaluation's bits per byte, by language; without those that nobody knows."""
    found: dict[str, float] = {}
    for folder in same_pieces(evaluation, folders):
        found = (folders[folder].figures.get(UNIGRAM) or {}) | found
    return {language: bits for language, bits in found.items() if language in evaluation.figures["bits_per_byte"]}


def _model(evaluation: Manifest, folders: Mapping[Path, Manifest]) -> Path | None:
    """Where the model that was scored lies here. Nothing is fetched: a model of the hub is looked for in its cache."""
    recorded = evaluation.inputs.get("model", "")
    if is_hub_id(recorded):
        name, revision = name_and_revision(recorded)
        cached = try_to_load_from_cache(name, TOKENIZER, revision=revision)
        return Path(cached).parent if isinstance(cached, str) else None
    in_run = (folder for folder, manifest in folders.items() if manifest.fingerprint == recorded)
    model = next(in_run, Path(str(evaluation.config.get("model"))))
    return model if model.is_dir() else None


def _tokenizer_of(folder: Path, manifest: Manifest) -> str | None:
    if manifest.stage != "prepare":
        return None
    try:
        return read_index(folder).tokenizer
    except BllossomError:  # the tokens were removed, or moved
        return None
