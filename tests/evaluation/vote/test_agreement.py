"""Agreement against published and hand-computed cases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bllossom.evaluation.vote.agreement import agreement_share, cohens_kappa, krippendorffs_alpha, shared

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), data of section C: four observers, twelve units,
# missing votes; its nominal α is 0.743.
KRIPPENDORFF = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]
VOTES = st.dictionaries(st.sampled_from("uvwxyz"), st.sampled_from(["a", "b", "tie"]))


def by_rater(rows: list[str]) -> dict[str, dict[str, str]]:
    return {
        f"r{number}": {f"u{unit}": vote for unit, vote in enumerate(row.split()) if vote != "."}
        for number, row in enumerate(rows)
    }


def test_alpha_of_the_published_example():
    assert krippendorffs_alpha(by_rater(KRIPPENDORFF)) == pytest.approx(0.743, abs=0.0005)


def test_kappa_by_hand():
    # 50 items: both yes 20, both no 15, yes/no 5, no/yes 10; agreement 0.7, chance 0.5·0.6 + 0.5·0.4 = 0.5
    pairs = [("y", "y")] * 20 + [("n", "n")] * 15 + [("y", "n")] * 5 + [("n", "y")] * 10
    assert cohens_kappa(pairs) == pytest.approx(0.4)


def test_without_variation_or_without_votes_there_is_no_coefficient():
    assert cohens_kappa([("a", "a"), ("a", "a")]) is None
    assert cohens_kappa([]) is None
    same = {"u": "a", "v": "a"}
    assert krippendorffs_alpha({"r": same, "s": same}) is None
    assert krippendorffs_alpha({"r": same}) is None
    assert agreement_share({"r": same}) is None


def test_alpha_of_two_raters_by_hand():
    # Two units: (a, a), (a, b). Observed disagreement: 2 of 4 ordered pairs; expected: 2·3·1 / (4·3) = ½; α = 0.
    votes = {"r": {"u": "a", "v": "a"}, "s": {"u": "a", "v": "b"}}
    assert krippendorffs_alpha(votes) == pytest.approx(1 - (2 / 4) / (6 / 12))
    assert agreement_share(votes) == 0.5


@given(st.lists(VOTES, min_size=1, max_size=4))
def test_coefficients_are_at_most_1_and_1_where_all_agree(rows):
    votes = {f"r{number}": row for number, row in enumerate(rows)}
    alpha, share = krippendorffs_alpha(votes), agreement_share(votes)
    if alpha is not None:
        assert alpha <= 1
        assert (alpha == 1) == (share == 1)
    kappa = cohens_kappa(shared(rows[0], rows[-1]))
    assert kappa is None or -1 <= kappa <= 1


@given(st.lists(VOTES, min_size=1, max_size=4), st.permutations(["a", "b", "tie"]))
def test_names_of_votes_and_of_raters_do_not_matter(rows, renamed):
    names = dict(zip(["a", "b", "tie"], renamed, strict=True))
    votes = {f"r{number}": row for number, row in enumerate(rows)}
    other = {
        f"s{number}": {item: names[vote] for item, vote in row.items()} for number, row in enumerate(reversed(rows))
    }
    assert krippendorffs_alpha(votes) == pytest.approx(krippendorffs_alpha(other))
    assert agreement_share(votes) == pytest.approx(agreement_share(other))
