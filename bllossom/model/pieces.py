"""How the new tokenizer's pieces sit on the base's: the same first ids, and how the base spelled each new piece."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from bllossom.artifacts import read_manifest
from bllossom.errors import BllossomError
from bllossom.tokenizer.load import load_tokenizer


@dataclass(frozen=True)
class Pieces:
    """Ids 0 … base-1 are the base's, base … base+new-1 are new, and from there to `rows` there is only padding."""

    base: int
    rows: int
    spellings: Sequence[Sequence[int]]
    """For each new piece, at least one id of the base's."""

    @property
    def new(self) -> int:
        return len(self.spellings)

    @property
    def padding(self) -> int:
        return self.rows - self.base - self.new


def compare_tokenizers(model: Path, tokenizer: Path) -> Pieces:
    """Check that the tokenizer goes on where the model's own ends, and spell its new pieces with the model's own.

    The number of rows comes from the manifest of merge-vocab, or of the model that the tokenizer stands beside; for
    somebody else's tokenizer it is the number of pieces.

    Raises:
        BllossomError: the first ids are not the base's, the manifest is not the tokenizer's, or nothing is new.
    """
    base, merged = load_tokenizer(model), load_tokenizer(tokenizer)
    old, new = _pieces(base), _pieces(merged)
    again = f"choose the tokenizer that merge-vocab made from {model}"
    for number, piece in enumerate(old):
        found = new[number] if number < len(new) else "nothing"
        if found != piece:
            raise BllossomError(f"{tokenizer}: id {number} is {found!r}, in {model} it is {piece!r}; {again}")
    rows = _rows(tokenizer, len(new))
    if rows == len(old):
        raise BllossomError(f"{tokenizer} adds nothing to {model}'s {len(old):,} pieces; use the model as it is")
    spell = base.backend_tokenizer.model.tokenize
    unknown = base.unk_token_id
    spellings = []
    for piece in new[len(old) :]:
        # A piece is what the normaliser makes of text: ▁ stands for the space already, and the model below the
        # normaliser puts no further ▁ in front, which a piece inside a word must not get.
        ids = [token.id for token in spell(piece)] or ([] if unknown is None else [unknown])
        if not ids:
            raise BllossomError(f"{model}: its tokenizer cannot spell {piece!r} and has no <unk>; choose another base")
        spellings.append(ids)
    return Pieces(len(old), rows, spellings)


def _pieces(tokenizer: PreTrainedTokenizerFast) -> list[str | None]:
    by_id = {number: piece for piece, number in tokenizer.get_vocab().items()}
    return [by_id.get(number) for number in range(max(by_id) + 1)]


def _rows(tokenizer: Path, pieces: int) -> int:
    manifest = read_manifest(tokenizer)
    if manifest is None or "rows" not in manifest.figures:
        return pieces
    # A model's manifest, as expand, pretrain, sft and merge-adapter write it, counts its rows and no pieces.
    message, rows = manifest.figures.get("pieces", pieces), manifest.figures["rows"]
    if message != pieces or rows < pieces:
        message = f"{tokenizer} holds {pieces:,} pieces, its manifest says {message:,} pieces, {rows:,} rows"
        raise BllossomError(f"{message}; make it again with {manifest.stage} --force")
    return rows
