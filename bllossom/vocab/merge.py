"""merge-vocab: a base vocabulary and the pieces of a donor, as one tokenizer, proved before it is published.

The base keeps its ids, pieces, types and scores. The donor's normal pieces that the base lacks follow in the donor's
order, below all of the base in priority, each with a score of its own: tied scores are resolved by position in
SentencePiece and by rank in tokenizer.json (google/sentencepiece#964, transformers#24233).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bllossom.artifacts import Manifest, publish
from bllossom.config import InputGlob, Source, StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError, ConfigError
from bllossom.tokenizer.convert import normal_scores, write_tokenizer
from bllossom.tokenizer.sentencepiece_file import (
    NORMAL,
    SPACE,
    UNIGRAM,
    ModelProto,
    check_base,
    find_model_file,
    read_model,
)
from bllossom.vocab.proof import prove
from bllossom.vocab.repair.repair import Problem, Repaired, repair_by_adding, repair_by_swapping
from bllossom.vocab.report import MergedVocabulary, key_figures, measure, write_report
from bllossom.vocab.samples import count_words, locate_samples, processor, read_samples
from bllossom.vocab.scripts import check_scripts, holds_script, main_scripts

UNUSED_FLOOR = -1e8  # Llama 2 puts its runs of spaces, which are to be joined last, at -1e9
EXACT_FLOAT32 = 2**24  # SentencePiece keeps scores in float32: above this, neighbouring integers collapse


class MergeVocabConfig(StageConfig):
    """What `bllossom merge-vocab` reads."""

    base: Annotated[Source, Field(description="vocabulary that keeps its ids: a folder, a .model file or a hub id")]
    donor: Annotated[
        Source, Field(description="vocabulary whose pieces are added: a folder, a .model file or a hub id")
    ]
    expected_size: Annotated[
        int | None, Field(gt=0, description="pieces that must come out; another result is refused")
    ] = None
    donor_filter: Annotated[
        Literal["all"] | list[str],
        Field(description="which donor pieces are taken: all, or those that hold a letter of these Unicode scripts"),
    ] = "all"
    repair: Annotated[
        Literal["none", "add", "swap"],
        Field(description="mend pieces that BPE cannot produce: not, with more pieces, or at the same size"),
    ] = "none"
    pad_to_multiple_of: Annotated[
        int, Field(gt=0, description="model rows are padded to a multiple of this; pieces are not")
    ] = 1
    example: Annotated[str, Field(description="a sentence that the report shows in both tokenizers")] = (
        "햄버거를 먹는 공룡"
    )
    samples: Annotated[
        dict[str, list[InputGlob]],
        Field(description="text (files, folders, globs) by language: proof and report read it, swap counts on it"),
    ] = Field(default_factory=dict)


def merge_vocab(config: MergeVocabConfig, *, force: bool = False) -> Manifest:
    """MergedVocabulary, repair, write, prove, report, publish.

    Raises:
        BllossomError: an input is unusable, the size is not `expected_size`, or tokenizer.json and SentencePiece
            disagree on some text.
    """
    _check(config)
    base_file, donor_file = find_model_file(config.base), find_model_file(config.donor)
    samples = locate_samples(config.samples)
    inputs = {"base": base_file, "donor": donor_file}
    inputs |= {f"samples/{name}/{i}": path for name, paths in samples.items() for i, path in enumerate(paths)}
    return publish(
        config,
        stage="merge-vocab",
        inputs=inputs,
        build=lambda folder: _build(config, base_file, donor_file, samples, folder),
        force=force,
    )


def dry_run(config: MergeVocabConfig) -> list[str]:
    """Say what would come out, as far as the inputs are here."""
    _check(config)
    absent = [f"{name} {source} is not here yet" for name, source in _sources(config) if not Path(source).exists()]
    if absent:
        return absent
    base, donor, new = _read(config, find_model_file(config.base), find_model_file(config.donor))
    size = len(base.pieces) + len(new)
    lines = [f"{len(base.pieces):,} base pieces + {len(new):,} of the donor's {len(donor.pieces):,} = {size:,}"]
    if config.repair == "add":
        lines.append("repair: add puts the missing intermediate pieces on top")
    if config.repair == "swap":
        lines.append(
            f"repair: swap gives donor pieces up for intermediates, and keeps {config.expected_size or size:,}"
        )
    return lines


def append(base: ModelProto, pieces: Sequence[str], ranks: Mapping[str, int] | None = None) -> ModelProto:
    """A copy of `base` with `pieces` behind it, below it in priority, in the order of `ranks` (or as listed).

    Raises:
        BllossomError: the scores could not be told apart in float32.
    """
    used = [score for score in normal_scores(base).values() if score > UNUSED_FLOOR]
    first = min(-len(base.pieces), int(min(used, default=0)) - 1)
    if len(pieces) - first >= EXACT_FLOAT32:
        raise BllossomError(f"the base's scores go down to {min(used):g}: no room for unique ones; name another base")
    merged = type(base)()
    merged.CopyFrom(base)
    merged.trainer_spec.vocab_size = len(base.pieces) + len(pieces)
    for i, piece in enumerate(pieces):
        merged.pieces.add(piece=piece, score=first - (i if ranks is None else ranks[piece]), type=NORMAL)
    return merged


def _check(config: MergeVocabConfig) -> None:
    if config.donor_filter != "all":
        check_scripts(config.donor_filter)
    if config.repair == "swap" and not config.samples:
        raise ConfigError("samples: repair: swap gives up the pieces that are rarest on samples; name some text")


def _sources(config: MergeVocabConfig) -> list[tuple[str, str]]:
    return [("base", config.base), ("donor", config.donor)]


def _read(config: MergeVocabConfig, base_file: Path, donor_file: Path) -> tuple[ModelProto, ModelProto, list[str]]:
    """The base, the donor, and the donor's pieces that are to be added, in its order."""
    base, donor = read_model(base_file), read_model(donor_file)
    check_base(base, base_file)
    if [piece.piece for piece in base.pieces] == [piece.piece for piece in donor.pieces]:
        raise ConfigError(f"donor: {donor_file} is the base itself; name another vocabulary")
    have = {piece.piece for piece in base.pieces}
    new = [piece.piece for piece in donor.pieces if piece.type == NORMAL and piece.piece not in have]
    if not new:
        raise ConfigError(f"donor: every piece of {donor_file} is in the base already; name another vocabulary")
    if config.donor_filter != "all":
        new = [piece for piece in new if holds_script(piece, config.donor_filter)]
        if not new:
            names = ", ".join(config.donor_filter)
            raise ConfigError(
                f"donor_filter: no new piece of {donor_file} holds {names}; change the scripts, or use all"
            )
    return base, donor, new


