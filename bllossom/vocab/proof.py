"""The proof that stands before publishing: tokenizer.json and SentencePiece give the same ids, and the same text back.

It runs on the samples, document by document, and on generated strings that hold what text seldom does. Literal special
tokens are split, as outside text is encoded; that the saved tokenizer has them active is checked apart.
"""

import itertools
import random
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import sentencepiece
from tokenizers import Tokenizer

from bllossom.console import progress
from bllossom.errors import BllossomError
from bllossom.tokenizer.sentencepiece_file import CONTROL, SPACE, ModelProto, read_model
from bllossom.vocab.samples import THREADS

GENERATED = 20_000
BATCH_CHARACTERS = 2_000_000
EXCERPT = 40  # characters of a differing text that the message shows


@dataclass
class LanguageCounts:
    """What one language's documents came to."""

    documents: int = 0
    changed_documents: int = 0  # that hold a new piece: all others have the base's ids
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # how often each id occurs, int64[pieces]


@dataclass
class Proof:
    """What was compared. A proof that fails raises, so a `Proof` always stands for agreement."""

    generated: int
    languages: dict[str, LanguageCounts]

    @property
    def texts(self) -> int:
        """Documents and generated strings together."""
        return self.generated + sum(counts.documents for counts in self.languages.values())


def prove(folder: Path, documents: Mapping[str, Sequence[str]], base_pieces: int) -> Proof:
    """Compare tokenizer.json with tokenizer.model, both as written in `folder`.

    Raises:
        BllossomError: shows the first text whose ids, or whose decoded text, differ.
    """
    model = read_model(folder / "tokenizer.model")
    slow = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    _check_special_tokens(model, fast)
    fast.encode_special_tokens = True
    for batch in _batches(generate_strings(model, GENERATED)):
        _compare(batch, slow, fast)
    languages = {}
    with progress("proving", total=sum(map(len, documents.values()))) as advance:
        for language, texts in documents.items():
            counts = languages[language] = LanguageCounts(ids=np.zeros(len(model.pieces), np.int64))
            for batch in _batches(texts):
                for ids in _compare(batch, slow, fast):
                    counts.documents += 1
                    counts.changed_documents += bool(ids.size and ids.max() >= base_pieces)
                    counts.ids += np.bincount(ids, minlength=len(model.pieces))
                advance(len(batch))
    return Proof(GENERATED, languages)


def generate_strings(model: ModelProto, count: int, seed: int = 0) -> Iterator[str]:
    """Strings that try a tokenizer: spaces, controls, literal special tokens, emoji, jamo, NFD, Hanja, every byte …

    Most are made of the vocabulary's own pieces, whole and cut, for these are where merges compete.
    """
    generator = random.Random(seed)
    pieces = [piece.piece.replace(SPACE, " ") for piece in model.pieces]
    special = [*(p.piece for p in model.pieces if p.type == CONTROL), "<unk>", "<0x0A>", "<0x00>", "[INST]", "<<SYS>>"]
    ranges = [(0, 0x100), (0x1100, 0x1200), (0x3130, 0x3190), (0xAC00, 0xD7A4), (0x4E00, 0xA000), (0x1F300, 0x1FAFF)]
    ranges += [(0x2000, 0x2070), (0x2580, 0x25A0), (0x300, 0x370), (0x400, 0x500), (0x600, 0x700), (0x3040, 0x3100)]

    def fragment() -> str:
        kind = generator.randrange(10)
        if kind < 4:
            return generator.choice(pieces)
        if kind == 4:
            piece = generator.choice(pieces)
            return piece[generator.randrange(len(piece)) :]
        if kind == 5:
            return generator.choice(" \t\n\r\0\u3000\u00a0\u200b▁=-0a가") * generator.randrange(1, 40)
        if kind == 6:
            return generator.choice(special)
        if kind == 7:
            return unicodedata.normalize("NFD", generator.choice(pieces))
        low, high = generator.choice(ranges)
        return "".join(chr(generator.randrange(low, high)) for _ in range(generator.randrange(1, 8)))

    every_byte = ["", " ", *map(chr, range(256)), bytes(range(256)).decode("latin-1")]
    yield from every_byte[:count]
    for _ in range(count - len(every_byte)):
        yield "".join(fragment() for _ in range(generator.randrange(1, 9)))


def _batches(texts: Iterator[str] | Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _compare(batch: list[str], slow: sentencepiece.SentencePieceProcessor, fast: Tokenizer) -> list[np.ndarray]:
    expected = slow.encode(batch, num_threads=THREADS)
    found = [encoding.ids for encoding in fast.encode_batch_fast(batch, add_special_tokens=False)]
    for text, right, wrong in zip(batch, expected, found, strict=True):
        if right != wrong:
            raise BllossomError(_explain_ids(text, right, wrong, slow))
    decoded = zip(batch, slow.decode(expected), fast.decode_batch(found, skip_special_tokens=False), strict=True)
    for text, slow_text, fast_text in decoded:
        if slow_text == text != fast_text:
            raise BllossomError(
                f"tokenizer.json does not give back {text[:EXCERPT]!r}, SentencePiece does; the base's normaliser or "
                "prefix is not supported: choose another base, and report this one"
            )
    return [np.asarray(ids, np.int64) for ids in found]


def _explain_ids(text: str, right: list[int], wrong: list[int], slow: sentencepiece.SentencePieceProcessor) -> str:
    at = next((i for i, (a, b) in enumerate(itertools.zip_longest(right, wrong)) if a != b), 0)
    start = len(slow.decode(right[:at]))
    excerpt = text[max(0, start - EXCERPT // 2) : start + EXCERPT]
    pieces = [" ".join(map(slow.id_to_piece, ids[max(0, at - 2) : at + 6])) for ids in (right, wrong)]
    return (
        f"tokenizer.json and SentencePiece differ on {excerpt!r}: SentencePiece gives {pieces[0]}, tokenizer.json "
        f"{pieces[1]}; nothing was published. Pieces of the base with equal scores do this: choose a base without them"
    )


def _check_special_tokens(model: ModelProto, fast: Tokenizer) -> None:
    """As saved, special tokens are active: a chat template depends on it."""
    for i, piece in enumerate(model.pieces):
        if piece.type == CONTROL and fast.encode(piece.piece, add_special_tokens=False).ids != [i]:
            raise BllossomError(
                f"tokenizer.json does not keep the special token {piece.piece!r} whole; choose another base"
            )
