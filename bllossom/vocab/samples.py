"""The text that proof, report and repair run on, and its words.

A word here is what no piece can reach beyond: a run of `▁` and what follows up to the next one. Each is encoded on its
own as it is inside a document, so a text need not be encoded again for every question: its different words, with their
counts, answer them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import sentencepiece

from bllossom.errors import BllossomError
from bllossom.text.sources import locate, read_normalised
from bllossom.tokenizer.sentencepiece_file import NORMAL, SPACE, UNIGRAM, ModelProto

WORD = re.compile(f"{SPACE}+[^{SPACE}]*|[^{SPACE}]+")
THREADS = 2


def locate_samples(samples: Mapping[str, Sequence[str]], key: str = "samples") -> dict[str, list[Path]]:
    """The files of each language; `key` is where they stand in the config.

    Raises:
        BllossomError: a file is missing, or empty.
    """
    found = {}
    for language, sources in samples.items():
        try:
            found[language] = [path for source in sources for path in locate(source)]
        except BllossomError as error:
            raise BllossomError(f"{key}: {language}: {error}") from error
        for path in found[language]:
            if path.stat().st_size == 0:
                raise BllossomError(f"{key}: {language}: {path} is empty; name a file with text")
        if not found[language]:
            raise BllossomError(f"{key}: {language} names no file; name one, or take the language out")
    return found


def read_samples(files: Mapping[str, Sequence[Path]]) -> dict[str, list[str]]:
    """The documents of each language, all in memory.

    Raises:
        BllossomError: a file cannot be read, or holds no text.
    """
    documents: dict[str, list[str]] = {}
    for language, paths in files.items():
        documents[language] = []
        for path in paths:
            texts = [text for text in read_normalised(str(path)) if text]
            if not texts:
                raise BllossomError(f"samples: {language}: {path} holds no text; name a file with text")
            documents[language] += texts
    return documents


def split_words(text: str, prefix: str = SPACE) -> list[str]:
    """The words of a text, each beginning with at least one `▁`, but for the first where no `prefix` is put there."""
    return WORD.findall(prefix + text.replace(" ", SPACE)) if text else []


def count_words(documents: Iterable[str]) -> Counter[str]:
    """The words of the documents, each beginning with at least one `▁`."""
    words: Counter[str] = Counter()
    for document in documents:
        words.update(split_words(document))
    return words


def processor(model: ModelProto) -> sentencepiece.SentencePieceProcessor:
    """SentencePiece itself, running a model that may never have been a file."""
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def encode_words(
    encoder: sentencepiece.SentencePieceProcessor, words: Sequence[str], prefix: str = SPACE
) -> list[list[int]]:
    """The ids of each word. The first `▁` is the `prefix` that SentencePiece puts in front of a text, if it does."""
    encoded: list[list[int]] = encoder.encode([word[len(prefix) :] for word in words], num_threads=THREADS)
    lone = encoder.piece_to_id(SPACE)  # a lone ▁ is a trailing space: encoding the empty text does not show it
    return [[lone] if word == prefix else ids for word, ids in zip(words, encoded, strict=True)]


def count_tokens(encoder: sentencepiece.SentencePieceProcessor, words: Mapping[str, int], prefix: str = SPACE) -> int:
    """How many tokens the words take, with their counts."""
    keys = list(words)
    return sum(len(ids) * words[word] for word, ids in zip(keys, encode_words(encoder, keys, prefix), strict=True))


def shortest_model(model: ModelProto) -> ModelProto:
    """The same pieces as a Unigram model in which each costs the same.

    SentencePiece's Viterbi search then gives the shortest segmentation there is: the limit that no order of BPE merges
    can beat.
    """
    shortest = type(model)()
    shortest.CopyFrom(model)
    shortest.trainer_spec.model_type = UNIGRAM
    for piece in shortest.pieces:
        if piece.type == NORMAL:
            piece.score = -1.0
    return shortest