def _build(
    config: MergeVocabConfig, base_file: Path, donor_file: Path, samples: Mapping[str, Sequence[Path]], folder: Path
) -> dict[str, Any]:
    base, donor, new = _read(config, base_file, donor_file)
    if config.repair == "none":  # nothing is read or written for a size that is wrong
        _check_size(config, base, len(new))
    documents = read_samples(samples)
    words = {language: count_words(texts) for language, texts in documents.items()}
    repaired = _repair(config, base, donor, new, sum(words.values(), Counter()))
    _check_size(config, base, len(repaired.pieces))
    merged = append(base, repaired.pieces, repaired.ranks)
    write_tokenizer(merged, folder)
    proof = prove(folder, documents, len(base.pieces))
    say(f"merge-vocab: {len(merged.pieces):,} pieces; tokenizer.json and SentencePiece agree on {proof.texts:,} texts")
    report = measure(MergedVocabulary(base, donor, merged, repaired), documents, words, proof, config.example)
    write_report(folder, report)
    size = len(merged.pieces)
    return {
        "pieces": size,
        "rows": -(-size // config.pad_to_multiple_of) * config.pad_to_multiple_of,
        "base_pieces": len(base.pieces),
        **key_figures(report),
    }


def _check_size(config: MergeVocabConfig, base: ModelProto, new: int) -> None:
    size = len(base.pieces) + new
    if config.expected_size not in (None, size) and config.repair != "swap":
        raise BllossomError(
            f"the merged vocabulary has {size:,} pieces ({len(base.pieces):,} + {new:,} new), not the expected "
            f"{config.expected_size:,}; check base, donor, donor_filter and repair, or set expected_size={size}"
        )


def _repair(
    config: MergeVocabConfig, base: ModelProto, donor: ModelProto, new: list[str], words: Counter[str]
) -> Repaired:
    lone = sorted({character for piece in new for character in piece} - {p.piece for p in base.pieces} - set(new))
    if config.repair == "none":
        if lone:
            raise BllossomError(
                f"donor pieces hold {lone[0]!r}, which is no piece itself: SentencePiece could make them, "
                "tokenizer.json could not; use repair: add"
            )
        return Repaired(new, {piece: i for i, piece in enumerate(new)}, [], [])
    scripts = None if config.donor_filter == "all" else config.donor_filter
    if config.repair == "swap" and scripts is None:
        scripts = main_scripts(new)
    allowed = (lambda piece: True) if scripts is None else (lambda piece: holds_script(piece, scripts))
    scores = normal_scores(base)
    atoms = processor(append(base, [*lone, *(piece for piece in new if len(piece) == 1)]))
    say(f"merge-vocab: repairing ({config.repair}), counting on {len(words):,} different words")
    problem = Problem([*new, *lone], scores, words or _donor_words(donor, new), atoms, allowed)
    if config.repair == "add":
        return repair_by_adding(problem)
    places = (config.expected_size or len(base.pieces) + len(new)) - len(base.pieces)
    return repair_by_swapping(problem, [piece for piece in problem.donor if allowed(piece)], places)


def _donor_words(donor: ModelProto, new: Sequence[str]) -> Counter[str]:
    """Without samples: the donor's pieces as words, as often as its scores say (log probabilities, or ranks)."""
    scores = {piece.piece: piece.score for piece in donor.pieces}
    is_unigram = donor.trainer_spec.model_type == UNIGRAM
    likely = {piece: math.exp(scores[piece]) if is_unigram else 1 / (i + 1) for i, piece in enumerate(new)}
    return Counter({piece: 1 + round(likely[piece] * 1e6) for piece in new if piece.startswith(SPACE)})
