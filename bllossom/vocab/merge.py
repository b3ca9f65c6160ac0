"""merge-vocab: a base vocabulary and the pieces of a donor, as one tokenizer, proved before it is published.

The base keeps its ids, pieces, types and scores. The donor's normal pieces that the base lacks follow in the donor's
order, below all of the base in priority, each with a score of its own: tied scores are resolved by position in
SentencePiece and by rank in tokenizer.json (google/sentencepiece#964, transformers#24233).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bllossom.artifacts import Manifest, publish
from bllossom.config import Source, StageConfig
from bllossom.errors import BllossomError, ConfigError
from bllossom.vocab.fast import normal_scores, write_tokenizer
from bllossom.vocab.model_file import NORMAL, ModelProto, check_base, find_model_file, read_model
from bllossom.vocab.scripts import check_scripts, holds_script

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
    samples: Annotated[
        dict[str, list[str]],
        Field(
            default_factory=dict,
            description="text (files, folders, globs) by language: proof and report read it, swap counts on it",
        ),
    ]


def merge_vocab(config: MergeVocabConfig, *, force: bool = False) -> Manifest:
    """Merge, repair, write, prove, report, publish.

    Raises:
        BllossomError: an input is unusable, the size is not `expected_size`, or tokenizer.json and SentencePiece
            disagree on some text.
    """
    if config.donor_filter != "all":
        check_scripts(config.donor_filter)
    base_file, donor_file = find_model_file(config.base), find_model_file(config.donor)
    inputs = {"base": base_file, "donor": donor_file}
    return publish(
        config,
        stage="merge-vocab",
        inputs=inputs,
        build=lambda folder: _build(config, base_file, donor_file, folder),
        force=force,
    )


def dry_run(config: MergeVocabConfig) -> list[str]:
    """Say what would come out, as far as the inputs are here."""
    if config.donor_filter != "all":
        check_scripts(config.donor_filter)
    lines = []
    for name, source in (("base", config.base), ("donor", config.donor)):
        if not Path(source).exists():
            lines.append(f"{name} {source} is not here yet")
    if not lines:
        base, new = read_vocabularies(config, find_model_file(config.base), find_model_file(config.donor))
        lines.append(f"{len(base.pieces):,} base pieces + {len(new):,} of the donor = {len(base.pieces) + len(new):,}")
    return lines


def read_vocabularies(config: MergeVocabConfig, base_file: Path, donor_file: Path) -> tuple[ModelProto, list[str]]:
    """The base model, and the donor's pieces that are to be added, in the donor's order."""
    base, donor = read_model(base_file), read_model(donor_file)
    check_base(base, base_file)
    have = {piece.piece for piece in base.pieces}
    if base.pieces == donor.pieces:
        raise ConfigError(f"donor: {donor_file} is the base itself; name another vocabulary")
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
    return base, new


def append(base: ModelProto, pieces: Sequence[str], ranks: Mapping[str, int] | None = None) -> ModelProto:
    """A copy of `base` with `pieces` behind it; below it in priority, in the order of `ranks` (or as listed).

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


def _build(config: MergeVocabConfig, base_file: Path, donor_file: Path, folder: Path) -> dict[str, Any]:
    base, new = read_vocabularies(config, base_file, donor_file)
    merged = append(base, new)
    size = len(merged.pieces)
    if config.expected_size not in (None, size):
        raise BllossomError(
            f"the merged vocabulary has {size:,} pieces ({len(base.pieces):,} + {len(new):,} new), not the "
            f"expected {config.expected_size:,}; check base and donor, or set expected_size={size}"
        )
    write_tokenizer(merged, folder)
    return {
        "pieces": size,
        "rows": -(-size // config.pad_to_multiple_of) * config.pad_to_multiple_of,
        "base_pieces": len(base.pieces),
    }
