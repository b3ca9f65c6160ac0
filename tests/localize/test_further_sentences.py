"""Sentences that were written after the rules, when both halves had been measured; what failed then is right now."""

import pytest

from bllossom.localize.language import load_language, load_source_language
from bllossom.localize.rules.checker import Checker
from bllossom.localize.rules.reading import Passage

CASES = [
    ([], '"나는 괜찮아. 걱정하지 마."라고 그가 말했습니다. 그러고는 문을 닫았습니다.', ""),
    (
        ["register_mixed"],
        "감기에 걸렸을 때는 푹 쉬는 것이 좋습니다. 따뜻한 물을 많이 마셔라. 약은 식후에 드십시오.",
        "",
    ),
    (["register_mixed"], "안녕하세요! 도와드리겠습니다. 이 문제는 간단해. 먼저 x를 구합니다.", ""),
    ([], "안녕하세요! 무엇을 도와드릴까요? 아래 방법을 따라 하시면 됩니다.", ""),
    (["register_mixed"], "이 방법을 쓰면 됩니다. 그렇죠? 아주 쉽습니다.", ""),
    ([], "첫째, 목표를 세웁니다. 둘째, 계획을 짭니다. 셋째, 실천합니다.", ""),
    ([], '『어린 왕자』에는 "가장 중요한 것은 눈에 보이지 않아"라는 문장이 나옵니다.', ""),
    (["english_left"], "오늘은 meeting이 세 개나 있습니다.", ""),
    (["english_left"], "이것은 매우 important합니다.", ""),
    ([], "애플의 iPhone 15와 삼성의 Galaxy S24를 비교했습니다.", ""),
    ([], "CPU와 GPU의 차이는 무엇일까요? CPU는 순차 처리에 강합니다.", ""),
    ([], "HTTP 404 오류가 나면 주소를 다시 확인하십시오.", ""),
    ([], "for 문을 쓰면 반복할 수 있습니다.", ""),
    ([], "미국의 수도는 워싱턴 D.C.입니다.", ""),
    ([], "뉴욕 타임스는 1851년에 창간된 신문입니다.", ""),
    ([], "영화 '시카고'는 2002년에 개봉했습니다.", ""),
    ([], "셰익스피어가 『햄릿』을 썼습니다.", ""),
    (["entity_foreign"], "소득세는 4월 15일까지 IRS에 신고해야 합니다.", ""),
    (["entity_foreign"], "아이가 아프면 911에 전화하세요.", ""),
    (["entity_foreign"], "뉴욕에서 아파트를 구할 때는 신용 점수를 미리 확인하십시오.", ""),
    (["entity_foreign"], "미국 식품의약국의 승인을 받은 약만 드십시오.", ""),
    (["unit"], "키는 6피트 2인치이고 몸무게는 180파운드입니다.", ""),
    (["unit"], "시속 60마일로 달리면 한 시간쯤 걸립니다.", ""),
    (["unit"], "연봉은 5만 달러입니다.", ""),
    (["unit"], "약 백 달러가 듭니다.", ""),
    (["unit"], "수십 마일을 걸었습니다.", ""),
    ([], "1달러는 약 1,300원입니다.", ""),
    ([], "기온이 영하 10도까지 내려갑니다.", ""),
    ([], "날짜는 2024년 12월 25일입니다.", "The date is December 25, 2024."),
    ([], "오후 3시부터 5시까지입니다.", "It is from 3 pm to 5 pm."),
    ([], "15시 30분에 시작합니다.", "It starts at 3:30 pm."),
    ([], "인구는 약 5,100만 명입니다.", "The population is about 51 million."),
    ([], "3만 5천 원입니다.", "It costs 35,000 won."),
    ([], "백만 번도 더 말했습니다.", "I said it 1,000,000 times."),
    ([], "2분의 1컵을 넣습니다.", "Add 1/2 cup."),
    ([], "열다섯 살 때 시작했습니다.", "I started at age 15."),
    ([], "스물다섯 명이 왔습니다.", "25 people came."),
    ([], "삼십 분 걸립니다.", "It takes 30 minutes."),
    ([], "육이오 전쟁은 1950년에 시작되었습니다.", "The Korean War began in 1950."),
    (["number_changed"], "1960년에 시작되었습니다.", "It began in 1950."),
    (["number_changed"], "3,000명이 참가했습니다.", "30,000 people took part."),
    (["number_changed", "unit"], "그 길은 30마일입니다.", "The road is 13 miles long."),
    ([], "두 배로 늘었습니다.", "It grew 2 times."),
    ([], "100만 원의 상금", "A prize of 1 million won"),
    ([], "1위를 차지했습니다.", "It took first place."),
    ([], "21세기는 정보의 시대입니다.", "The 21st century is the age of information."),
    (["markup_lost"], "굵게 표시된 부분이 없습니다.", "There is **bold** text here."),
    (["markup_lost"], "주소는 다음과 같습니다.", "See [the site](https://example.com)."),
    (["list_count"], "건강을 지키는 5가지 방법\n\n1. 걷기\n2. 물 마시기\n3. 일찍 자기\n4. 채소 먹기", ""),
    (["list_count"], "다음 네 가지를 준비하세요.\n\n- 물\n- 수건\n- 모자", ""),
    ([], "다음 네 가지를 준비하세요.\n\n- 물\n- 수건\n- 모자\n- 장갑", ""),
    (["list_count"], "이유는 세 가지입니다.\n1. 쌉니다.\n2. 빠릅니다.", ""),
    (["repeated"], "좋습니다. 좋습니다. 좋습니다. 좋습니다. 좋습니다. 좋습니다.", ""),
    (["repeated"], "이 제품은 품질이 좋고 이 제품은 품질이 좋고 이 제품은 품질이 좋습니다.", ""),
    (["refusal"], "죄송하지만, 저는 그 요청을 수행할 수 없습니다.", "How do I bake bread?"),
    (["refusal"], "저는 인공지능이므로 번역을 제공할 수 없습니다.", "How do I bake bread?"),
    (["refusal"], "죄송합니다만 도와드릴 수 없습니다.", "How do I bake bread?"),
    (["refusal"], "한국어 번역: 빵은 오븐에 굽습니다.", "Bread is baked in an oven."),
    (["refusal"], "물론입니다! 번역은 다음과 같습니다: 빵을 굽습니다.", "Bread is baked in an oven."),
    ([], "빵은 오븐에서 굽습니다", "Bread is baked in an oven"),
    (["truncated"], "빵은 오븐에서 굽고, 식힌 다음에", "Bread is baked in an oven, cooled and sliced."),
    (["truncated"], "그러나 가장 중요한 것은 바로", "But the most important thing is patience."),
    (["truncated"], "첫째, 물을 끓입니다. 둘째, 면을 넣습니", "First, boil water. Second, add noodles."),
    (["truncated"], "이 약은 하루에 세 번", "Take this medicine three times a day after meals."),
    (["untranslated"], "Here is the answer: you should rest.", "Here is the answer: you should rest."),
    (["untranslated"], "これは日本語の文です。", "This is a sentence."),
    (["register_other"], "물을 마시면 좋아요.", ""),
    (["register_other"], "그는 학교에 갔다.", ""),
    (["register_other"], "밥 먹었어?", ""),
]
WORDPLAY = [
    ("Write a rhyming poem about love.", True),
    ("What is a word that starts with 'qu'?", True),
    ("How many r's are in strawberry?", True),
    ("What 5 letter word has A as the third letter?", True),
    ("Write a letter of recommendation for a student.", False),
]


@pytest.fixture(scope="module")
def checker():
    return Checker(load_language("ko"), load_source_language("en"))


@pytest.mark.parametrize(("expected", "target", "source"), CASES)
def test_answers_have_these_flags_and_no_others(checker, expected, target, source):
    assert {mark.rule for mark in checker.marks(Passage("assistant", source, target))} == set(expected)


@pytest.mark.parametrize(("question", "is_wordplay"), WORDPLAY)
def test_questions_that_rest_on_letters_are_told(checker, question, is_wordplay):
    marks = checker.marks(Passage("user", question, "질문입니다."))
    assert any(mark.rule == "wordplay" for mark in marks) is is_wordplay
