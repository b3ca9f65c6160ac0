"""tokenizer.json gives SentencePiece's ids: on vocabularies made to be awkward, and on Llama 2's."""

from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bllossom.tokenizer.convert import encode_alone, last_joins, normal_scores, to_fast
from bllossom.tokenizer.sentencepiece_file import BYTE, CONTROL, NORMAL, UNKNOWN, ModelProto, read_model, spm
from bllossom.vocab.samples import processor


def make_model(pieces: dict[str, float]) -> ModelProto:
    """A BPE model with byte fallback and these pieces with these scores."""
    model = spm.ModelProto()
    for piece, kind in (("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)):
        model.pieces.add(piece=piece, score=0, type=kind)
    for i in range(256):
        model.pieces.add(piece=f"<0x{i:02X}>", score=0, type=BYTE)
    for piece, score in pieces.items():
        model.pieces.add(piece=piece, score=score, type=NORMAL)
    model.trainer_spec.model_type = 2
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(model.pieces)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = True
    return model


def split_ids(fast: Tokenizer, text: str) -> list[int]:
    fast.encode_special_tokens = True
    return fast.encode(text, add_special_tokens=False).ids


@st.composite
def vocabularies(draw: st.DrawFn) -> dict[str, float]:
    """Any pieces over three letters, in any order: most cannot be made, many overlap themselves."""
    pieces = draw(st.lists(st.text("ab▁", min_size=2, max_size=6), min_size=1, max_size=30, unique=True))
    pieces += draw(st.lists(st.sampled_from(["aa", "aaa", "aaaa", "aba", "ababa", "▁▁", "▁▁▁"]), max_size=7))
    pieces = list(dict.fromkeys(pieces))
    order = draw(st.permutations(range(len(pieces))))
    scores = {piece: -1.0 - place for piece, place in zip(pieces, order, strict=True)}
    return scores | {"a": -100.0, "b": -101.0, "▁": -102.0}


@settings(max_examples=200, deadline=None)
@given(vocabularies(), st.lists(st.text("ab ▁c가\n", max_size=40), min_size=1, max_size=20))
def test_any_unique_scores_give_the_same_ids(pieces: dict[str, float], texts: list[str]) -> None:
    model = make_model(pieces)
    slow, fast = processor(model), to_fast(model)
    for text in texts:
        assert split_ids(fast, text) == slow.encode(text), text


@settings(max_examples=100, deadline=None)
@given(vocabularies(), st.text("ab▁", min_size=1, max_size=12))
def test_encode_alone_is_sentencepieces_bpe(pieces: dict[str, float], text: str) -> None:
    expected = processor(make_model(pieces)).encode(text, out_type=str)
    assert encode_alone("▁" + text, pieces)[-1] == expected


@settings(max_examples=100, deadline=None)
@given(vocabularies(), st.lists(st.text("ab ", min_size=1, max_size=30), min_size=30, max_size=30))
def test_a_piece_without_a_last_join_is_never_produced(pieces: dict[str, float], texts: list[str]) -> None:
    never = {piece for piece, join in last_joins(pieces).items() if join is None}
    slow = processor(make_model(pieces))
    produced = {symbol for text in texts for symbol in slow.encode(text, out_type=str)}
    assert not produced & never


def test_runs_that_tie_grow_from_the_left_as_in_sentencepiece() -> None:
    # Llama 2's own: runs of 2 to 16 spaces, all with the score -1e9.
    model = make_model({"▁" * n: -1e9 for n in range(2, 17)} | {"a": -2.0, "▁": -3.0, "▁a": -1.0})
    slow, fast = processor(model), to_fast(model)
    for spaces in range(70):
        for text in (" " * spaces, " " * spaces + "a", "a" + " " * spaces, "a" + " " * spaces + "a"):
            assert split_ids(fast, text) == slow.encode(text), text


def test_what_the_file_holds(small_base: Path) -> None:
    model = read_model(small_base / "tokenizer.model")
    fast = to_fast(model)
    assert [fast.id_to_token(i) for i in range(3)] == ["<unk>", "<s>", "</s>"]
    assert fast.get_vocab_size() == len(model.pieces)
    assert all(fast.id_to_token(i) == piece.piece for i, piece in enumerate(model.pieces))
    # As saved, special tokens are active, and a text begins with <s>.
    assert fast.encode("</s>", add_special_tokens=False).ids == [2]
    assert fast.encode("the river").ids[0] == 1


@pytest.mark.real_data
def test_llama_2_has_no_dead_piece_and_keeps_its_ids(llama2: Path) -> None:
    model = read_model(llama2)
    assert None not in last_joins(normal_scores(model)).values()
    slow = sentencepiece.SentencePieceProcessor(model_file=str(llama2))
    fast = to_fast(model)
    for text in (
        "",
        " ",
        "  a",
        "a  ",
        "\n\n\t x" + " " * 40 + "y",
        "<s> </s><unk>",
        "▁▁▁ x",
        "햄버거를 먹는 공룡",
        "\0\x7f",
    ):
        assert split_ids(fast, text) == slow.encode(text), text
        assert fast.decode(slow.encode(text), skip_special_tokens=False) == slow.decode(slow.encode(text))
