"""The certificate is refused, with the text that shows why, whatever others did wrong."""

import copy
from pathlib import Path
from typing import Any

import pytest

from bllossom.errors import BllossomError
from bllossom.tokenizer.byte_level_file import read_byte_level
from bllossom.tokenizer.scripts import code_points
from bllossom.vocab.families.byte_level import ByteLevelVocabulary
from bllossom.vocab.proof.certificate import Pair, check_ids, check_pieces, check_texts, check_unicode
from tests.fixtures.vocabularies import to_piece

HANGUL = code_points(("Hangul",))
FIRST = 602
SYLLABLE = to_piece("한".encode())  # three characters, one for each byte
STRIP = {"type": "Strip", "content": "a", "start": 1, "stop": 0}
GOOD = [(SYLLABLE[0], SYLLABLE[1]), (SYLLABLE[:2], SYLLABLE[2])]


@pytest.fixture
def base(byte_level_base: Path) -> dict[str, Any]:
    return read_byte_level(byte_level_base / "tokenizer.json").extended([], [], 0)


def extend(base: dict[str, Any], merges: list[tuple[str, str]]) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for left, right in merges:
        merged["model"]["vocab"].setdefault(
            left + right, FIRST + len(merged["model"]["merges"]) - len(base["model"]["merges"])
        )
        merged["model"]["merges"].append([left, right])
    return merged


def test_good_merges_pass(base: dict[str, Any]) -> None:
    merged = extend(base, GOOD)
    old, new = ByteLevelVocabulary(base), ByteLevelVocabulary(merged)
    assert check_ids(old, new, base, merged)["ids"] == FIRST
    found = check_pieces(new, merged, FIRST)
    assert found["whole"] == 1
    assert found["needed_by"] == {SYLLABLE[:2]: "한"}
    unicode = check_unicode(Pair(base, merged, old, FIRST), old, new, HANGUL)
    assert 1 <= unicode["changed"] <= 64  # the syllables that begin with the same two bytes


def test_continuation_bytes_change_other_code_points(base: dict[str, Any]) -> None:
    merged = extend(base, [(SYLLABLE[1], SYLLABLE[2])])
    old, new = ByteLevelVocabulary(base), ByteLevelVocabulary(merged)
    with pytest.raises(BllossomError, match=r"U\+\w+ is no letter of Hangul and gets other ids"):
        check_unicode(Pair(base, merged, old, FIRST), old, new, HANGUL)


def test_quotes_change_other_texts(base: dict[str, Any]) -> None:
    merged = extend(base, [("q", "z")])
    old, new = ByteLevelVocabulary(base), ByteLevelVocabulary(merged)
    pair = Pair(base, merged, old, FIRST)
    assert pair.encode(["qz"])[0].tolist() == [FIRST]  # its neighbours are joined: the scripts are what tells
    assert check_unicode(pair, old, new, HANGUL)["changed"] == 0
    with pytest.raises(BllossomError, match="has no letter of Hangul and gets other ids"):
        check_texts(pair, new, {"en": ["qz"]}, HANGUL)


def test_a_merge_before_the_bases_own_is_no_joining_of_neighbours(base: dict[str, Any]) -> None:
    left, right = next(pair for pair in base["model"]["merges"] if "Ġ" not in pair[0])
    merged = extend(base, [(right, "Q")])
    merged["model"]["merges"].insert(0, merged["model"]["merges"].pop())
    pair = Pair(base, merged, ByteLevelVocabulary(base), FIRST)
    with pytest.raises(BllossomError, match="is not the base's with neighbours joined"):
        pair.encode([f"{left}{right}Q"])


def test_what_decodes_otherwise_is_seen(base: dict[str, Any]) -> None:
    merged = extend(base, GOOD)
    merged["decoder"] = {"type": "Sequence", "decoders": [base["decoder"], STRIP]}
    pair = Pair(base, merged, ByteLevelVocabulary(base), FIRST)
    with pytest.raises(BllossomError, match="'a river' decodes to ' river', with the base to 'a river'"):
        pair.encode(["the", "a river"], and_decode=True)


def test_a_special_token_that_is_numbered_anew_is_seen(base: dict[str, Any]) -> None:
    merged = extend(base, GOOD)
    del merged["model"]["vocab"]["<|end|>"]
    merged["model"]["vocab"] |= {"<|end|>": 700}
    old, new = ByteLevelVocabulary(base), ByteLevelVocabulary(merged)
    with pytest.raises(BllossomError, match=r"id 601 was '<\|end\|>'|added token '<\|end\|>'"):
        check_ids(old, new, base, merged)


def test_dead_pieces_and_loose_parts_are_seen(base: dict[str, Any]) -> None:
    dead = extend(base, GOOD)
    dead["model"]["merges"].pop()  # the syllable stands in the vocabulary, and nothing makes it
    with pytest.raises(BllossomError, match=r"'한' is not produced by its own text \(ignore_merges False\)"):
        check_pieces(ByteLevelVocabulary(dead), dead, FIRST)
    loose = extend(base, GOOD[:1])
    with pytest.raises(BllossomError, match="is part of a character, and no piece needs it"):
        check_pieces(ByteLevelVocabulary(loose), loose, FIRST)
