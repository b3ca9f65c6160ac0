"""A tokenizer as GGUF holds it: its pieces with their types, its merges or scores, and its pre-tokenizer by name.

llama.cpp knows pre-tokenizers by names of its own, and takes them from there, not from the file: one that it does not
know cannot be written (llama.cpp#8649 is what happens when the name is guessed from a hash of the vocabulary).
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from bllossom.console import first_of, say
from bllossom.errors import BllossomError
from bllossom.tokenizer.added_tokens import read_added_tokens
from bllossom.tokenizer.byte_level_file import read_byte_level, to_bytes
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokenizer.sentencepiece_file import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, read_model

TYPES = {
    NORMAL: TokenType.NORMAL,
    UNKNOWN: TokenType.UNKNOWN,
    CONTROL: TokenType.CONTROL,
    USER_DEFINED: TokenType.USER_DEFINED,
    UNUSED: TokenType.UNUSED,
    BYTE: TokenType.BYTE,
}
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
BRACKETED = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
PATTERNS = {
    CONTRACTIONS + WORDS + r"|\p{N}{1,3}" + REST: "llama-bpe",
    BRACKETED + WORDS + r"|\p{N}{1,3}" + REST: "llama-bpe",
    CONTRACTIONS + WORDS + r"|\p{N}" + REST: "qwen2",
    BRACKETED + WORDS + r"|\p{N}" + REST: "qwen2",
}


def name_pre_tokenizer(pre_tokenizer: Mapping[str, Any] | None) -> str:
    """llama.cpp's name of a tokenizer.json's pre-tokenizer.

    Raises:
        BllossomError: it has none that is known here.
    """
    steps = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer or {}])
    kinds = [step.get("type") for step in steps]
    with_pattern = bool(steps) and steps[-1].get("use_regex", False) and not steps[-1].get("add_prefix_space")
    if kinds == ["ByteLevel"] and with_pattern:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and with_pattern and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"]:
        pattern = steps[0].get("pattern", {}).get("Regex")
        if pattern in PATTERNS and steps[0].get("behavior") == "Isolated":
            return PATTERNS[pattern]
    raise BllossomError(
        f"the pre-tokenizer {json.dumps(pre_tokenizer)[:120]} has no name in llama.cpp that is known here; "
        "see whether llama.cpp's own convert_hf_to_gguf.py takes the model: what it has no name for, it cannot run"
    )


def check_normalizer(normalizer: Mapping[str, Any] | None) -> None:
    """llama.cpp has no normaliser for byte-level BPE: NFC is told, as most text is in it, and any other refused.

    Raises:
        BllossomError: text would get other ids.
    """
    if normalizer is None or normalizer.get("normalizers") == []:
        return
    if normalizer.get("type") != "NFC":
        raise BllossomError(
            f"the normaliser {json.dumps(normalizer)[:120]} has no counterpart in llama.cpp, where text would get "
            "other ids; run the model with a program that reads tokenizer.json"
        )
    say("export: llama.cpp does not bring text into NFC, as this tokenizer does: other text gets other ids there")


def check_whole_words(settings: Mapping[str, Any], special: Collection[str], name: str) -> None:
    """Say which words get other ids: llama.cpp takes a word that is a piece for that piece under "llama-bpe" alone.

    tokenizer.json says by `ignore_merges` whether it does; a difference shows in pieces that merges do not make.
    """
    here, there = bool(settings["model"].get("ignore_merges")), name == "llama-bpe"
    if here == there:
        return
    by_merges = dict(settings) | {"model": dict(settings["model"]) | {"ignore_merges": False}}
    model = Tokenizer.from_str(json.dumps(by_merges)).model
    pieces = (piece for piece in settings["model"]["vocab"] if piece not in special and to_bytes(piece) is not None)
    if unmade := [piece for piece in pieces if [token.value for token in model.tokenize(piece)] != [piece]]:
        words = first_of([repr((to_bytes(piece) or b"").decode(errors="replace")) for piece in unmade], 3)
        way = "by merges alone" if here else "as the pieces they are"
        say(f"export: {len(unmade):,} words ({words}) get other ids, as llama.cpp spells them {way}")


def add_tokenizer(writer: GGUFWriter, folder: Path, rows: int) -> None:
    """Write the tokenizer of a model folder; rows without a piece are named, and never produced.

    Raises:
        BllossomError: llama.cpp would give other ids, or the folder's files are not of one tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    if (folder / "tokenizer.model").is_file():
        _add_sentencepiece(writer, folder / "tokenizer.model", tokenizer, rows)
    else:
        _add_byte_level(writer, folder / "tokenizer.json", rows)
    for kind in ("bos", "eos", "unk", "pad"):
        if (number := getattr(tokenizer, f"{kind}_token_id")) is not None:
            getattr(writer, f"add_{kind}_token_id")(number)
    bos = tokenizer.bos_token_id
    writer.add_add_bos_token(bos is not None and tokenizer("a")["input_ids"][:1] == [bos])
    writer.add_add_eos_token(False)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _add_sentencepiece(writer: GGUFWriter, path: Path, tokenizer: PreTrainedTokenizerFast, rows: int) -> None:
    model = read_model(path)
    by_id = _name_ids(path, {piece.piece: i for i, piece in enumerate(model.pieces)}, tokenizer)
    if beyond := [by_id[number] for number in sorted(by_id) if number >= rows]:
        say(f"export: {len(beyond):,} tokens ({first_of(beyond, 3)}) have no row in the model, and are left out")
    types = {i: TYPES[piece.type] for i, piece in enumerate(model.pieces)}
    for number, token in tokenizer.added_tokens_decoder.items():
        if types.get(number) != TokenType.UNKNOWN:
            types[number] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    scores = dict(enumerate(piece.score for piece in model.pieces))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([by_id.get(number, _spare(number)) for number in range(rows)])
    writer.add_token_scores([scores.get(number, -1e4) for number in range(rows)])
    writer.add_token_types([types.get(number, TokenType.UNUSED) for number in range(rows)])
    writer.add_add_space_prefix(model.normalizer_spec.add_dummy_prefix)


