"""train-vocab: a SentencePiece vocabulary from text, to be a base or a donor; or a byte-level base with more pieces.

`bpe` is Llama 2's way: the identity normaliser, bytes for what has no piece, every digit a piece of its own, `<unk>`,
`<s>`, `</s>` as 0, 1, 2. `unigram` is KoBERT's: NFKC, no bytes; it can only be a donor.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import sentencepiece
from pydantic import Field

from bllossom.artifacts import Manifest, publish
from bllossom.config import AddedIn, InputGlob, Source, StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError, ConfigError
from bllossom.text.sources import locate, read_normalised
from bllossom.tokenizer.convert import last_joins, normal_scores, write_tokenizer
from bllossom.tokenizer.scripts import check_scripts
from bllossom.tokenizer.sentencepiece_file import (
    NORMAL,
    ModelProto,
    check_base,
    find_model_file,
    read_model,
    read_model_bytes,
)
from bllossom.vocab.base_inputs import files_beside
from bllossom.vocab.families.bases import Base, find_byte_level, open_base
from bllossom.vocab.families.sentencepiece import append
from bllossom.vocab.learning.from_text import learn_from_text

TRAINER_THREADS = 2  # fixed: Unigram's sums, and so its pieces, depend on how the text is split over threads
WAYS: dict[str, dict[str, Any]] = {
    "bpe": {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
    },
    "unigram": {"normalization_rule_name": "nmt_nfkc"},
}


class TrainVocabConfig(StageConfig):
    """What `bllossom train-vocab` reads."""

    text: Annotated[
        list[InputGlob],
        Field(min_length=1, description="text files or globs: .jsonl, .parquet or .txt, plain, .gz or .zst"),
    ]
    type: Annotated[Literal["bpe", "unigram"], Field(description="bpe as Llama 2 (base or donor), or unigram (donor)")]
    vocab_size: Annotated[int, Field(gt=3, description="pieces, special ones and the 256 bytes of bpe included")]
    base: Annotated[
        Source | None,
        Field(description="the vocabulary this one will be merged with: pieces that cannot be made there are left out"),
    ] = None
    scripts: Annotated[
        list[str] | None,
        AddedIn(2),
        Field(
            description="Unicode scripts that get pieces, where the base is byte-level: new merges go behind its own"
        ),
    ] = None
    character_coverage: Annotated[
        float,
        Field(
            gt=0.9,
            le=1,
            description="share of the text's characters that get a piece of their own; not with a byte-level base, "
            "whose bytes make every character",
        ),
    ] = 0.9995


def train_vocab(config: TrainVocabConfig, *, force: bool = False) -> Manifest:
    """Train and publish a vocabulary; the same text gives the same bytes.

    Raises:
        BllossomError: there is no text, or too little for `vocab_size` pieces.
    """
    files = [path for source in config.text for path in locate(source)]
    inputs: dict[str, Path | str | None] = {f"text/{i}": path for i, path in enumerate(files)}
    _check(config)
    beside: dict[str, Path | None] = {}
    if config.base is not None and (path := find_byte_level(config.base)) is not None:
        byte_level = open_base(config.base)
        beside = files_beside(path, byte_level=True)
        inputs |= {"base": path, **beside}

        def build(folder: Path) -> dict[str, Any]:
            return _go_on(config, files, byte_level, folder)
    else:
        base_file = None if config.base is None else find_model_file(config.base)
        if base_file is not None:
            inputs["base"] = base_file  # alone: of what lies beside it nothing is read

        def build(folder: Path) -> dict[str, Any]:
            return _build(config, files, base_file, folder)

    return publish(config, stage="train-vocab", inputs=inputs, build=build, force=force, added_inputs=beside)


def dry_run(config: TrainVocabConfig) -> list[str]:
    """Say what would be trained on what; refuses a base that the run would refuse."""
    if config.base is None or Path(config.base).exists():
        _check(config)
    return [f"a {config.type} vocabulary of {config.vocab_size:,} pieces from " + ", ".join(config.text)]


def _check(config: TrainVocabConfig) -> None:
    byte_level = config.base is not None and find_byte_level(config.base) is not None
    if byte_level and (config.scripts is None or config.type != "bpe"):
        raise ConfigError(
            "scripts: a byte-level base needs type: bpe and the scripts that get pieces, such as [Hangul]"
        )
    if config.scripts is not None and not byte_level:
        raise ConfigError("scripts: only a byte-level base needs them; take them out, or name such a base")
    if byte_level and config.character_coverage != TrainVocabConfig.model_fields["character_coverage"].default:
        raise ConfigError(
            "character_coverage: a byte-level base has the bytes of every character, so that none is left out; take "
            "it out"
        )
    if config.scripts is not None:
        check_scripts(config.scripts)


def _go_on(config: TrainVocabConfig, files: Sequence[Path], base: Base, folder: Path) -> dict[str, Any]:
    """Learn with the base's own BPE, and write the whole tokenizer."""
    new = config.vocab_size - base.first_new_id
    if new < 1:
        raise BllossomError(f"vocab_size: the base has {base.first_new_id:,} ids already; set a larger one")
    learned, _ = learn_from_text(
        base, files, new, config.scripts, fewer=lambda found: f"set vocab_size={base.first_new_id + found}"
    )
    base.extend(learned, config.scripts, folder, {})
    return {"pieces": config.vocab_size, "base_pieces": base.first_new_id, "intermediates": len(learned.intermediates)}


