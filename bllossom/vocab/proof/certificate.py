"""What is proved of an extended byte-level tokenizer before it is published; certificate.json says it.

Every text is encoded twice, by the base and by the result. If each new id is put back to the base's ids that spell it,
what comes out must be the base's encoding: then each new encoding is the base's with neighbours joined, a text without
a new piece keeps its ids, and both decode to the same bytes. The rest is asked of the vocabulary.
"""

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from bllossom.console import progress, say
from bllossom.errors import BllossomError
from bllossom.tokenizer.byte_level_file import lacking_bytes, to_bytes
from bllossom.tokenizer.scripts import ScriptCodePoints
from bllossom.vocab.families.byte_level import ByteLevelVocabulary, without_prefix
from bllossom.vocab.proof.counts import LanguageCounts, Proof
from bllossom.vocab.proof.readers import check_readers
from bllossom.vocab.proof.strings import GENERATED, batches, generate_strings

EXCERPT = 60  # characters of a text that breaks a promise, as the message shows it
BATCH_CHARACTERS = 400_000
"""Little at a time: while one thread makes Python objects of its ids, the others are to have something to encode."""
SCALARS = 0x110000 - 0x800  # Unicode's code points without the surrogates


class Pair:
    """The base's and the merged tokenizer, with special tokens as text, as outside text is encoded."""

    def __init__(
        self, base: Mapping[str, Any], merged: Mapping[str, Any], old: ByteLevelVocabulary, first: int
    ) -> None:
        self.base, self.merged = (as_text(settings) for settings in (base, merged))
        self.first = first
        new = ByteLevelVocabulary(merged)
        self.size = len(new.pieces)
        known: Mapping[str, int] = base["model"]["vocab"]
        spellings = [[number] for number in range(first)]
        spellings += [[known[atom] for atom in old.spell(piece)] for piece in new.pieces[first:]]
        self._lengths = np.array([len(spelling) for spelling in spellings])
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)[:-1]])
        self._flat = np.array([number for spelling in spellings for number in spelling])

    def encode(self, texts: Sequence[str], *, and_decode: bool = False) -> list[np.ndarray]:
        """The merged tokenizer's ids of each text, checked against the base's; `and_decode` compares the text back too.

        Raises:
            BllossomError: shows the first text whose encoding is not the base's with neighbours joined, or that decodes
                to something else.
        """
        before = self.base.encode_batch_fast(list(texts), add_special_tokens=False)
        after = self.merged.encode_batch_fast(list(texts), add_special_tokens=False)
        old, new = ([e.ids for e in encodings] for encodings in (before, after))
        found = [np.array(ids, np.int64) for ids in new]
        expected = np.fromiter(itertools.chain.from_iterable(old), np.int64, sum(map(len, old)))
        if not np.array_equal(self._spelled(np.concatenate([np.zeros(0, np.int64), *found])), expected):
            wrong = next(i for i, ids in enumerate(found) if self._spelled(ids).tolist() != old[i])
            shown = [
                [t.id_to_token(i) for i in ids[:8]] for t, ids in ((self.base, old[wrong]), (self.merged, new[wrong]))
            ]
            raise BllossomError(
                f"the encoding of {texts[wrong][:EXCERPT]!r} is not the base's with neighbours joined: "
                f"{shown[0]} became {shown[1]}; nothing is published"
            )
        if and_decode:
            self._check_decoding(texts, old, new)
        return found

    def _check_decoding(self, texts: Sequence[str], old: list[list[int]], new: list[list[int]]) -> None:
        decoded = self.base.decode_batch(old, skip_special_tokens=False)
        again = self.merged.decode_batch(new, skip_special_tokens=False)
        for text, right, wrong in zip(texts, decoded, again, strict=True):
            if right != wrong:
                raise BllossomError(f"{text[:EXCERPT]!r} decodes to {wrong[:EXCERPT]!r}, with the base to {right!r}")

    def _spelled(self, ids: np.ndarray) -> np.ndarray:
        """The ids, each new one as the base's that spell it."""
        lengths = self._lengths[ids]
        ends = np.cumsum(lengths)
        offsets = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        return self._flat[np.repeat(self._starts[ids], lengths) + offsets]


