"""The proof that stands before publishing: tokenizer.json and SentencePiece give the same ids, and the same text back.

Where `▁` goes before the first text only, as by the base's own tokenizer.json, a text that begins with a space is
compared without that space: SentencePiece would put a prefix there too.

It runs on the samples, document by document, and on generated strings that hold what text seldom does. Literal special
tokens are split, as outside text is encoded; that the saved tokenizer has them active is checked apart.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import sentencepiece
from tokenizers import Tokenizer

from bllossom.console import progress
from bllossom.errors import BllossomError
from bllossom.tokenizer.convert import prefixes_first_only
from bllossom.tokenizer.sentencepiece_file import CONTROL, SPACE, USER_DEFINED, ModelProto, read_model
from bllossom.vocab.proof.counts import LanguageCounts, Proof
from bllossom.vocab.proof.strings import GENERATED, batches, generate_strings
from bllossom.vocab.samples import THREADS

EXCERPT = 40  # characters of a differing text that the message shows


def prove(folder: Path, documents: Mapping[str, Sequence[str]], base_pieces: int) -> Proof:
    """Compare tokenizer.json with tokenizer.model, both as written in `folder`.

    Raises:
        BllossomError: shows the first text whose ids, or whose decoded text, differ.
    """
    model = read_model(folder / "tokenizer.model")
    slow = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    _check_special_tokens(model, fast)
    # Added tokens that are not special are found in text as well: here all are to be split that SentencePiece splits.
    settings = json.loads(fast.to_str())
    found = {piece.piece for piece in model.pieces if piece.type == USER_DEFINED}
    settings["added_tokens"] = [
        token | {"special": token["content"] not in found} for token in settings["added_tokens"]
    ]
    first_only = prefixes_first_only(settings)
    fast = Tokenizer.from_str(json.dumps(settings))
    fast.encode_special_tokens = True
    pieces = [piece.piece.replace(SPACE, " ") for piece in model.pieces]
    special = [piece.piece for piece in model.pieces if piece.type in (CONTROL, USER_DEFINED)]
    for batch in batches(generate_strings(pieces, special, GENERATED)):
        _compare(batch, slow, fast, first_only)
    languages = {}
    with progress("proving", total=sum(map(len, documents.values()))) as advance:
        for language, texts in documents.items():
            counts = languages[language] = LanguageCounts(ids=np.zeros(len(model.pieces), np.int64))
            for batch in batches(texts):
                for ids in _compare(batch, slow, fast, first_only):
                    counts.documents += 1
                    counts.changed_documents += bool(ids.size and ids.max() >= base_pieces)
                    counts.ids += np.bincount(ids, minlength=len(model.pieces))
                advance(len(batch))
    return Proof(GENERATED, languages)


def compare_with_base(base: Path, folder: Path, first: int) -> str | None:
    """The first difference between two folders' tokenizer.json where special tokens are active, in a sentence.

    Texts that get a new piece, whose id is `first` or above, say nothing.
    """
    from bllossom.tokenizer.load import load_tokenizer

    before, after = load_tokenizer(base), load_tokenizer(folder)
    for special in ["", *(token.content for token in before.added_tokens_decoder.values() if token.special)]:
        for text in (special, f"{special}a", f"{special} the river", f"a{special}the", f"a{special} x{special}y"):
            right, wrong = before(text)["input_ids"], after(text)["input_ids"]
            if right != wrong and max(wrong, default=0) < first:
                pieces = [" ".join(t.convert_ids_to_tokens(ids)) for t, ids in ((before, right), (after, wrong))]
                return (
                    f"{text!r} is {pieces[0]} by the base's own tokenizer.json and {pieces[1]} by the new one; use the "
                    "new one wherever the model is trained and served"
                )
    return None


def _expected(batch: list[str], slow: sentencepiece.SentencePieceProcessor, first_only: bool) -> list[list[int]]:
    if not first_only:
        return slow.encode(batch, num_threads=THREADS)
    marked = [text.startswith((" ", SPACE)) for text in batch]
    texts = [text[1:] if mark else text for text, mark in zip(batch, marked, strict=True)]
    found = slow.encode(texts, num_threads=THREADS)
    alone = [slow.piece_to_id(SPACE)]  # of an empty text SentencePiece makes nothing, without a prefix
    return [alone if mark and not text else ids for ids, text, mark in zip(found, texts, marked, strict=True)]


def _compare(
    batch: list[str], slow: sentencepiece.SentencePieceProcessor, fast: Tokenizer, first_only: bool
) -> list[np.ndarray]:
    expected = _expected(batch, slow, first_only)
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