def _name_ids(path: Path, pieces: Mapping[str, int], tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    """The tokens by id, added ones too: a tune of Llama 2 names ChatML's in the files beside tokenizer.model alone.

    Raises:
        BllossomError: these files and the tokenizer that transformers makes of them give other ids.
    """
    added = {content: token["id"] for content, token in read_added_tokens(path.parent, pieces).items()}
    # transformers adds what only a role names (pad_token), at the next free id.
    told = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()} | dict(pieces) | added
    loaded = tokenizer.get_vocab()
    if differing := sorted(piece for piece, _ in told.items() ^ loaded.items()):
        piece = differing[0]
        raise BllossomError(
            f"{path} and the added tokens give {piece!r} the id {told.get(piece, 'none')}, the tokenizer as it loads "
            f"{loaded.get(piece, 'none')}: put the tokenizer.model that belongs to the folder's tokenizer.json there"
        )
    return {number: piece for piece, number in told.items()}


def _add_byte_level(writer: GGUFWriter, path: Path, rows: int) -> None:
    file = read_byte_level(path)
    check_normalizer(file.settings.get("normalizer"))
    by_id = {number: piece for piece, number in file.vocab.items()}
    by_id |= {token["id"]: content for content, token in file.added.items()}
    kinds = {
        token["id"]: TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED for token in file.added.values()
    }
    name = name_pre_tokenizer(file.settings["pre_tokenizer"])
    check_whole_words(file.settings, file.added.keys(), name)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list([by_id.get(number, _spare(number)) for number in range(rows)])
    writer.add_token_types([kinds.get(n, TokenType.NORMAL if n in by_id else TokenType.UNUSED) for n in range(rows)])
    writer.add_token_merges([" ".join(merge) for merge in file.merges])


def _spare(number: int) -> str:
    return f"[PAD{number}]"
