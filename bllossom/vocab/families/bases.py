"""The two kinds of base, opened and extended the same way."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bllossom.console import first_of, say
from bllossom.errors import BllossomError, ConfigError
from bllossom.tokenizer.added_tokens import TOKENIZER
from bllossom.tokenizer.byte_level_file import ByteLevelFile, find_tokenizer_json, is_byte_level, read_byte_level
from bllossom.tokenizer.convert import with_added_tokens, write_tokenizer
from bllossom.tokenizer.scripts import code_points, holds_letter
from bllossom.tokenizer.sentencepiece_file import check_base, find_model_file, read_model
from bllossom.vocab.families.byte_level import ByteLevelVocabulary, last_joins, only_in
from bllossom.vocab.families.sentencepiece import SentencePieceVocabulary, append
from bllossom.vocab.families.vocabulary import Vocabulary
from bllossom.vocab.proof.certificate import as_text, certify, texts_like
from bllossom.vocab.proof.counts import Proof
from bllossom.vocab.proof.sentencepiece import compare_with_base, prove
from bllossom.vocab.repair.repair import Repaired

Scripts = Sequence[str] | None


@dataclass(frozen=True)
class Extended:
    """The merged vocabulary as written, and what was proved of it."""

    vocabulary: Vocabulary
    proof: Proof
    certificate: Mapping[str, Any] | None


class Base(Protocol):
    """A vocabulary that keeps its ids."""

    path: Path
    vocabulary: Vocabulary
    first_new_id: int
    rows: int
    """Of the model beside it, which must not become fewer; 0 where that is not known."""

    def allowed(self, scripts: Scripts) -> Callable[[str], bool]:
        """Which pieces may be added."""

    def with_letters(self, letters: Sequence[str]) -> Vocabulary:
        """The base's vocabulary that knows these characters too: what its joins leave of text once they are pieces."""

    def extend(self, new: Repaired, scripts: Scripts, folder: Path, documents: Mapping[str, Sequence[str]]) -> Extended:
        """Write the merged tokenizer into `folder` and prove it."""


def open_base(source: str, *, use_padding_rows: bool = False) -> Base:
    """The base at `source`: SentencePiece where there is a model, else byte-level BPE.

    Raises:
        BllossomError: it is neither, or cannot be extended.
    """
    if (path := find_byte_level(source)) is not None:
        return ByteLevelBase(path, use_padding_rows)
    if (path := find_tokenizer_json(source)) is not None and not list(path.parent.glob("*.model")):
        read_byte_level(path)  # says why it cannot be a base
    return SentencePieceBase(find_model_file(source))


def find_byte_level(source: str) -> Path | None:
    """tokenizer.json of a byte-level base; None where the base is something else.

    A tiktoken tokenizer.model beside it (Llama 3) says the same in another format.
    """
    path = find_tokenizer_json(source)
    return path if path is not None and is_byte_level(path) else None


class SentencePieceBase:
    """A SentencePiece BPE model with byte fallback."""

    def __init__(self, path: Path) -> None:
        self.path, model = path, read_model(path)
        check_base(model, path)
        self.model = with_added_tokens(model, path.parent)
        both = zip(model.pieces, self.model.pieces, strict=False)
        if marks := [new.piece for old, new in both if old.type != new.type]:
            say(
                f"{path}: {len(marks)} user-defined pieces ({first_of(marks, 3)}) are special tokens here: "
                "templates may use them, text that holds them literally stays text"
            )
        self.vocabulary: Vocabulary = SentencePieceVocabulary(self.model)
        self.first_new_id, self.rows = len(self.model.pieces), 0

    def allowed(self, scripts: Scripts) -> Callable[[str], bool]:
        return (lambda piece: True) if scripts is None else (lambda piece: holds_letter(piece, scripts))

    def with_letters(self, letters: Sequence[str]) -> Vocabulary:
        return SentencePieceVocabulary(append(self.model, letters))

    def extend(self, new: Repaired, scripts: Scripts, folder: Path, documents: Mapping[str, Sequence[str]]) -> Extended:
        merged = append(self.model, new.pieces, new.ranks)
        own = self.path.parent
        write_tokenizer(merged, folder, own)
        if (own / TOKENIZER).is_file() and (differs := compare_with_base(own, folder, self.first_new_id)) is not None:
            say(f"merge-vocab: {differs}")
        return Extended(SentencePieceVocabulary(merged), prove(folder, documents, self.first_new_id), None)


class ByteLevelBase:
    """A tokenizer.json of byte-level BPE."""

    def __init__(self, path: Path, use_padding_rows: bool) -> None:
        self.path, self.file = path, read_byte_level(path)
        self._settings = self.file.extended([], [], 0)  # the base, with its added tokens in the vocabulary
        _check_added_words(self.file, self._settings)
        self._own = ByteLevelVocabulary(self._settings)
        self.vocabulary: Vocabulary = self._own
        self.rows = self.file.rows
        self.first_new_id = self.file.ids if use_padding_rows else max(self.file.ids, self.rows)

    def allowed(self, scripts: Scripts) -> Callable[[str], bool]:
        if scripts is None:
            raise ConfigError("donor_filter: a byte-level base needs the scripts that get pieces, such as [Hangul]")
        safe, known = only_in(code_points(tuple(scripts))), self._settings["model"]["vocab"]
        # A piece of the base that its merges never make (Llama 3 has such) cannot be a part either: its id is taken.
        return lambda piece: piece not in known and safe(piece)

    def with_letters(self, letters: Sequence[str]) -> Vocabulary:
        return self.vocabulary

    def extend(self, new: Repaired, scripts: Scripts, folder: Path, documents: Mapping[str, Sequence[str]]) -> Extended:
        joins = last_joins(new.pieces, new.ranks, self._own)
        settings = self.file.extended(joins, new.pieces, self.first_new_id)
        if taken := [piece for piece in new.pieces if piece in self._settings["model"]["vocab"]]:
            raise BllossomError(f"{self._own.read(taken[0])!r} is in the base already; leave it out of the donor")
        self.file.write(folder, settings)
        written = json.loads((folder / "tokenizer.json").read_text(encoding="utf8"))
        points = code_points(tuple(scripts or ()))
        proof, certificate = certify(
            self.file.as_read, self._settings, written, folder, documents, points, self.first_new_id
        )
        return Extended(ByteLevelVocabulary(written), proof, certificate)


def _check_added_words(file: ByteLevelFile, extended: Mapping[str, Any]) -> None:
    """Refuse added tokens that would be made of text once they stand in the vocabulary, where `ignore_merges` looks.

    Raises:
        BllossomError: names the first.
    """
    outside = [content for content in file.added if content not in file.vocab]
    if not (outside and file.settings["model"].get("ignore_merges")):
        return
    before, after = as_text(file.as_read), as_text(extended)
    for content in outside:
        for text in texts_like(content):
            if before.encode(text).ids != after.encode(text).ids:
                raise BllossomError(
                    f"{file.path}: its added token {content!r} is a word as text has it, and would be made of that "
                    "once it stands among the pieces, where it keeps its id: the base takes whole words from there "
                    "(ignore_merges); take a base without this token"
                )