def certify(
    own: Mapping[str, Any],
    base: Mapping[str, Any],
    merged: Mapping[str, Any],
    folder: Path,
    documents: Mapping[str, Sequence[str]],
    scripts: ScriptCodePoints,
    first: int,
) -> tuple[Proof, dict[str, Any]]:
    """Check everything, on the files in `folder`; `first` is the first new id, `own` the base as it is read today,
    `base` the same with its added tokens in the vocabulary.

    Raises:
        BllossomError: names the first thing that does not hold, with the text that shows it.
    """
    old, new = ByteLevelVocabulary(base), ByteLevelVocabulary(merged)
    pair = Pair(own, merged, old, first)
    certificate: dict[str, Any] = {"first_new_id": first, "new_pieces": len(new.pieces) - first}
    certificate["ids_kept"] = check_ids(old, new, base, merged)
    certificate["pieces"] = check_pieces(new, merged, first)
    certificate["base_pieces_never_produced"] = count_unproduced(old)
    certificate["bytes_the_base_drops"] = lacking_bytes(base["model"]["vocab"])
    certificate["unicode"] = check_unicode(pair, old, new, scripts)
    say(f"certificate: {SCALARS:,} code points, alone and behind a space: others than the scripts' keep their ids")
    proof = check_texts(pair, new, documents, scripts)
    certificate["texts"] = {
        "documents": sum(counts.documents for counts in proof.languages.values()),
        "generated_strings": proof.generated,
        "decoded_as_the_base": proof.texts,
        "neighbours_joined": proof.texts,
    }
    certificate["readers"] = check_readers(folder, [text for texts in documents.values() for text in texts[:100]])
    text = json.dumps(certificate, ensure_ascii=False, indent=1)
    (folder / "certificate.json").write_text(text + "\n", encoding="utf8")
    return proof, certificate


def check_ids(
    old: ByteLevelVocabulary, new: ByteLevelVocabulary, base: Mapping[str, Any], merged: Mapping[str, Any]
) -> dict[str, int]:
    """Each id of the base has its piece, as the library sees it, and each added token its id and flags."""
    loaded = Tokenizer.from_str(json.dumps(merged))
    loaded.no_truncation()
    loaded.no_padding()
    for number, piece in enumerate(old.pieces):
        found = loaded.id_to_token(number)
        if piece and (new.pieces[number] != piece or found != piece):
            raise BllossomError(f"id {number} was {piece!r} and is {found!r}; nothing is published")
    kept = {token["id"]: token for token in merged["added_tokens"]}
    for token in base.get("added_tokens") or []:
        if any(kept.get(token["id"], {}).get(key) != value for key, value in token.items()):
            raise BllossomError(f"the added token {token['content']!r} changed; nothing is published")
        if loaded.encode(token["content"], add_special_tokens=False).ids != [token["id"]]:
            raise BllossomError(f"the added token {token['content']!r} is not found whole; nothing is published")
    return {"ids": len([piece for piece in old.pieces if piece]), "added_tokens": len(merged["added_tokens"])}


def check_pieces(new: ByteLevelVocabulary, merged: Mapping[str, Any], first: int) -> dict[str, Any]:
    """New pieces that are whole characters come from their own text; the others are needed by one that is.

    Where the base puts a space in front of a text, a piece that has none stands inside one: none is put there.
    """
    pieces = new.pieces[first:]
    whole = [piece for piece in pieces if new.is_whole(piece)]
    texts = list(map(new.text, whole))
    numbers: Mapping[str, int] = merged["model"]["vocab"]
    for ignore_merges in {False, bool(merged["model"].get("ignore_merges"))}:
        model = dict(merged["model"]) | {"ignore_merges": ignore_merges}
        tokenizer = as_text(without_prefix(merged) | {"model": model})
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for piece, text, encoding in zip(whole, texts, encoded, strict=True):
            if encoding.ids != [numbers[piece]]:
                raise BllossomError(
                    f"the new piece {text!r} is not produced by its own text (ignore_merges {ignore_merges}): it "
                    f"becomes {[new.read(new.pieces[i]) for i in encoding.ids]}; nothing is published"
                )
    needed_by = find_needs(new, merged, first)
    broken = [piece for piece in pieces if not new.is_whole(piece)]
    if loose := [piece for piece in broken if piece not in needed_by]:
        raise BllossomError(
            f"{new.read(loose[0])!r} is part of a character, and no piece needs it; nothing is published"
        )
    return {
        "whole": len(whole),
        "parts_of_characters": len(broken),
        "needed_by": {piece: new.read(needed_by[piece]) for piece in broken},
    }


