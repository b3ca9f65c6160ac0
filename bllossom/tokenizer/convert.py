"""SentencePiece BPE → tokenizer.json, with the same ids.

SentencePiece joins, again and again, the two neighbouring symbols whose concatenation is the piece with the highest
score (the leftmost where scores tie). tokenizer.json holds a ranked list of pairs instead. Which pairs, in which order?

Inside a span of text that ends up as the piece P, the joins happen in the same order as when P is encoded alone: no
symbol reaches over the span's edges before P stands, and joins outside do not change which one inside comes first. So
P is always made from the same two symbols, the last two that are left when P is encoded alone. One merge per piece,
ordered by score, therefore reproduces SentencePiece exactly where scores are unique; and a piece that is not what its
own characters give can never be produced at all.

Ties are left to the leftmost join by SentencePiece, to the better rank by tokenizer.json. Llama 2's runs of spaces tie
(score -1e9): with the longer run first, a run grows from the left, as in SentencePiece. Any other ties are left to the
proof (vocab/proof/).

User-defined pieces are found in text before anything is joined. tokenizer.json finds its added tokens likewise, on the
normalised text, but then normalises what lies between them anew. Without a prefix that changes nothing (Gemma). With
one, each part would get a `▁` of its own; there such pieces are marks ([REF] of Mistral's, which its own tokenizer.json
calls special) and become control pieces: a template may use them, outside text that holds them literally stays text.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from bllossom.errors import BllossomError
from bllossom.tokenizer.added_tokens import CONFIG, FLAGS, TOKENIZER, read_added_tokens, read_json, read_roles
from bllossom.tokenizer.sentencepiece_file import CONTROL, NORMAL, SPACE, UNKNOWN, USER_DEFINED, ModelProto

UNUSED_FLOOR = -1e8  # Llama 2 puts its runs of spaces, which are to be joined last, at -1e9
TEMPLATE = "chat_template.jinja"
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token", "chat_template", "model_max_length")
FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json")


def encode_alone(piece: str, scores: Mapping[str, float]) -> list[list[str]]:
    """SentencePiece's BPE on one string: the symbols after each join, from the characters to the end.

    `scores` are those of the normal pieces. Quadratic in the length: meant for pieces and words, not for documents.
    """
    symbols = list(piece)
    states = [symbols]
    while len(symbols) > 1:
        best, at = None, -1
        for i in range(len(symbols) - 1):
            score = scores.get(symbols[i] + symbols[i + 1])
            if score is not None and (best is None or score > best):
                best, at = score, i
        if best is None:
            break
        symbols = [*symbols[:at], symbols[at] + symbols[at + 1], *symbols[at + 2 :]]
        states.append(symbols)
    return states


def last_joins(scores: Mapping[str, float]) -> dict[str, tuple[str, str] | None]:
    """For each piece of two characters or more, the two symbols it is made from; None where it can never be made."""
    joins: dict[str, tuple[str, str] | None] = {}
    for piece in scores:
        if len(piece) > 1:
            states = encode_alone(piece, scores)
            joins[piece] = (states[-2][0], states[-2][1]) if len(states[-1]) == 1 else None
    return joins


def normal_scores(model: ModelProto) -> dict[str, float]:
    """The pieces that text can become, with their scores: not the special ones, not the bytes."""
    return {piece.piece: piece.score for piece in model.pieces if piece.type == NORMAL}


def with_added_tokens(model: ModelProto, folder: Path) -> ModelProto:
    """A copy of the model that holds the added tokens of the files beside it too, at their ids.

    They are control pieces there, which SentencePiece never makes of text; so are the user-defined pieces that the
    files call special, or that begin with a space of the tokenizer's own cannot be told in text (above).

    Raises:
        BllossomError: the files disagree, or ids are left out between them.
    """
    ids = {piece.piece: i for i, piece in enumerate(model.pieces)}
    added = read_added_tokens(folder, ids)
    merged = type(model)()
    merged.CopyFrom(model)
    for piece in merged.pieces:
        special = added.get(piece.piece, {}).get("special", False)
        if piece.type == USER_DEFINED and (special or model.normalizer_spec.add_dummy_prefix):
            piece.type = CONTROL
    for token in sorted(added.values(), key=lambda token: token["id"]):
        if token["content"] in ids:
            continue
        if token["id"] != len(merged.pieces):
            raise BllossomError(
                f"{folder}: the added token {token['content']!r} is id {token['id']}, the next free one is "
                f"{len(merged.pieces)}; ids that nothing stands at are not supported for SentencePiece: name them"
            )
        merged.pieces.add(piece=token["content"], score=0.0, type=CONTROL)
    merged.trainer_spec.vocab_size = len(merged.pieces)
    return merged


def check_scores(model: ModelProto, path: Path) -> None:
    """Refuse pieces that tie: SentencePiece joins the leftmost of them first, tokenizer.json the one listed first.

    Raises:
        BllossomError: says how many tie.
    """
    counts = Counter(score for score in normal_scores(model).values() if score > UNUSED_FLOOR)
    tied = sum(count for count in counts.values() if count > 1)
    if tied:
        raise BllossomError(
            f"{path}: {tied:,} of its pieces share a score with another: SentencePiece and tokenizer.json would give "
            "other ids. Merge the vocabularies anew with bllossom merge-vocab, which gives each a score of its own"
        )


def adds_bos(model: ModelProto, base: Mapping[str, Any] = MappingProxyType({})) -> bool:
    """Whether texts begin with BOS: where there is one, unless the base's tokenizer_config.json says no (Yi's does)."""
    bos = model.trainer_spec.bos_piece
    return base.get("add_bos_token") is not False and any(p.piece == bos and p.type == CONTROL for p in model.pieces)


def prefixes_first_only(settings: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json puts `▁` in front of a text, but not behind special tokens (Mistral's newer ones)."""
    step = settings.get("pre_tokenizer") or {}
    first = step.get("type") == "Metaspace" and step.get("prepend_scheme") == "first"
    return first and settings.get("normalizer") is None


