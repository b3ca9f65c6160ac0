"""The pieces that are missing: as few as can be, and the ones that serve the text."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from bllossom.vocab.repair.intermediates import count_savings, cover, find_candidates, missing
from bllossom.vocab.repair.segments import parts, shortest


def can_be_made(atoms: tuple[str, ...], pieces: set[str]) -> bool:
    """Whether some binary tree over the atoms has only pieces as nodes, by trying all."""
    if len(atoms) == 1:
        return True
    if "".join(atoms) not in pieces:
        return False
    return any(can_be_made(atoms[:k], pieces) and can_be_made(atoms[k:], pieces) for k in range(1, len(atoms)))


words = st.lists(st.text("abcd", min_size=2, max_size=6), min_size=1, max_size=5, unique=True)


@settings(deadline=None)
@given(words.map(lambda pieces: ["abcd", *(piece for piece in pieces if piece in "abcd")]))
def test_missing_is_what_trying_all_additions_finds(pieces: list[str]) -> None:
    atoms = tuple(pieces[0])  # no letter twice: a node that occurs twice in one tree would count twice
    options = sorted(set(parts(atoms)) - set(pieces))
    for count in range(len(options) + 1):
        if any(can_be_made(atoms, {*pieces, *more}) for more in itertools.combinations(options, count)):
            assert missing(atoms, pieces, (), options) == count
            return


@settings(deadline=None)
@given(words)
def test_a_cover_lets_every_piece_be_made_and_holds_nothing_idle(pieces: list[str]) -> None:
    atoms = {piece: tuple(piece) for piece in pieces}
    worth = dict.fromkeys(find_candidates(atoms, lambda _: True), 0)
    added = cover(atoms, worth)
    everything = {*pieces, *added}
    assert all(can_be_made(tuple(piece), everything) for piece in pieces)
    for idle in added:
        assert not all(can_be_made(tuple(piece), everything - {idle}) for piece in pieces)


def test_a_part_that_two_pieces_share_is_added_once() -> None:
    pieces = {"▁대통령": tuple("▁대통령"), "부통령": tuple("부통령")}
    candidates = find_candidates(pieces, lambda _: True)
    assert cover(pieces, dict.fromkeys(candidates, 0)) == {"통령", "대통령"} or cover(
        pieces, dict.fromkeys(candidates, 0)
    ) == {"통령", "▁대"}


def test_of_equal_covers_the_text_decides() -> None:
    atoms = {"abc": ("a", "b", "c")}
    assert cover(atoms, {"ab": 1, "bc": 7}) == {"bc"}
    assert cover(atoms, {"ab": 7, "bc": 1}) == {"ab"}


def test_only_allowed_strings_are_candidates() -> None:
    atoms = {"12가": ("1", "2", "가")}
    assert find_candidates(atoms, lambda text: "가" in text) == {"2가"}


def test_savings_are_what_the_text_loses_without_a_piece_or_gains_with_one() -> None:
    segments = {("a", "b", "c"): 10, ("b", "c"): 3, ("a", "b"): 100}
    pieces = {"bc"}
    saved = count_savings({"bc", "ab", "abc"}, segments, pieces)
    for string in saved:
        with_it, without = {*pieces, string}, pieces - {string}
        expected = sum(n * (len(shortest(s, without)) - len(shortest(s, with_it))) for s, n in segments.items())
        assert saved[string] == expected
