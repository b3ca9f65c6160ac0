"""The rules on labelled sentences, and what the sentences cannot show: places, the set, other languages, tables."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from bllossom.errors import BllossomError
from bllossom.localize.language import PACKAGED, load_language, load_source_language
from bllossom.localize.rules.checker import RULES, Checker
from bllossom.localize.rules.reading import Passage
from tests.localize.sentences import FOLDER, scores


@pytest.fixture(scope="module")
def korean():
    return Checker(load_language("ko"), load_source_language("en"))


@pytest.fixture(scope="module")
def german():
    return Checker(load_language("de"), load_source_language("en"))


def rules(checker, target, source="", **more):
    return [mark.rule for mark in checker.marks(Passage("assistant", source, target, **more))]


@pytest.mark.parametrize("half", ["dev", "held_out"])
def test_each_rule_is_right_nine_times_in_ten_and_finds_four_of_five(half):
    found = scores(half)
    weak = {
        rule: (score.precision, score.recall)
        for rule, score in found.items()
        if score.precision < 0.9 or score.recall < 0.8
    }
    assert weak == {}


def test_the_sentences_are_as_many_as_they_should_be():
    halves = [yaml.safe_load((FOLDER / f"{half}.yaml").read_text(encoding="utf8")) for half in ("dev", "held_out")]
    texts = [item["target"] for half in halves for group in half.values() for kind in group.values() for item in kind]
    clean = sum(len(group["near_miss"]) for half in halves for group in half.values())
    for rule in RULES:
        for kind in ("positive", "near_miss"):
            assert sum(len(half[rule][kind]) for half in halves) >= 12, (rule, kind)
    assert clean >= len(texts) / 3


def test_no_table_holds_a_sentence_of_the_test():
    tables = "".join(path.read_text(encoding="utf8") for path in (PACKAGED / "ko").glob("*.yaml"))
    halves = [yaml.safe_load((FOLDER / f"{half}.yaml").read_text(encoding="utf8")) for half in ("dev", "held_out")]
    for half in halves:
        for group in half.values():
            for item in [item for kind in group.values() for item in kind]:
                assert not any(len(part) > 12 and part in tables for part in re.split(r"[.!?\n]+ ?", item["target"]))


def test_places_are_code_points_of_the_target(korean):
    target = "😀😀 먼저 물을 끓입니다. 다음에 면을 넣어요. 끝입니다."
    mark = next(mark for mark in korean.marks(Passage("assistant", "", target)) if mark.rule == "register_mixed")
    assert target[slice(*mark.place)] == "넣어요"


def test_questions_may_be_in_any_register(korean):
    assert [mark.rule for mark in korean.marks(Passage("user", "", "이거 어떻게 해? 알려 줘요."))] == []


def test_another_register_may_be_the_sets(korean):
    checker = Checker(korean.language, korean.source_language, "haeyo")
    assert rules(checker, "물은 100도에서 끓어요. 소금을 넣으면 조금 더 높아져요.") == []
    assert rules(checker, "물은 100도에서 끓습니다.") == ["register_other"]


def test_an_answer_that_the_translator_cut_is_truncated(korean):
    assert rules(korean, "끝난 듯이 보입니다.", "It seems to be over.", cut=True) == ["truncated"]


def test_the_prompt_in_an_answer_is_the_translators_own_speech(korean):
    prompt = "질문과 답을 한국어로 옮기십시오. 설명은 하지 마십시오. 표시는 그대로 두십시오."
    assert "refusal" in rules(korean, f"{prompt} 로마입니다.", "It is Rome.", prompt=prompt)


def test_an_answer_about_another_name_than_its_question_is_found_without_the_edit(korean):
    more = {
        "question_source": "I want to climb up to mount Stuart today.",
        "question": "오늘 북한산에 오르고 싶습니다.",
    }
    assert "question_answer_mismatch" in rules(korean, "스튜어트산은 험합니다.", "It is hard to climb Stuart.", **more)
    assert rules(korean, "북한산은 험합니다.", "It is hard to climb Stuart.", **more) == []


def test_without_enough_examples_no_length_is_an_outlier(korean):
    assert rules(korean, "쉽니다.", "The museum opens at nine in the morning and closes at six in the evening.") == []


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("It is 5 miles.", "Es sind 5 Meilen.", ["unit"]),
        ("It is 12.5 km.", "Es sind 12,5 km.", []),
        ("There are 24 rooms.", "Es gibt 42 Zimmer.", ["number_changed", "number_changed"]),
        ("You should close the door.", "You should close the door.", ["untranslated"]),
        ("Stir it. Then wait for the rest of it.", "Rühren Sie um. Then wait for the rest of it.", ["english_left"]),
        ("Call 911 at once.", "Rufen Sie sofort die 911 an.", ["entity_foreign"]),
        ("The IRS was founded in 1862.", "Die IRS wurde 1862 gegründet.", []),
        ("Use `ls` here.", "Nutzen Sie den Befehl.", ["markup_lost"]),
        ("Three tips.\n- a\n- b\n- c", "Drei Tipps:\n- a\n- b\n- c", []),
        ("Two tips.\n- a\n- b\n- c", "Zwei Tipps:\n- a\n- b\n- c", ["list_count"]),
        ("He waits for the bus.", "Er wartet auf den", ["truncated"]),
        ("The river is long.", "Als KI-Sprachmodell kann ich das nicht.", ["refusal"]),
    ],
)
def test_german_has_the_rules_that_need_no_morphology(german, source, target, expected):
    assert rules(german, target, source) == expected


def test_an_entity_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "language.yaml").write_text((PACKAGED / "de" / "language.yaml").read_text(encoding="utf8"))
    (tmp_path / "rules.yaml").write_text((PACKAGED / "de" / "rules.yaml").read_text(encoding="utf8"))
    (tmp_path / "one.yaml").write_text("entities:\n  brand:\n    - {forms: [Walmart, Costco]}\n")
    assert load_language(str(tmp_path)).name == "Deutsch"
    (tmp_path / "two.yaml").write_text("entities:\n  place:\n    - {forms: [Costco]}\n")
    with pytest.raises(BllossomError, match=r"the entity 'Costco' stands twice \(brand, place\); remove one"):
        load_language(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ncode: [", "is not YAML"),
        ("- a", "should be a mapping"),
        ("name: x\ncolour: red\n", "correct the table"),
        ("units: [{pattern: '(', what: x}]\n", "correct the table"),
    ],
)
def test_a_broken_table_is_told_with_its_place(tmp_path, text, message):
    (tmp_path / "language.yaml").write_text(text)
    with pytest.raises(BllossomError, match=f"{re.escape(str(tmp_path))}.*{message}"):
        load_language(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("rules.yaml", "  unit: '{found}: {what}'\n", "", "reasons has no unit; add it"),
        (
            "rules.yaml",
            "'{found}: {what}'",
            "'{fund}'",
            r"reasons: unit: there is no \{fund\}.* are \{found\}, \{what\};",
        ),
        ("rules.yaml", "'{found}: {what}'", "'{found'", "reasons: unit: .*its words in braces are"),
        ("rules.yaml", "brand: Marke, ", "", "kinds has no brand, of which entities has some"),
        (
            "entities-us.yaml",
            "  brand:\n",
            "  brand: 5\n  further:\n",
            "entities should be a mapping of kinds to lists",
        ),
        ("entities-us.yaml", "entities:\n", "entities: [5]\nmore:\n", "entities should be a mapping of kinds to lists"),
    ],
)
def test_a_mistake_in_a_table_of_ones_own_is_told_before_any_rule_runs(tmp_path, file, old, new, message):
    own = shutil.copytree(PACKAGED / "de", tmp_path / "own")
    text = (own / file).read_text(encoding="utf8")
    assert old in text
    (own / file).write_text(text.replace(old, new), encoding="utf8")
    with pytest.raises(BllossomError, match=message):
        load_language(str(own))


@pytest.mark.parametrize(
    ("language", "gone", "off"),
    [
        ("de", "(counters|  list_count):.*", ()),
        ("de", "  wordplay:.*", ("wordplay",)),
        ("de", "  (brand|law|institution|place|person|custom):|    - {forms:.*|  entity_foreign:.*", ()),
        ("ko", "morphology:.*|  register_(mixed|other):.*", ()),
    ],
)
def test_a_rule_that_flags_nothing_needs_no_reason(tmp_path, language, gone, off):
    own = shutil.copytree(PACKAGED / language, tmp_path / "own")
    for file in own.iterdir():
        text = file.read_text(encoding="utf8")
        file.write_text(re.sub(f"^({gone})$", "", text, flags=re.MULTILINE), encoding="utf8")
    reasons = load_language(str(own), off).reasons
    assert reasons.keys() < set(RULES)


def test_a_register_needs_a_label(tmp_path):
    own = shutil.copytree(PACKAGED / "ko", tmp_path / "own")
    text = (own / "language.yaml").read_text(encoding="utf8")
    (own / "language.yaml").write_text(text.replace("labels: {hamnida", "labels: {hamnid"), encoding="utf8")
    with pytest.raises(BllossomError, match="registers: labels has no hamnida; add it"):
        load_language(str(own))


@pytest.mark.parametrize("table", ["entities:\n", "entities: {brand: }\n", "particles:\n"])
def test_an_empty_table_is_none(tmp_path, table):
    own = shutil.copytree(PACKAGED / "de", tmp_path / "own", ignore=shutil.ignore_patterns("entities-*"))
    (own / "more.yaml").write_text(table)
    language = load_language(str(own))
    assert not any(language.entities.values())
    assert language.particles == []


def test_an_unknown_language_lists_the_ones_there_are():
    with pytest.raises(BllossomError, match="there is no language 'xx'; the languages are de, en, ko"):
        load_language("xx")


def test_code_of_the_rules_holds_no_language():
    """Hangul stands in tables and comments alone."""
    for path in (Path(PACKAGED).parent).rglob("*.py"):
        code = re.sub(r'""".*?"""|#[^\n]*', "", path.read_text(encoding="utf8"), flags=re.DOTALL)
        assert not re.search("[가-힣]", code), path
