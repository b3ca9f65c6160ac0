"""Byte-level BPE as a vocabulary: words from the base's own pre-tokenizer, pieces as byte strings."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer, models

from bllossom.errors import BllossomError
from bllossom.tokenizer.byte_level_file import Merge, alphabet, to_bytes
from bllossom.tokenizer.scripts import ScriptCodePoints
from bllossom.vocab.families.vocabulary import Atoms

SPACE = "▁"
BATCH = 20_000  # words encoded in one go


class ByteLevelVocabulary:
    """A tokenizer.json's pieces, and what its merges make of words."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        vocab: Mapping[str, int] = settings["model"]["vocab"]
        added = {token["content"]: token["id"] for token in settings.get("added_tokens") or []}
        by_id = {number: piece for piece, number in [*vocab.items(), *added.items()]}
        self.pieces: Sequence[str] = [by_id.get(number, "") for number in range(max(by_id) + 1)]
        self.specials = frozenset(added.values()) | {i for i, piece in enumerate(self.pieces) if not piece}
        single = set(alphabet().values())
        self.byte_ids = frozenset(number for piece, number in vocab.items() if piece in single)
        self.crosses_words = False  # the pre-tokenizer parts them
        # Those that are not special are found in outside text too, and each is a token there.
        tokens = [token for token in settings.get("added_tokens") or [] if not token.get("special")]
        self._found = {token["content"]: token["id"] for token in tokens}
        plain = dict(settings) | {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        self._words = Tokenizer.from_str(json.dumps(plain))
        self._inside = Tokenizer.from_str(json.dumps(without_prefix(plain)))
        bare = plain | {"normalizer": None, "pre_tokenizer": None}
        self._bare = Tokenizer.from_str(json.dumps(bare))
        self._merges = Tokenizer.from_str(json.dumps(_joining(bare))).model
        self._added = re.compile("|".join(map(re.escape, self._found)) or r"(?!)")
        self._parts = Tokenizer.from_str(json.dumps(_symbols(plain, tokens)))
        self._symbols = {number: symbol for symbol, number in self._parts.get_vocab().items()}

    def normalize(self, text: str) -> str:
        """The text as the base's normaliser leaves it (Qwen: its NFC)."""
        return self._words.normalizer.normalize_str(text) if self._words.normalizer is not None else text

    def split(self, text: str) -> list[str]:
        """Added tokens that text holds (GPT-NeoX's runs of spaces) are words of their own, written as they are."""
        normalized = self.normalize(text)
        if not (self._found and any(map(self._added.search, (text, normalized)))):
            return [word for word, _ in self._words.pre_tokenizer.pre_tokenize_str(normalized)]
        words: dict[int | None, str] = {}
        parts = self._parts.encode(text, add_special_tokens=False)
        for word, number in zip(parts.word_ids, parts.ids, strict=True):
            words[word] = words.get(word, "") + self._symbols[number]
        return list(words.values())

    def cut(self, words: Sequence[str]) -> list[Atoms]:
        return [tuple(map(self.pieces.__getitem__, ids)) for ids in self.encode(words)]

    def spell(self, piece: str) -> Atoms:
        return tuple(token.value for token in self._merges.tokenize(piece))

    def encode(self, words: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = []
        for start in range(0, len(words), BATCH):
            batch = self._bare.encode_batch_fast(list(words[start : start + BATCH]), add_special_tokens=False)
            found += [encoding.ids for encoding in batch]
        if self._found:
            return [[self._found[word]] if word in self._found else ids for word, ids in zip(words, found, strict=True)]
        return found

    @cached_property
    def _shortest(self) -> Tokenizer:
        """The same pieces as a Unigram model in which each costs the same: its Viterbi search finds the shortest."""
        left_out = self.specials.difference(self._found.values())
        # The unknown piece, runs of which are one token, is one that no word has: byte 0 is written otherwise.
        pieces = [("\0", -1.0), *((piece, -1.0) for i, piece in enumerate(self.pieces) if i not in left_out)]
        return Tokenizer(models.Unigram(pieces, unk_id=0))

    def shortest(self, words: Counter[str]) -> int:
        keys, total = list(words), 0
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            encoded = self._shortest.encode_batch_fast(batch, add_special_tokens=False)
            total += sum(words[word] * len(encoding.ids) for word, encoding in zip(batch, encoded, strict=True))
        return total

    def write(self, text: str) -> str | None:
        found = self._inside.pre_tokenizer.pre_tokenize_str(self.normalize(text.replace(SPACE, " ")))
        return found[0][0] if len(found) == 1 else None

    def read(self, piece: str) -> str:
        raw = to_bytes(piece)
        return piece if raw is None else raw.decode(errors="replace").replace("\ufffd", "▯").replace(" ", SPACE)

    def text(self, piece: str) -> str:
        """The text that a piece stands for, a `▁` or `\ufffd` of its own included; broken characters as `\ufffd`."""
        raw = to_bytes(piece)
        return piece if raw is None else raw.decode(errors="replace")

    def is_whole(self, piece: str) -> bool:
        raw = to_bytes(piece)
        try:
            return raw is not None and bool(raw.decode())
        except UnicodeDecodeError:
            return False

    def unmade(self, pieces: Sequence[str]) -> list[str]:
        return [piece for piece in pieces if self.spell(piece) != (piece,)]


def only_in(scripts: ScriptCodePoints) -> Callable[[str], bool]:
    """Whether a byte string can occur in text of these scripts alone.

    It does where it begins with a character, and holds a whole one of theirs or ends in the first bytes of characters
    that are all theirs. A continuation byte at its beginning may be of any script: `\\x84\\xeb` is Hangul only from its
    second byte on.
    """
    heads = scripts.heads

    def safe(piece: str) -> bool:
        raw = to_bytes(piece)
        if raw is None or raw[0] & 0xC0 == 0x80:
            return False
        start = 0
        while start < len(raw):
            first = raw[start]
            length = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
            character = raw[start : start + length]
            if len(character) < length:
                return character in heads
            try:
                if ord(character.decode()) in scripts:
                    return True
            except UnicodeDecodeError:
                return False
            start += length
        return False

    return safe


def last_joins(pieces: Sequence[str], ranks: Mapping[str, int], vocabulary: ByteLevelVocabulary) -> list[Merge]:
    """The merge that makes each piece, in the order of `ranks`: one is enough (tokenizer/convert.py says why).

    Raises:
        BllossomError: this order does not make a piece.
    """
    merges = []
    for piece in sorted(pieces, key=ranks.__getitem__):
        symbols, pair = list(vocabulary.spell(piece)), ("", "")
        while len(symbols) > 1:
            joins = [ranks.get(symbols[i] + symbols[i + 1], len(ranks)) for i in range(len(symbols) - 1)]
            best = min(range(len(joins)), key=joins.__getitem__)
            if joins[best] == len(ranks):
                raise BllossomError(f"no order of joins makes {vocabulary.read(piece)!r}; leave it out of the donor")
            pair = symbols[best], symbols[best + 1]
            symbols[best : best + 2] = ["".join(pair)]
        merges.append(pair)
    return merges


def without_prefix(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same tokenizer, with no space put in front of a text (`add_prefix_space`): as words are cut inside one."""

    def plain(step: Any) -> Any:
        if not isinstance(step, Mapping):
            return step
        inner = {"pretokenizers": [plain(part) for part in step["pretokenizers"]]} if "pretokenizers" in step else {}
        return dict(step) | inner | ({"add_prefix_space": False} if "add_prefix_space" in step else {})

    return dict(settings) | {"pre_tokenizer": plain(settings.get("pre_tokenizer"))}


def _symbols(settings: Mapping[str, Any], added: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same tokenizer before anything is joined, with these added tokens, numbered anew."""
    vocab = {symbol: number for number, symbol in enumerate(alphabet().values())}
    tokens = [dict(token) | {"id": len(vocab) + i} for i, token in enumerate(added)]
    return dict(settings) | {"model": {"type": "BPE", "vocab": vocab, "merges": []}, "added_tokens": tokens}


def _joining(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same tokenizer with merges alone: where `ignore_merges` is set (Llama 3), whole words need none."""
    return dict(settings) | {"model": dict(settings["model"]) | {"ignore_merges": False}}