def find_needs(new: ByteLevelVocabulary, merged: Mapping[str, Any], first: int) -> dict[str, str]:
    """For each symbol that a new merge joins, one whole piece that is made through it."""
    needed_by: dict[str, str] = {}
    numbers: Mapping[str, int] = merged["model"]["vocab"]
    for merge in reversed(merged["model"]["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        piece = left + right
        if numbers[piece] < first:
            break  # the base's merges come before
        if (user := piece if new.is_whole(piece) else needed_by.get(piece)) is not None:
            needed_by |= {left: user, right: user}
    return needed_by


def count_unproduced(old: ByteLevelVocabulary) -> int:
    """Pieces of the base that its own merges never make."""
    whole = [piece for i, piece in enumerate(old.pieces) if i not in old.specials and old.is_whole(piece)]
    return len(old.unmade(whole))


def check_unicode(
    pair: Pair, old: ByteLevelVocabulary, new: ByteLevelVocabulary, scripts: ScriptCodePoints
) -> dict[str, Any]:
    """Every Unicode scalar value, alone and behind a space: those of other scripts keep their ids.

    A character is what the base's normaliser makes of it: NFKC makes a Greek letter of the micro sign. Where no new
    piece is in a character's bytes, none of the new merges can apply: it is enough to encode the others.
    """
    pieces = {raw for piece in new.pieces[pair.first :] if (raw := to_bytes(piece))}
    beginnings = {raw[:2] for raw in pieces}
    everything = itertools.chain(range(0xD800), range(0xE000, 0x110000))
    touched = [
        number for number in everything if number in scripts or _holds(pieces, beginnings, old.normalize(chr(number)))
    ]
    changed = set()
    for space in ("", " "):
        encoded = pair.encode([space + chr(number) for number in touched])
        changed |= {n for n, ids in zip(touched, encoded, strict=True) if (ids >= pair.first).any()}
    normalized = [n for n in sorted(changed) if n not in scripts and scripts.holds(old.normalize(chr(n)))]
    for number in sorted(changed.difference(normalized)):
        if number not in scripts:
            names = ", ".join(scripts.names)
            raise BllossomError(f"U+{number:04X} is no letter of {names} and gets other ids; nothing is published")
    reserved = [f"U+{number:04X}" for number in scripts.reserved if number in changed]
    return {
        "scalar_values": SCALARS,
        "changed": len(changed),
        "unassigned_and_changed": reserved,
        "normalized_into_the_scripts": [f"U+{number:04X}" for number in normalized],
    }


def _holds(pieces: set[bytes], beginnings: set[bytes], character: str) -> bool:
    raw = b" " + character.encode()
    starts = [i for i in range(len(raw) - 1) if raw[i : i + 2] in beginnings]
    return any(raw[i:j] in pieces for i in starts for j in range(i + 2, len(raw) + 1))


def check_texts(
    pair: Pair, new: ByteLevelVocabulary, documents: Mapping[str, Sequence[str]], scripts: ScriptCodePoints
) -> Proof:
    """Documents and generated strings: joined neighbours, other scripts untouched, decoded alike."""
    pieces = [new.text(p) for i, p in enumerate(new.pieces) if p and i not in new.specials]
    special = [new.pieces[number] for number in sorted(new.specials) if new.pieces[number]]

    def check(batch: list[str]) -> list[np.ndarray]:
        found = pair.encode(batch, and_decode=True)
        for text, ids in zip(batch, found, strict=True):
            if ids.size and ids.max() >= pair.first and not scripts.holds(new.normalize(text)):
                names = ", ".join(scripts.names)
                raise BllossomError(f"{text[:EXCERPT]!r} has no letter of {names} and gets other ids")
        return found

    languages = {}
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,  # the library works outside of Python's lock
        progress("certificate", total=sum(map(len, documents.values()))) as advance,
    ):
        literal = [text for token in special for text in texts_like(token)]
        strings = itertools.chain(literal, generate_strings(pieces, special, GENERATED))
        for _ in threads.map(check, batches(strings, BATCH_CHARACTERS)):
            pass
        for language, texts in documents.items():
            counts = languages[language] = LanguageCounts(ids=np.zeros(pair.size, np.int64))
            for batch in threads.map(check, batches(texts, BATCH_CHARACTERS)):
                counts.documents += len(batch)
                counts.changed_documents += sum(bool(ids.size and ids.max() >= pair.first) for ids in batch)
                counts.ids += np.bincount(np.concatenate(batch), minlength=pair.size)
                advance(len(batch))
    return Proof(GENERATED, languages)


def texts_like(token: str) -> list[str]:
    """The texts that a lookup among the pieces could take for an added token: it is written as text, they as bytes."""
    raw = to_bytes(token)
    spelled = [] if raw is None else [raw.decode(errors="replace")]
    return [before + text for text in dict.fromkeys([token, *spelled]) for before in ("", "\n")]


def as_text(settings: Mapping[str, Any]) -> Tokenizer:
    """A tokenizer that takes special tokens for text, as outside text is encoded."""
    tokenizer = Tokenizer.from_str(json.dumps(dict(settings)))
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def summary(certificate: Mapping[str, Any]) -> Iterable[str]:
    """The certificate in sentences, for the report."""
    texts, pieces, unicode = certificate["texts"], certificate["pieces"], certificate["unicode"]
    yield f"{certificate['ids_kept']['ids']:,} ids of the base keep piece and meaning, added tokens included."
    unassigned = len(unicode["unassigned_and_changed"])
    but = f" but {unassigned:,}, which stand unassigned among them" if unassigned else ""
    normalized = len(unicode["normalized_into_the_scripts"])
    but += f"; {normalized:,} of them only once the base's normaliser has made letters of them" if normalized else ""
    yield (
        f"Of Unicode's {unicode['scalar_values']:,} scalar values, alone and behind a space, {unicode['changed']:,} "
        f"get other ids, all of the scripts asked for{but}."
    )
    yield (
        f"{pieces['whole']:,} new pieces are produced by their own text; {pieces['parts_of_characters']:,} are parts "
        "of characters, each needed by one of these."
    )
    yield (
        f"On {texts['documents']:,} documents and {texts['generated_strings']:,} generated strings the encoding is the "
        "base's with neighbours joined, and decodes to the base's text."
    )
