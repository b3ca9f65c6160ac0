"""Donors: where new pieces come from. A donor is only a list of pieces, so any kind of vocabulary serves."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bllossom.config import InputGlob, Model, Source
from bllossom.console import say
from bllossom.errors import BllossomError, ConfigError
from bllossom.tokenizer.byte_level_file import find_tokenizer_json, is_byte_level, to_bytes
from bllossom.tokenizer.scripts import UNSPACED, script_of
from bllossom.tokenizer.sentencepiece_file import NORMAL, SPACE, UNIGRAM, ModelProto, find_model_file, read_model

BROKEN, NUL = "�", "\0"  # SentencePiece takes a piece with a NUL for an unused one


class DonorText(Model):
    """Text to learn pieces from, by going on with the base's own BPE."""

    text: Annotated[list[InputGlob], Field(min_length=1, description="text files, folders or globs; each is a source")]
    pieces: Annotated[
        Annotated[int, Field(gt=0)] | Literal["auto"],
        Field(
            description="new pieces in all; auto: as many as leave a tenth below 100 occurrences in the text, at "
            "most 32,000",
        ),
    ]


OneDonor = Source | DonorText


@dataclass(frozen=True)
class Donor:
    """A donor's pieces, `▁` for a space, in its order, with how likely each is."""

    path: Path
    likely: Mapping[str, float] = field(repr=False)

    @property
    def pieces(self) -> list[str]:
        return list(self.likely)


def find_donor(source: str) -> Path:
    """The file of a donor: a SentencePiece model before a tokenizer.json.

    Raises:
        BllossomError: there is neither.
    """
    path = Path(source)
    if path.is_file():
        return path
    ours = path / "tokenizer.json"
    # A byte-level folder's tokenizer.model, where there is one (Llama 3), is in tiktoken's format.
    if path.is_dir() and ours.is_file() and (is_byte_level(ours) or not list(path.glob("*.model"))):
        return ours
    try:
        return find_model_file(source)
    except BllossomError:
        if (found := find_tokenizer_json(source)) is not None:
            return found
        raise


def read_donor(path: Path) -> Donor:
    """The pieces of a SentencePiece model of any type, or of a tokenizer.json of any type.

    Where none begins with `▁`, which is so of scripts without spaces and of BPE that split at spaces and dropped them,
    nothing tells which ones begin words: all are taken to stand inside them, and that is said.

    Raises:
        BllossomError: the file is something else, holds no piece, or marks where words end: that `się</w>` ends one
            says not whether it begins one too, which is all that a base's pieces tell.
    """
    likely = _from_tokenizer_json(path) if path.suffix == ".json" else _from_model(read_model(path))
    if not likely:
        raise BllossomError(f"donor: {path} holds no piece that is text; name another vocabulary")
    if not any(piece.startswith(SPACE) for piece in likely):
        say(
            f"donor: {path} marks no beginnings of words ({SPACE}): its pieces are taken as they stand, inside words, "
            "which is right for a script without spaces; for others name a donor that marks them (Metaspace, ByteLevel)"
        )
    return Donor(path, likely)


def check_donors(donors: list[OneDonor]) -> None:
    """Refuse more than one text: which of their numbers of pieces would count?"""
    if sum(isinstance(donor, DonorText) for donor in donors) > 1:
        raise ConfigError("donor: names text twice; put all of it under one text:, each file is a source of its own")


def _from_model(model: ModelProto) -> dict[str, float]:
    """Unigram scores are log probabilities; elsewhere the order is all there is."""
    unigram = model.trainer_spec.model_type == UNIGRAM
    normal = [piece for piece in model.pieces if piece.type == NORMAL]
    return {piece.piece: math.exp(piece.score) if unigram else 1 / (i + 1) for i, piece in enumerate(normal)}


def _from_tokenizer_json(path: Path) -> dict[str, float]:
    try:
        settings = json.loads(path.read_text(encoding="utf8"))
        model = settings["model"]
        vocab = model["vocab"]
    except (ValueError, KeyError, TypeError) as error:
        raise BllossomError(f"donor: {path} is no tokenizer.json ({error}); name another vocabulary") from error
    special = {token["content"] for token in settings.get("added_tokens") or []} | {model.get("unk_token")}
    if isinstance(vocab, list):  # Unigram
        unknown = model.get("unk_id")
        scored = [(piece, math.exp(score)) for i, (piece, score) in enumerate(vocab) if i != unknown]
        return {piece: likely for piece, likely in scored if piece not in special and not _is_byte(piece)}
    ordered = [piece for piece in sorted(vocab, key=vocab.__getitem__) if piece not in special]
    if suffix := model.get("end_of_word_suffix"):
        raise BllossomError(
            f"donor: {path} marks where words end (end_of_word_suffix {suffix!r}), as XLM and CLIP do, so that none of "
            "its pieces tells whether it begins one; name another vocabulary"
        )
    if is_byte_level(path):
        read = [raw.decode(errors="replace").replace(" ", SPACE) for p in ordered if (raw := to_bytes(p)) is not None]
    elif prefix := _continuing_prefix(model):
        read = [_from_marked(piece, prefix) for piece in ordered]
    elif _kind(model) == "WordLevel":
        read = [_as_beginning(piece) for piece in ordered]
    else:
        read = ordered
    texts = dict.fromkeys(text for text in read if not (BROKEN in text or NUL in text or _is_byte(text)))
    return {text: 1 / (i + 1) for i, text in enumerate(texts)}


def _kind(model: Mapping[str, Any]) -> str:
    """The type of a model. Files from before tokenizers 0.9 name none, where only BPE has merges, and only WordPiece
    limits how long a word may be."""
    told = "BPE" if "merges" in model else "WordPiece" if "max_input_chars_per_word" in model else "WordLevel"
    return model.get("type") or told


def _continuing_prefix(model: Mapping[str, Any]) -> str:
    """What marks the pieces that go on inside a word, in WordPiece models and BPE trained so; empty where nothing
    does."""
    prefix = model.get("continuing_subword_prefix")
    return prefix if prefix is not None else "##" if _kind(model) == "WordPiece" else ""


def _from_marked(piece: str, prefix: str) -> str:
    """These mark what goes on inside a word, SentencePiece what begins one. Nothing goes on in a mark alone."""
    goes_on = piece.startswith(prefix) and piece != prefix
    return piece.removeprefix(prefix) if goes_on else _as_beginning(piece)


def _as_beginning(piece: str) -> str:
    """With the mark of a word's beginning, but where no space stands in front of words: there text never has it."""
    return piece if piece.startswith(SPACE) or script_of(piece) in UNSPACED else SPACE + piece


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x")


def describe(donor: OneDonor) -> Any:
    """A donor in a few words."""
    return f"{donor.pieces} pieces from {', '.join(donor.text)}" if isinstance(donor, DonorText) else donor