def to_fast(
    model: ModelProto,
    added: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    *,
    bos_first: bool = True,
    first_only: bool = False,
) -> Tokenizer:
    """The tokenizer that stands in tokenizer.json. The model must have passed `check_base`.

    `added` are the flags of the added tokens that the model holds as control pieces; `bos_first` says whether BOS is
    put in front of texts, where there is one; `first_only` that a prefix is not put behind special tokens too, nor
    before a text that begins with a space.
    """
    scores = normal_scores(model)
    joins = {piece: join for piece, join in last_joins(scores).items() if join is not None}
    ids = {piece.piece: i for i, piece in enumerate(model.pieces)}
    ordered = sorted(joins, key=lambda piece: (-scores[piece], -len(piece), ids[piece]))
    unknown = next(piece.piece for piece in model.pieces if piece.type == UNKNOWN)
    bpe = BPE(ids, [joins[piece] for piece in ordered], unk_token=unknown, fuse_unk=True, byte_fallback=True)
    fast = Tokenizer(bpe)
    marked = normalizers.Replace(" ", SPACE)
    joined = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.normalizer_spec.add_dummy_prefix:
        if first_only:
            fast.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False)
        else:
            fast.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), marked])
        fast.decoder = decoders.Sequence([*joined, decoders.Strip(" ", 1, 0)])
    else:
        fast.normalizer, fast.decoder = marked, decoders.Sequence(joined)
    special = [p.piece for p in model.pieces if p.type in (UNKNOWN, CONTROL)]
    plain = {"normalized": False, "special": True}
    flags = {piece: {key: added[piece][key] for key in FLAGS} if piece in added else plain for piece in special}
    flags |= {p.piece: {"normalized": True, "special": False} for p in model.pieces if p.type == USER_DEFINED}
    fast.add_tokens([AddedToken(piece, **flags[piece]) for piece in flags])
    if bos_first and adds_bos(model):
        bos = model.trainer_spec.bos_piece
        fast.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, ids[bos])]
        )
    return fast


def tokenizer_config(model: ModelProto, base: Mapping[str, Any] = MappingProxyType({})) -> dict[str, object]:
    """What tokenizer_config.json holds: the base's roles and template, where it has them.

    Where nothing pads, `<unk>` does: Llama 2 has no pad token, and masks go by position, not by id. Gemma's model has.
    """
    special = {p.piece for p in model.pieces if p.type in (UNKNOWN, CONTROL)}
    names = {"bos_token": model.trainer_spec.bos_piece, "eos_token": model.trainer_spec.eos_piece}
    unknown = next(piece.piece for piece in model.pieces if piece.type == UNKNOWN)
    pad = model.trainer_spec.pad_piece
    told = {key: _content(base[key]) for key in ROLES if base.get(key) is not None}
    return {
        "add_bos_token": adds_bos(model, base),
        "add_eos_token": False,
        **{name: piece for name, piece in names.items() if piece in special},
        "clean_up_tokenization_spaces": False,
        "pad_token": pad if pad in special else unknown,
        "tokenizer_class": "PreTrainedTokenizerFast",  # LlamaTokenizer drops a leading space, and makes its own merges
        "unk_token": unknown,
        **{key: value for key, value in told.items() if not key.endswith("_token") or value in special},
    }


def write_tokenizer(model: ModelProto, folder: Path, base: Path | None = None) -> None:
    """Write tokenizer.model, tokenizer.json and tokenizer_config.json; what the folder `base` says of added tokens,
    roles and template goes with them."""
    ids = {piece.piece: i for i, piece in enumerate(model.pieces)}
    added = {} if base is None else read_added_tokens(base, ids)
    told = {} if base is None else read_roles(base)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString(deterministic=True))
    first_only = base is not None and prefixes_first_only(read_json(base / TOKENIZER))
    fast = to_fast(model, added, bos_first=adds_bos(model, told), first_only=first_only)
    (folder / TOKENIZER).write_text(fast.to_str(pretty=True) + "\n", encoding="utf8")
    config = json.dumps(tokenizer_config(model, told), ensure_ascii=False, indent=1, sort_keys=True)
    (folder / CONFIG).write_text(config + "\n", encoding="utf8")
    if base is not None and (base / TEMPLATE).is_file():
        shutil.copyfile(base / TEMPLATE, folder / TEMPLATE)


def _content(value: Any) -> Any:
    """A token's text: some files write it with its flags."""
    return value["content"] if isinstance(value, dict) and "content" in value else value
