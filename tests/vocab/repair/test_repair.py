"""Repair on small vocabularies made for it, and on the real ones."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from bllossom.tokenizer.convert import last_joins, normal_scores
from bllossom.tokenizer.scripts import holds_script
from bllossom.tokenizer.sentencepiece_file import NORMAL, read_model
from bllossom.vocab.families.sentencepiece import SentencePieceVocabulary, append
from bllossom.vocab.families.vocabulary import count_atoms
from bllossom.vocab.repair.repair import Problem, repair_by_adding, repair_by_swapping
from bllossom.vocab.samples import count_tokens, count_words, processor, read_samples, shortest_model

DONOR = [*"대통령시스템밝혔다", "▁대통령", "▁시", "▁시스템", "▁밝혔다", "통령", "밝혔다"]
TEXT = "대통령 시스템 밝혔다 " * 5 + "시 대통령"


def state(base: Path, donor: list[str], text: list[str]) -> Problem:
    model = read_model(base / "tokenizer.model" if base.is_dir() else base)
    knows = SentencePieceVocabulary(append(model, [piece for piece in donor if len(piece) == 1]))
    words = count_atoms(knows, count_words(text))
    return Problem(donor, SentencePieceVocabulary(model).spell, words, lambda piece: True)


def test_adding_mends_every_piece_with_as_few_as_can_be(small_base: Path) -> None:
    repaired = repair_by_adding(state(small_base, DONOR, [TEXT]))
    # ▁대통령 needs one (통령 is there), ▁시스템 one, 밝혔다 one and ▁밝혔다 none beyond it.
    assert len(repaired.intermediates) == 3
    assert repaired.pieces[: len(DONOR)] == DONOR
    assert repaired.given_up == []
    merged = append(read_model(small_base / "tokenizer.model"), repaired.pieces, repaired.ranks)
    joins = last_joins(normal_scores(merged))
    assert [piece for piece in repaired.pieces if len(piece) > 1 and joins[piece] is None] == []


@pytest.mark.parametrize("places", [12, 14, 15, 16])
def test_swapping_fills_the_places_and_keeps_single_characters(small_base: Path, places: int) -> None:
    repaired = repair_by_swapping(state(small_base, DONOR, [TEXT]), DONOR, places, 700)
    assert len(repaired.pieces) == places
    assert set("대통령시스템밝혔다") <= set(repaired.pieces)
    assert sorted([*repaired.given_up, *repaired.pieces]) == sorted([*DONOR, *repaired.intermediates])
    merged = append(read_model(small_base / "tokenizer.model"), repaired.pieces, repaired.ranks)
    joins = last_joins(normal_scores(merged))
    assert [piece for piece in repaired.pieces if len(piece) > 1 and joins[piece] is None] == []


def test_swapping_gives_up_what_the_text_does_not_use(small_base: Path) -> None:
    donor = [*"가나다라", "가나", "다라"]
    repaired = repair_by_swapping(state(small_base, donor, ["가나 가나 x다라"]), donor, 5, 700)
    assert repaired.given_up == ["다라"]


@pytest.fixture
def real(llama2: Path, kobert: Path) -> tuple[Path, list[str]]:
    have = {piece.piece for piece in read_model(llama2).pieces}
    return llama2, [p.piece for p in read_model(kobert).pieces if p.type == NORMAL and p.piece not in have]


@pytest.mark.real_data
def test_tuned_on_half_the_documents_the_order_serves_the_other_half(
    real: tuple[Path, list[str]], shared: Callable[[str], Path]
) -> None:
    base, new = real
    documents = read_samples({"ko": [shared("corpus/ko/tensorflow_docs_ko.jsonl.zst")]})["ko"]
    donor = [piece for piece in new if holds_script(piece, ["Hangul"])]
    repaired = repair_by_adding(state(base, donor, documents[::2]))
    assert len(repaired.intermediates) <= 850  # the least there is: 846
    merged = append(read_model(base), repaired.pieces, repaired.ranks)
    words = count_words(documents[1::2])
    shortest = count_tokens(processor(shortest_model(merged)), words)
    assert shortest <= count_tokens(processor(merged), words) <= 1.006 * shortest


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize("how", ["add", "swap"])
def test_better_than_the_plain_search_in_both(
    real: tuple[Path, list[str]], shared: Callable[[str], Path], how: str
) -> None:
    base, new = real
    documents = read_samples({"ko": sorted(shared("corpus/ko").glob("*.zst"))})["ko"]
    documents = [document[:4000] for document in documents]
    problem = state(base, new, documents)
    if how == "add":
        repaired = repair_by_adding(problem)
        assert len(repaired.intermediates) < 880
    else:
        keep = [piece for piece in new if holds_script(piece, ["Hangul"])]
        repaired = repair_by_swapping(problem, keep, len(new), 700)
        assert len(repaired.pieces) == 7478
    words, count = Counter(count_words(documents)), sum(len(document.split()) for document in documents)
    merged = append(read_model(base), repaired.pieces, repaired.ranks)
    tokens, shortest = (count_tokens(processor(model), words) for model in (merged, shortest_model(merged)))
    assert tokens / count < {"add": 2.450, "swap": 2.546}[how]
    assert tokens <= 1.006 * shortest
    joins = last_joins(normal_scores(merged))
    assert [piece for piece in repaired.pieces if len(piece) > 1 and joins[piece] is None] == []


GREEK = "αβγδεζηθικλμνξοπρστυφχψω"


@pytest.mark.parametrize("many", [False, True])
def test_an_alphabet_whose_syllables_the_base_lacks(
    small_base: Path, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Unigram donor of whole words: hundreds of stretches for each, of which none is a piece."""
    monkeypatch.setattr("bllossom.vocab.repair.repair.MANY", 0 if many else 10**9)
    generator = random.Random(0)
    syllables = ["".join(generator.choices(GREEK, k=2)) for _ in range(40)]
    words = sorted({"▁" + "".join(generator.choices(syllables, k=generator.randrange(2, 5))) for _ in range(120)})
    donor = [*GREEK, *words]
    text = [" ".join(word[1:] for word in generator.choices(words, k=2000))]
    repaired = repair_by_adding(state(small_base, donor, text))
    merged = append(read_model(small_base / "tokenizer.model"), repaired.pieces, repaired.ranks)
    assert SentencePieceVocabulary(merged).unmade(repaired.pieces) == []
    assert 0 < len(repaired.intermediates) < 2 * len(words)
