"""Segments hold all that new pieces can do to a text."""

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bllossom.tokenizer.sentencepiece_file import read_model
from bllossom.vocab.families.sentencepiece import SentencePieceVocabulary, append
from bllossom.vocab.families.vocabulary import count_atoms
from bllossom.vocab.repair.segments import count_segments, parts, shortest
from bllossom.vocab.samples import count_tokens, count_words, processor


def shortest_by_trying(atoms: tuple[str, ...], pieces: set[str]) -> int:
    """The fewest tokens, by trying every way to cut."""
    if not atoms:
        return 0
    ends = (k for k in range(1, len(atoms) + 1) if k == 1 or "".join(atoms[:k]) in pieces)
    return min(1 + shortest_by_trying(atoms[k:], pieces) for k in ends)


@given(st.lists(st.sampled_from("abc"), max_size=9).map(tuple), st.sets(st.text("abc", min_size=2, max_size=4)))
def test_shortest_is_the_shortest(atoms: tuple[str, ...], pieces: set[str]) -> None:
    found = shortest(atoms, pieces)
    assert tuple(atom for piece in found for atom in piece) == atoms
    assert all(len(piece) == 1 or "".join(piece) in pieces for piece in found)
    assert len(found) == shortest_by_trying(atoms, pieces)


def test_parts_are_all_stretches_of_two_or_more() -> None:
    assert sorted(parts(("a", "bc", "d"))) == ["abc", "abcd", "bcd"]


def test_segments_keep_what_new_pieces_can_reach_and_no_more(small_base: Path) -> None:
    base = read_model(small_base / "tokenizer.model")
    singles = list("정부는시스템을")
    encoder = processor(append(base, singles))
    words = count_words(["정부는 the river 시스템을 정부는"])
    pieces = {"▁정부", "부는", "시스템"}
    segments = count_segments(count_atoms(SentencePieceVocabulary(append(base, singles)), words), pieces, longest=3)
    assert segments == Counter({("▁", "정", "부", "는"): 2, ("시", "스", "템"): 1})
    # What the segments save is what the text saves.
    both = processor(append(base, [*singles, "▁정", "정부", "부는", "▁정부"]))
    saved = count_tokens(encoder, words) - count_tokens(both, words)
    assert saved == 2 * (4 - 2)
