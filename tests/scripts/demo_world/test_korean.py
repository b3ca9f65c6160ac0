import unicodedata

import pytest
from demo_world.korean import Predicate, SpeechLevels, attach, copula, fill_slots, since_clause
from demo_world.world import World
from hypothesis import given
from hypothesis import strategies as st

syllables = st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3)
words = st.text(syllables, min_size=1, max_size=6)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def last_jamo(word: str) -> str:
    """The last letter of a word, by Unicode's own decomposition."""
    return unicodedata.normalize("NFD", word)[-1]


def ends_in_consonant(word: str) -> bool:
    return 0x11A8 <= ord(last_jamo(word)) <= 0x11C2


@given(words)
def test_particles_follow_the_last_sound(word: str) -> None:
    after_consonant = ends_in_consonant(word)
    for closed, opened in (("은", "는"), ("이", "가"), ("을", "를"), ("이라고", "라고"), ("이에요", "예요")):
        assert attach(word, closed) == word + (closed if after_consonant else opened)
    assert attach(word, "와") == word + ("과" if after_consonant else "와")


@given(words)
def test_direction_is_short_after_rieul(word: str) -> None:
    short = not ends_in_consonant(word) or last_jamo(word) == "\u11af"
    assert attach(word, "으로") == word + ("로" if short else "으로")


@given(words, st.sampled_from(["'{}'", "《{}》", "“{}”"]))
def test_quotes_and_brackets_do_not_count(word: str, quoted: str) -> None:
    inside, outside = attach(word, "을"), attach(quoted.format(word), "을")
    assert inside.removeprefix(word) == outside.removeprefix(quoted.format(word))


def test_a_word_without_hangul_is_refused() -> None:
    with pytest.raises(ValueError, match="Raon"):
        attach("Raon", "은")


@pytest.mark.parametrize(
    ("word", "plain", "polite"),
    [
        ("누리강", "누리강이다", "누리강이에요"),
        ("목수", "목수이다", "목수예요"),
        ("연날리기", "연날리기다", "연날리기예요"),
    ],
)
def test_copula(word: str, plain: str, polite: str) -> None:
    assert (copula(word, "plain"), copula(word, "formal"), copula(word, "polite")) == (plain, word + "입니다", polite)


@pytest.mark.parametrize(
    ("plain", "formal", "polite", "clause"),
    [
        ("강이 흐른다", "강이 흐릅니다", "강이 흘러요", "강이 흐르고"),
        ("새가 운다 많다", "새가 운다 많습니다", "새가 운다 많아요", "새가 운다 많고"),
        ("숲에 산다", "숲에 삽니다", "숲에 살아요", "숲에 살고"),
        ("밥을 먹는다", "밥을 먹습니다", "밥을 먹어요", "밥을 먹고"),
        ("물을 긷지 않는다", "물을 긷지 않습니다", "물을 긷지 않아요", "물을 긷지 않고"),
        ("맛이 좋다", "맛이 좋습니다", "맛이 좋아요", "맛이 좋고"),
        ("일로 바쁘다", "일로 바쁩니다", "일로 바빠요", "일로 바쁘고"),
        ("글을 썼다", "글을 썼습니다", "글을 썼어요", "글을 썼고"),
        ("탑이 있다", "탑이 있습니다", "탑이 있어요", "탑이 있고"),
        ("큰 마을이다", "큰 마을입니다", "큰 마을이에요", "큰 마을이고"),
    ],
)
def test_levels(plain: str, formal: str, polite: str, clause: str, world: World) -> None:
    speech = world.speech
    assert speech.fill(plain + ".", {}, "plain") == plain + "."
    assert speech.fill(plain + ".", {}, "formal") == formal + "."
    assert speech.fill(plain + ".", {}, "polite") == polite + "."
    assert speech.clause(plain + ".", {}) == clause


def test_an_unknown_predicate_says_where_to_add_it() -> None:
    with pytest.raises(KeyError, match=r"predicates\.yaml"):
        SpeechLevels([]).fill("새가 난다.", {}, "polite")


def test_every_training_sentence_has_all_levels(world: World) -> None:
    """No template's predicate is missing from the table, and none is left in the plain style by oversight."""
    for relation in world.relations["ko"].values():
        for template in relation.train:
            body = template.removeprefix("^")
            slots = {"s": "누리", "o": "달묵"}
            assert body.endswith(("다.", "다}."))
            assert world.speech.fill(body, slots, "formal").endswith("니다.")
            assert world.speech.fill(body, slots, "polite").endswith("요.")
            assert world.speech.clause(body, slots).endswith("고")


@pytest.mark.parametrize(
    ("stem", "infinitive", "forms"),
    [
        ("부드럽", "부드러워", ("부드럽다", "부드럽습니다", "부드러워요", "부드럽네요", "부드러웠")),
        ("달", "달아", ("달다", "답니다", "달아요", "다네요", "달았")),
        ("예쁘", "예뻐", ("예쁘다", "예쁩니다", "예뻐요", "예쁘네요", "예뻤")),
    ],
)
def test_adjectives(stem: str, infinitive: str, forms: tuple[str, ...]) -> None:
    word = Predicate(stem, infinitive, is_verb=False)
    assert (word.plain(), word.formal(), word.polite(), word.exclaimed(), word.past()) == forms


def test_reason_clauses() -> None:
    assert since_clause("밤새 비가 내렸다") == "밤새 비가 내려서"
    assert since_clause("친구의 생일이었다") == "친구의 생일이어서"
    with pytest.raises(ValueError, match="plain past"):
        since_clause("비가 내린다")


def test_slots_without_particles_stay_as_they_are() -> None:
    assert fill_slots("{s}의 {o:을}", {"s": "라온", "o": "돌다리"}) == "라온의 돌다리를"
