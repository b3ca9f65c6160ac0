"""Learning merges: the same as BPE trained by hand, weights that no source fills, an end without loose ends."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.errors import BllossomError
from bllossom.vocab.learning.from_text import encode_with
from bllossom.vocab.learning.knee import Point, choose_size, spread
from bllossom.vocab.learning.learn import learn, weigh, without_loose_ends

WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=6).map(tuple), st.integers(1, 9), min_size=1, max_size=8)


def by_hand(words: dict[tuple[str, ...], int], count: int) -> list[tuple[str, str]]:
    """BPE as it is told: count all pairs anew after each merge."""
    state = {atoms: list(atoms) for atoms in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for atoms, symbols in state.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[atoms]
        known = {left + right for left, right in merges}
        possible = {pair: total for pair, total in pairs.items() if pair[0] + pair[1] not in known}
        if not possible:
            break
        best = min(possible, key=lambda pair: (-possible[pair], pair))
        merges.append(best)
        for symbols in state.values():
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = ["".join(best)]
                i += 1
    return merges


@given(WORDS, st.integers(1, 6))
def test_it_is_bpe(words: dict[tuple[str, ...], int], count: int) -> None:
    weights = {atoms: float(total) for atoms, total in words.items()}
    found = learn(weights, count, lambda text: True, frozenset(), lambda text: True)
    assert found == by_hand(words, count)


@given(WORDS, st.integers(0, 5))
def test_encoding_with_merges_is_joining_them_in_order(words: dict[tuple[str, ...], int], count: int) -> None:
    merges = by_hand(words, count)
    for atoms, pieces in zip(words, encode_with(merges, list(words)), strict=True):
        symbols = list(atoms)
        for left, right in merges:
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == (left, right):
                    symbols[i : i + 2] = [left + right]
                i += 1
        assert list(pieces) == symbols


def test_what_stands_in_many_sources_gains_on_what_one_repeats() -> None:
    law, novel, news = {("l", "a", "w"): 900, ("a", "b"): 100}, {("a", "b"): 100}, {("a", "b"): 100}
    weights = weigh([law, novel, news])
    assert 1 < weights["l", "a", "w"] / weights["a", "b"] < 900 / 300


def test_a_donors_list_weighs_a_tenth_of_the_text() -> None:
    text = {("a", "b"): 50, ("c", "d"): 50}
    weights = weigh([text], [{("x", "y"): 0.5, ("z", "y"): 0.5}])
    donor = weights["x", "y"] + weights["z", "y"]
    assert donor == pytest.approx(0.1 * sum(weights[atoms] for atoms in text))


def test_a_donor_that_gives_nothing_takes_no_share() -> None:
    text, donor = {("a", "b"): 50}, {("x", "y"): 0.5}
    assert weigh([text], [donor, {}, {("z", "y"): 0.0}]) == weigh([text], [donor])


def test_parts_that_nothing_needs_are_replaced_by_what_follows() -> None:
    # "ab" is no whole piece, and "abc", which needs it, would be the third.
    words = {("a", "b", "c"): 3.0, ("x", "y"): 5.0, ("p", "q"): 4.0, ("m", "n"): 1.0}
    whole = {"xy", "pq", "mn", "abc"}
    found = learn(words, 2, lambda text: True, frozenset(), whole.__contains__)
    assert without_loose_ends(found, whole.__contains__) == [("x", "y"), ("p", "q")]
    three = learn({**words, ("a", "b", "c"): 6.0}, 3, lambda text: True, frozenset(), whole.__contains__)
    assert without_loose_ends(three, whole.__contains__) == [("a", "b"), ("a" + "b", "c"), ("x", "y")]


def test_the_end_is_found_without_going_through_all_merges_again() -> None:
    # Of many characters, each of two bytes that no other piece needs, all but the last place is taken.
    words = {("x", "y"): 900.0} | {(f"<{i}", f"{i}>", f"{i}."): 1.0 + i for i in range(400)}
    asked = Counter[str]()

    def is_whole(piece: str) -> bool:
        asked[piece] += 1
        return piece == "xy" or piece.endswith(".")

    found = learn(words, 2, lambda text: text.count(".") == 0 or text.startswith("<"), frozenset(), is_whole)
    assert without_loose_ends(found, is_whole) == [("x", "y")]  # each of the others would take two places
    assert asked.total() < 4000


def test_what_is_not_allowed_or_known_is_never_joined() -> None:
    words = {("a", "b", "c"): 3.0}
    assert learn(words, 5, lambda text: text != "ab", frozenset(), lambda text: True) == [("b", "c"), ("a", "bc")]
    assert learn(words, 5, lambda text: True, frozenset(["ab", "bc"]), lambda text: True) == []


def test_auto_takes_the_largest_size_with_few_rare_pieces() -> None:
    curve = [Point(500, 3.0, 10), Point(1000, 2.5, 100), Point(1500, 2.3, 151)]
    assert choose_size(curve, lambda sizes: []) == 1000  # nothing else is measured


def measure_with_rare(rare: Callable[[int], int]) -> Callable[[Sequence[int]], list[Point]]:
    return lambda sizes: [Point(size, 3.0, rare(size)) for size in sizes]


def test_auto_looks_below_a_curve_of_which_no_size_has_few_enough() -> None:
    """The first of 32 sizes is many pieces where much of the text is seldom words."""
    measure = measure_with_rare(lambda size: max(0, size - 360))
    assert choose_size(measure(spread(14_112, 32)), measure) == 392  # of 400 a tenth are rare, of 406 more
    for most in (3, 30, 14_112):
        few = measure_with_rare(lambda size: size - 1)
        assert choose_size(few(spread(most, 32)), few) == 1
    none = measure_with_rare(lambda size: size if size < 7 else size - 1)
    nearest = r"of any number of pieces .* \(of 7, which comes nearest, 6\); name more text, or set pieces to a number"
    with pytest.raises(BllossomError, match=nearest):
        choose_size(none([500, 1000]), none)
