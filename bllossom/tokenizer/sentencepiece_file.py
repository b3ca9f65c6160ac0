"""Finding and reading SentencePiece models, and saying clearly what is no such thing, or not one we can use.

A base must be BPE with byte fallback and the identity normaliser (Llama 2, Mistral, TinyLlama, Gemma, and what
`train-vocab` makes with `type: bpe`). A donor is only a list of pieces, so any model serves.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

from bllossom.errors import BllossomError
from bllossom.hub import is_hub_id, name_and_revision

spm: Any = sentencepiece_model_pb2  # see ModelProto
SPACE = "▁"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # ModelProto.SentencePiece.Type
BPE, UNIGRAM = 2, 1  # TrainerSpec.ModelType
MARK = re.compile(r"\[.+\]|<.+>")  # a user-defined piece that stands for something else than text: [REF], <mask>
BYTE_LEVEL = (
    "{path}: this is a byte-level BPE vocabulary (as Llama 3's, Qwen's or GPT-2's), without the "
    "tokenizer.json that says how it splits text; name the folder or the file that has it"
)


class Piece(Protocol):
    """ModelProto.SentencePiece."""

    piece: str
    score: float
    type: int


class Pieces(Protocol):
    """ModelProto.pieces, a repeated field: as much of a list as is used here."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Piece]: ...
    def __getitem__(self, index: int, /) -> Piece: ...
    def __delitem__(self, index: slice, /) -> None: ...
    def add(self, *, piece: str, score: float, type: int) -> Piece: ...  # noqa: A002
    def extend(self, pieces: Iterable[Piece], /) -> None: ...


class TrainerSpec(Protocol):
    """How the model was trained, as far as it matters later."""

    model_type: int
    vocab_size: int
    treat_whitespace_as_suffix: bool
    bos_piece: str
    eos_piece: str
    pad_piece: str


class NormalizerSpec(Protocol):
    """What the model does to text before it looks for pieces."""

    name: str
    precompiled_charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool


class ModelProto(Protocol):
    """A SentencePiece model. Its real class is made when the library is imported, so that it has no types to check."""

    @property
    def pieces(self) -> Pieces: ...
    @property
    def trainer_spec(self) -> TrainerSpec: ...
    @property
    def normalizer_spec(self) -> NormalizerSpec: ...
    def ParseFromString(self, raw: bytes, /) -> int: ...  # noqa: N802
    def SerializeToString(self, *, deterministic: bool = False) -> bytes: ...  # noqa: N802
    def CopyFrom(self, other: Self, /) -> None: ...  # noqa: N802
    def Clear(self) -> None: ...  # noqa: N802


