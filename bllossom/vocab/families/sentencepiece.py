"""SentencePiece BPE as a vocabulary, and new pieces behind it."""

from collections import Counter
from collections.abc import Mapping, Sequence

from bllossom.errors import BllossomError
from bllossom.tokenizer.convert import UNUSED_FLOOR, encode_alone, normal_scores
from bllossom.tokenizer.sentencepiece_file import BYTE, NORMAL, SPACE, ModelProto
from bllossom.vocab.families.vocabulary import Atoms
from bllossom.vocab.samples import count_tokens, encode_words, processor, shortest_model, split_words

EXACT_FLOAT32 = 2**24  # SentencePiece keeps scores in float32: above this, neighbouring integers collapse


class SentencePieceVocabulary:
    """A model's pieces, and what its joins make of words."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.pieces: Sequence[str] = [piece.piece for piece in model.pieces]
        self.byte_ids = frozenset(i for i, piece in enumerate(model.pieces) if piece.type == BYTE)
        normal = {i for i, piece in enumerate(model.pieces) if piece.type == NORMAL}
        self.specials = frozenset(range(len(model.pieces))) - normal - self.byte_ids
        self.crosses_words = any(SPACE in self.pieces[i].lstrip(SPACE) for i in normal)
        self._scores = normal_scores(model)
        self._encoder = processor(model)
        self._prefix = SPACE if model.normalizer_spec.add_dummy_prefix else ""  # Gemma puts none in front of a text

    def split(self, text: str) -> list[str]:
        if self.crosses_words:
            return [self._prefix + text.replace(" ", SPACE)] if text else []
        return split_words(text, self._prefix)

    def cut(self, words: Sequence[str]) -> list[Atoms]:
        return [tuple(map(self.pieces.__getitem__, ids)) for ids in self.encode(words)]

    def spell(self, piece: str) -> Atoms:
        return tuple(encode_alone(piece, self._scores)[-1])

    def encode(self, words: Sequence[str]) -> list[list[int]]:
        return encode_words(self._encoder, words, self._prefix)

    def shortest(self, words: Counter[str]) -> int:
        return count_tokens(processor(shortest_model(self.model)), words, self._prefix)

    def write(self, text: str) -> str | None:
        return text

    def read(self, piece: str) -> str:
        return piece

    def is_whole(self, piece: str) -> bool:
        return True

    def unmade(self, pieces: Sequence[str]) -> list[str]:
        """One text decides for all: a piece that starts with ▁ is what encoding the rest of it gives; any other is the
        last one of a newline followed by it (tokenizer/convert.py says why)."""
        texts = [piece.removeprefix(self._prefix) if piece[0] == SPACE else "\n" + piece for piece in pieces]
        encoded = self._encoder.encode(texts, out_type=str)
        return [
            piece
            for piece, symbols in zip(pieces, encoded, strict=True)
            if (symbols != [piece] if piece.startswith(SPACE) else symbols[-1:] != [piece])
        ]


def append(base: ModelProto, pieces: Sequence[str], ranks: Mapping[str, int] | None = None) -> ModelProto:
    """A copy of `base` with `pieces` behind it, below it in priority, in the order of `ranks` (or as listed).

    Raises:
        BllossomError: the scores could not be told apart in float32.
    """
    used = [score for score in normal_scores(base).values() if score > UNUSED_FLOOR]
    first = min(-len(base.pieces), int(min(used, default=0)) - 1)
    if len(pieces) - first >= EXACT_FLOAT32:
        raise BllossomError(f"the base's scores go down to {min(used):g}: no room for unique ones; name another base")
    merged = type(base)()
    merged.CopyFrom(base)
    merged.trainer_spec.vocab_size = len(base.pieces) + len(pieces)
    for i, piece in enumerate(pieces):
        merged.pieces.add(piece=piece, score=first - (i if ranks is None else ranks[piece]), type=NORMAL)
    return merged