def _build(config: TrainVocabConfig, files: Sequence[Path], base_file: Path | None, folder: Path) -> dict[str, Any]:
    read = {"documents": 0, "bytes": 0}

    def lines() -> Iterator[str]:
        for path in files:
            for document in read_normalised(str(path)):
                read["documents"] += 1
                read["bytes"] += len(document.encode())
                yield from filter(None, document.split("\n"))

    trained = io.BytesIO()
    say(f"train-vocab: {config.type}, {config.vocab_size:,} pieces, from {len(files)} file(s)")
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines(),
            model_writer=trained,
            model_type=config.type,
            vocab_size=config.vocab_size,
            character_coverage=config.character_coverage,
            max_sentence_length=2**30,  # bytes; the default drops longer lines in silence
            num_threads=TRAINER_THREADS,
            minloglevel=2,
            **WAYS[config.type],
        )
    except RuntimeError as error:
        raise BllossomError(_explain(str(error), config, read["bytes"])) from error
    model = read_model_bytes(trained.getvalue(), folder)
    left_out = [] if base_file is None else _leave_out(model, base_file)
    if config.type == "bpe":
        write_tokenizer(model, folder)
    else:
        (folder / "tokenizer.model").write_bytes(model.SerializeToString(deterministic=True))
    return {"pieces": len(model.pieces), "left_out": left_out, **read}


def _leave_out(model: ModelProto, base_file: Path) -> list[str]:
    """Take out of `model` what could not be made behind the base's merges, and say what that was.

    Pieces in scripts that the base has no merges in are never among them. In others the base's merges come first and
    may stand in the way: merged with Llama 2, `▁LibreOffice` can no longer be joined.
    """
    base = read_model(base_file)
    check_base(base, base_file)
    have = {piece.piece for piece in base.pieces}
    new = [piece.piece for piece in model.pieces if piece.type == NORMAL and piece.piece not in have]
    joins = last_joins(normal_scores(append(base, new)))
    left_out = {piece for piece in new if joins.get(piece, ()) is None}
    kept = [piece for piece in model.pieces if piece.piece not in left_out]
    del model.pieces[:]
    model.pieces.extend(kept)
    model.trainer_spec.vocab_size = len(kept)
    return sorted(left_out)


def _explain(error: str, config: TrainVocabConfig, read_bytes: int) -> str:
    if "ocabulary size" in error or "vocab_size" in error:
        return (
            f"{read_bytes:,} bytes of text do not give {config.vocab_size:,} pieces "
            f"({error.splitlines()[-1].strip()}); set another vocab_size, or name more text"
        )
    return f"SentencePiece could not train on this text ({error.splitlines()[-1].strip()}); check `text`"
