"""How the new tokenizer's pieces sit on the base's: the same first ids, and how the base spelled each new piece."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from bllossom.artifacts import read_manifest
from bllossom.errors import BllossomError
from bllossom.tokenizer.byte_level_file import to_bytes
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokenizer.scripts import script_of

ALIKE = 50  # rows of a script, below which their mean norm says little


@dataclass(frozen=True)
class Pieces:
    """Rows 0 … base-1 are the base's, base … base+new-1 are new, and from there to `rows` there is only padding."""

    base: int
    rows: int
    spellings: Sequence[Sequence[int]]
    """For each new piece, at least one id of the base's."""
    byte_lengths: Sequence[int] = ()
    """Bytes of each of the base's pieces."""
    alike: Sequence[int] = ()
    """The base's rows of the new pieces' script, or all ordinary ones where those are fewer than ALIKE."""
    alike_told: str = ""

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
    for number, piece in sorted(old.items()):
        if (found := new.get(number, "nothing")) != piece:
            if found == "nothing" and old.keys() > new.keys() and all(old[i] == new[i] for i in new):
                raise BllossomError(
                    f"{model} has {len(old):,} pieces and {tokenizer} the first {len(new):,} of them: name them the "
                    "other way round"
                )
            raise BllossomError(
                f"{tokenizer}: id {number} is {found!r}, in {model} it is {piece!r}; choose the tokenizer that "
                f"merge-vocab made from {model}"
            )
    rows = _rows(tokenizer, max(new) + 1)
    added = sorted(new.keys() - old.keys())
    if rows == len(old):
        raise BllossomError(f"{tokenizer} adds nothing to {model}'s {len(old):,} pieces; use the model as it is")
    # Where the model has more rows than its tokenizer has ids (Qwen 3), the new ones may begin behind all rows.
    first = added[0] if added else max(old) + 1
    if added and added[-1] - first + 1 != len(added):
        raise BllossomError(f"{tokenizer}: its new ids are not in one run; make it with merge-vocab")
    spell = _speller(base, merged, model)
    spellings = [spell(new[number]) for number in added]
    return Pieces(first, rows, spellings, *_find_alike(base, [new[number] for number in added]))


def _find_alike(base: PreTrainedTokenizerFast, new: Sequence[str]) -> tuple[list[int], list[int], str]:
    """Bytes of each of the base's pieces; its rows of the script that most new pieces are in; and these in words."""
    byte_level = '"ByteLevel"' in base.backend_tokenizer.to_str()

    def read(piece: str) -> bytes:
        if byte_level and (raw := to_bytes(piece)) is not None:
            return raw
        # <0x0A> is one byte of SentencePiece's
        return b"?" if len(piece) == 6 and piece.startswith("<0x") else piece.replace("▁", " ").encode()

    old = _pieces(base)
    raw = {number: read(piece) for number, piece in old.items()}
    special = set(base.all_special_ids) | set(base.get_added_vocab().values())
    lengths = [len(raw.get(number, b"")) for number in range(max(old) + 1)]
    scripts = Counter(script_of(read(piece).decode(errors="ignore")) for piece in new)
    script = scripts.most_common(1)[0][0] if scripts else ""
    ordinary = [number for number in sorted(old) if number not in special]
    alike = [number for number in ordinary if script_of(raw[number].decode(errors="ignore")) == script]
    if len(alike) >= ALIKE:
        return lengths, alike, f"the base's {len(alike):,} {script} rows"
    return lengths, ordinary, f"all ordinary rows, as the base has only {len(alike)} of {script}"


def _pieces(tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    return {number: piece for piece, number in tokenizer.get_vocab().items()}


def _speller(
    base: PreTrainedTokenizerFast, merged: PreTrainedTokenizerFast, model: Path
) -> Callable[[str], Sequence[int]]:
    """How the base spells a new piece, or a new added token."""
    tokenize, unknown = base.backend_tokenizer.model.tokenize, base.unk_token_id
    # An added token is raw text. A piece is what the normaliser makes of text: ▁ (or Ġ) stands for the space already,
    # and the model below the normaliser puts no further ▁ in front, which a piece inside a word must not get.
    raw = set(merged.get_added_vocab())

    def spell(piece: str) -> Sequence[int]:
        ids = encode_text(base, piece) if piece in raw else [token.id for token in tokenize(piece)]
        if not ids and unknown is not None:
            ids = [unknown]
        if not ids:
            raise BllossomError(f"{model}: its tokenizer cannot spell {piece!r} and has no <unk>; choose another base")
        return ids

    return spell


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
