"""tokenizer.json of byte-level BPE (GPT-2's kind: Llama 3, Qwen, SmolLM2): reading it, and writing it with more pieces.

Its pieces are byte strings, written with one printable character for each byte (`alphabet`). Added tokens may stand in
three files; whoever reads only one of them numbers anew what is missing there.
"""

import functools
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.hub import is_hub_id, name_and_revision
from bllossom.tokenizer.added_tokens import (
    ADDED,
    CONFIG,
    FLAGS,
    ROLES,
    TOKENIZER,
    read_added_tokens,
    read_json,
    read_roles,
    special_tokens,
)
from bllossom.tokenizer.files import BESIDE

VOCAB = "vocab.json"
CARRIED = (ROLES, ADDED, "chat_template.jinja")
BYTE_LEVEL_BESIDE = (*BESIDE, VOCAB, "config.json")
"""What is read with a tokenizer.json. The model's config says how many rows there are: where new ids begin."""
CLASS = "PreTrainedTokenizerFast"
"""transformers 5 takes tokenizer.json as it is under this class; under some others it replaces parts of it
(transformers#45920, #45812, #45488)."""
Merge = tuple[str, str]
NEEDED_BYTES = frozenset([9, 10, 13, *range(0x20, 0x7F), *range(0x80, 0xC0), *range(0xC2, 0xF1)])
"""Those of assigned characters, but for controls, tags and private use: SmolLM2 lacks 21 others of the 256."""


@functools.cache
def alphabet() -> Mapping[int, str]:
    """GPT-2's character for each byte: itself where it is printable, else the next one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@functools.cache
def _bytes_by_character() -> Mapping[str, int]:
    return {character: byte for byte, character in alphabet().items()}


def to_bytes(piece: str) -> bytes | None:
    """The bytes of a piece; None for what is no byte string (special tokens are written as they are)."""
    numbers = _bytes_by_character()
    return bytes(numbers[c] for c in piece) if all(c in numbers for c in piece) else None


@dataclass(frozen=True)
class ByteLevelFile:
    """A byte-level tokenizer as its files say it."""

    path: Path
    settings: Mapping[str, Any]  # tokenizer.json
    config: Mapping[str, Any]  # tokenizer_config.json
    added: Mapping[str, Mapping[str, Any]]  # content → id and flags, from all files
    rows: int  # of the model beside it; 0 where there is none

    @property
    def vocab(self) -> Mapping[str, int]:
        return self.settings["model"]["vocab"]

    @cached_property
    def merges(self) -> list[Merge]:
        """The pairs, best first; older files write them as one string."""
        return [_pair(merge) for merge in self.settings["model"]["merges"]]

    @cached_property
    def ids(self) -> int:
        """One more than the highest id in any of the files."""
        return 1 + max([*self.vocab.values(), *(token["id"] for token in self.added.values())])

    @cached_property
    def as_read(self) -> dict[str, Any]:
        """tokenizer.json with the added tokens of all files, as every reader has it; its vocabulary stays as it is."""
        tokens = sorted(self.added.values(), key=lambda token: token["id"])
        return dict(self.settings) | {"added_tokens": [dict(token) for token in tokens]}

    def extended(self, merges: Sequence[Merge], pieces: Sequence[str], first_id: int) -> dict[str, Any]:
        """tokenizer.json with `pieces` from `first_id` on and `merges` behind the base's; nothing else changes.

        Added tokens are written into the vocabulary: those that are not there get new ids whenever pieces are appended.
        """
        model = dict(self.settings["model"])
        model["vocab"] = dict(self.vocab) | {content: token["id"] for content, token in self.added.items()}
        model["vocab"] |= {piece: first_id + i for i, piece in enumerate(pieces)}
        as_strings = bool(model["merges"]) and isinstance(model["merges"][0], str)
        model["merges"] = [*model["merges"], *((" ".join(m) if as_strings else list(m)) for m in merges)]
        return self.as_read | {"model": model}

    def write(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Write `settings` as tokenizer.json, and the base's other files beside it."""
        _write_json(folder / TOKENIZER, settings)
        config = {key: value for key, value in self.config.items() if key != "auto_map"}
        _write_json(folder / CONFIG, config | {"tokenizer_class": CLASS})
        for name in CARRIED:
            if (source := self.path.parent / name).is_file():
                shutil.copyfile(source, folder / name)