def find_model_file(source: str | Path) -> Path:
    """The `.model` file of a folder, of a file's own path, or of a hub id (downloaded, or taken from the hub's cache).

    Raises:
        BllossomError: there is no such thing, or it holds no SentencePiece model.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        return _in_folder(path)
    if is_hub_id(str(source)):
        return _from_hub(str(source))
    raise BllossomError(f"{source}: no such file, folder or hub id; name a tokenizer.model, its folder, or owner/name")


def _in_folder(folder: Path) -> Path:
    if (folder / "tokenizer.model").is_file():
        return folder / "tokenizer.model"
    found = sorted(folder.glob("*.model"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise BllossomError(f"{folder} holds several models ({names}); name the file itself")
    if (folder / "tokenizer.json").is_file() and _is_byte_level(folder / "tokenizer.json"):
        raise BllossomError(BYTE_LEVEL.format(path=folder))
    if (folder / "vocab.json").is_file() and not (folder / "tokenizer.json").is_file():
        raise BllossomError(
            f"{folder} holds vocab.json, but no tokenizer.json: load it with transformers' AutoTokenizer, save it with "
            "save_pretrained, and name that folder"
        )
    raise BllossomError(f"{folder} holds no SentencePiece model (*.model); name the folder or file that has one")


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    repository, revision = name_and_revision(name)
    for file in ("tokenizer.model", "spiece.model"):
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError as error:
            raise BllossomError(
                f"{name}: {file} is not in the hub's cache on this machine, and the hub cannot be reached; "
                f"download it where there is a network, and name the file or its folder"
            ) from error
        except RepositoryNotFoundError as error:
            raise BllossomError(f"{name}: the hub does not show it; check the name, or try `hf auth login`") from error
        except EntryNotFoundError:
            continue
    raise BllossomError(f"{name}: has no tokenizer.model on the hub; name one that has a SentencePiece model")


def read_model(path: Path) -> ModelProto:
    """Parse a SentencePiece model.

    Raises:
        BllossomError: the file is something else.
    """
    return read_model_bytes(path.read_bytes(), path)


def read_model_bytes(raw: bytes, path: Path) -> ModelProto:
    """Parse a SentencePiece model; `path` is where it came from, for the messages."""
    model: ModelProto = spm.ModelProto()
    try:
        model.ParseFromString(raw)
    except DecodeError:
        model.Clear()
    if model.pieces and any(piece.type == UNKNOWN for piece in model.pieces):
        return model
    if _is_tiktoken(raw) or (path.suffix == ".json" and _is_byte_level(path)):
        raise BllossomError(BYTE_LEVEL.format(path=path))
    raise BllossomError(f"{path}: not a SentencePiece model; name a tokenizer.model (or spiece.model) file")


def check_base(model: ModelProto, path: Path) -> None:
    """Refuse as a base a model whose ids tokenizer.json could not reproduce.

    Raises:
        BllossomError: names the first property that is not supported.
    """
    if problem := _unsupported(model):
        donor = "" if model.trainer_spec.model_type == BPE else " (it can be the donor)"
        raise BllossomError(
            f"{path}: {problem}, so it cannot be a base{donor}; choose one such as Llama 2's, or make one with "
            "bllossom train-vocab (type: bpe)"
        )


def check_convertible(model: ModelProto, path: Path) -> None:
    """Refuse as a tokenizer a bare model whose ids tokenizer.json could not reproduce.

    Raises:
        BllossomError: names the first property that is not supported.
    """
    if problem := _unsupported(model):
        raise BllossomError(
            f"{path}: {problem}, so its ids cannot be reproduced from this file alone; name a folder that has its "
            "tokenizer.json"
        )


def _unsupported(model: ModelProto) -> str | None:
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    surface = sum(piece.type == BYTE for piece in model.pieces)
    unused = next((piece.piece for piece in model.pieces if piece.type == UNUSED), None)
    defined = (piece.piece for piece in model.pieces if piece.type == USER_DEFINED)
    odd = next((piece for piece in defined if normalizer.add_dummy_prefix and not MARK.fullmatch(piece)), None)
    if trainer.model_type != BPE:
        return f"is a {spm.TrainerSpec.ModelType.Name(trainer.model_type).capitalize()} model, not BPE"
    if surface != 256:
        return f"has {surface} of the 256 byte pieces (byte fallback)"
    if normalizer.precompiled_charsmap or normalizer.remove_extra_whitespaces or not normalizer.escape_whitespaces:
        return f"changes text with its normaliser {normalizer.name!r}, where the identity is needed"
    if trainer.treat_whitespace_as_suffix:
        return "writes spaces behind words (treat_whitespace_as_suffix)"
    if unused is not None:
        return f"holds the unused piece {unused!r}, which tokenizer.json would make of text"
    if odd is not None:
        return (
            f"holds the user-defined piece {odd!r}, which tokenizer.json cannot find in text that begins with a space "
            "of the tokenizer's own (add_dummy_prefix)"
        )
    return None


def _is_tiktoken(raw: bytes) -> bool:
    """Llama 3's tokenizer.model: lines of `base64 rank`."""
    first = raw[:200].split(b"\n", 1)[0].split()
    if len(first) != 2 or not first[1].isdigit():
        return False
    try:
        return bool(base64.b64decode(first[0], validate=True))
    except binascii.Error:
        return False


def _is_byte_level(tokenizer_json: Path) -> bool:
    try:
        text = tokenizer_json.read_text(encoding="utf8")
        return '"ByteLevel"' in json.dumps(json.loads(text).get("pre_tokenizer") or json.loads(text).get("decoder"))
    except (ValueError, AttributeError):
        return False