def lacking_bytes(vocab: Mapping[str, int]) -> list[int]:
    """The bytes without a piece: the base drops them from text."""
    return sorted(byte for byte, character in alphabet().items() if character not in vocab)


def find_tokenizer_json(source: str) -> Path | None:
    """tokenizer.json of a folder, a file's own path or a hub id; None where there is no such file.

    Raises:
        BllossomError: the hub cannot be reached, and has not been before.
    """
    path = Path(source)
    if path.is_dir():
        return path / TOKENIZER if (path / TOKENIZER).is_file() else None
    if path.is_file():
        return path if path.suffix == ".json" else None
    if not is_hub_id(source):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        name, revision = name_and_revision(source)
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[TOKENIZER, *BYTE_LEVEL_BESIDE]))
    except (OSError, HTTPError, ValueError):
        return None  # the reader of SentencePiece models says what is wrong with a hub id
    return folder / TOKENIZER if (folder / TOKENIZER).is_file() else None


def is_byte_level(path: Path) -> bool:
    """Whether a tokenizer.json splits text into bytes."""
    try:
        settings = json.loads(path.read_text(encoding="utf8"))
        return '"ByteLevel"' in json.dumps([settings.get("pre_tokenizer"), settings.get("decoder")])
    except (OSError, ValueError, AttributeError):
        return False


def read_byte_level(path: Path) -> ByteLevelFile:
    """Read a tokenizer.json and what lies beside it, and check that it can be extended.

    Raises:
        BllossomError: it is not byte-level BPE, lacks bytes, has merges of pieces that are not there, or its files
            contradict each other.
    """
    settings, beside = read_json(path), path.parent
    _check_model(settings, path)
    _check_older_files(settings["model"]["vocab"], beside, path)
    vocab: Mapping[str, int] = settings["model"]["vocab"]
    added = read_added_tokens(beside, vocab, path.name)
    config = read_json(beside / CONFIG)
    padding = settings.get("padding") or {}
    told = {"pad_token": padding.get("pad_token")} | read_roles(beside)
    named = special_tokens(told) - added.keys()
    if unnumbered := sorted(named - vocab.keys()):
        raise BllossomError(
            f"{beside}: {CONFIG} or {ROLES} names {unnumbered[0]!r}, to which no file gives an id: every reader would "
            "number it behind the last piece, wherever that is; give it one in added_tokens_decoder, or take it out"
        )
    for content in named:  # an ordinary piece: whoever loads the tokenizer by its class makes an added token of it
        added[content] = FLAGS | {"id": vocab[content], "content": content, "special": True, "normalized": False}
    if not told.get("eos_token"):
        config = config | _roles_of_class(beside, vocab.keys() | added.keys())
    _check_numbering(added, vocab, path)
    rows = int(read_json(beside / "config.json").get("vocab_size") or 0)
    return ByteLevelFile(path, settings, config, added, rows)


def _check_numbering(added: Mapping[str, Mapping[str, Any]], vocab: Mapping[str, int], path: Path) -> None:
    """tokenizers numbers added tokens that are no pieces from the count of pieces on, whatever the file says."""
    outside = sorted((token["id"], content) for content, token in added.items() if content not in vocab)
    for read, (number, content) in enumerate(outside, len(vocab)):
        if number != read:
            raise BllossomError(
                f"{path.parent}: {content!r} is id {number} by its file, and every reader makes {read} of it, as the "
                f"ids below have holes: put it into model.vocab of {path.name}, with the id that the model learned"
            )


def _roles_of_class(folder: Path, known: Iterable[str]) -> dict[str, str]:
    """What the base's own class takes for bos, eos and unk where no file says it, as GPT-2's; `CLASS` takes nothing."""
    from transformers import AutoTokenizer

    try:
        roles: Mapping[str, Any] = AutoTokenizer.from_pretrained(folder).special_tokens_map
    except Exception as error:  # a class that is not known, or fails in a way of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        say(f"{folder}: no file names eos_token, and its own class does not load ({reason}): it is taken to have none")
        return {}
    known = set(known)
    return {role: token for role, token in roles.items() if isinstance(token, str) and token in known}


def _check_model(settings: Mapping[str, Any], path: Path) -> None:
    model = settings.get("model")
    if not isinstance(model, dict) or not model.get("vocab"):
        raise BllossomError(f"{path}: holds no vocabulary (model.vocab); name a tokenizer.json")
    kind, vocab = model.get("type", "BPE"), model["vocab"]
    if kind != "BPE" or not isinstance(vocab, dict):
        raise BllossomError(
            f"{path}: is {kind}, not byte-level BPE; a base must be BPE (this one can be the donor: name it there)"
        )
    if "ByteLevel" not in json.dumps([settings.get("pre_tokenizer"), settings.get("decoder")]):
        raise BllossomError(
            f"{path}: is BPE, but not byte-level: the SentencePiece file it came from is needed too (transformers 5 "
            "saves none): put tokenizer.model of the model that this one was tuned from beside it"
        )
    for part in ("pre_tokenizer", "decoder"):
        if "ByteLevel" not in json.dumps(settings.get(part)):
            raise BllossomError(
                f"{path}: its {part} is not ByteLevel, though another part is; choose a base that splits text into "
                "bytes in its pre-tokenizer, and puts them together in its decoder"
            )
    if marks := [key for key in ("continuing_subword_prefix", "end_of_word_suffix") if model.get(key)]:
        raise BllossomError(
            f"{path}: marks pieces by their place in a word ({marks[0]} {model[marks[0]]!r}), as CLIP does; choose a "
            "base whose pieces are bytes alone"
        )
    _check_vocab(vocab, path)
    _check_merges(model.get("merges"), vocab, path)
    if model.get("dropout"):
        raise BllossomError(f"{path}: has a dropout of {model['dropout']}: its ids are random; set it to null")
    try:
        Tokenizer.from_str(json.dumps(settings))
    except Exception as error:  # tokenizers raises no narrower kind
        raise BllossomError(f"{path}: tokenizers cannot load it ({str(error).splitlines()[0]}); get it anew") from error


def _check_older_files(vocab: Mapping[str, int], beside: Path, path: Path) -> None:
    """vocab.json says the same in GPT-2's format."""
    for piece, number in read_json(beside / VOCAB).items():
        if (found := vocab.get(piece, number)) != number:
            raise BllossomError(
                f"{path}: {piece!r} is id {found}, in {VOCAB} beside it {number}; the base's files disagree: take them "
                "all from one place"
            )


def _check_vocab(vocab: Mapping[str, Any], path: Path) -> None:
    holders: dict[Any, str] = {}
    for piece, number in vocab.items():
        if not isinstance(number, int) or number < 0:
            raise BllossomError(f"{path}: {piece!r} has {number!r} for an id; get the file anew")
        if (other := holders.setdefault(number, piece)) != piece:
            raise BllossomError(f"{path}: {other!r} and {piece!r} both have id {number}; get the file anew")
    lacking = [byte for byte in lacking_bytes(vocab) if byte in NEEDED_BYTES]
    if lacking:
        raise BllossomError(
            f"{path}: lacks {len(lacking)} of the bytes that text is made of (0x{lacking[0]:02X} first) and would drop "
            "them; choose a base that has all 256"
        )


def _check_merges(merges: Any, vocab: Mapping[str, int], path: Path) -> None:
    for merge in merges if isinstance(merges, list) else [merges]:
        parts = merge.split(" ", 1) if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2:
            raise BllossomError(f"{path}: {merge!r} stands where a merge, a pair of pieces, should; get the file anew")
        left, right = parts
        if gone := next((piece for piece in (left, right, left + right) if piece not in vocab), None):
            raise BllossomError(f"{path}: the merge {left!r} + {right!r} names {gone!r}, which is no piece; repair it")


def _pair(merge: str | Iterable[str]) -> Merge:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf8")
