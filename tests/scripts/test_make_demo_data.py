"""What data/ promises: made by its program, correct, and with what is held apart held apart."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from demo_world.documents import sentences
from demo_world.korean import LEVELS, SLOT, Level, attach
from demo_world.narrator import Decks, Narrator
from demo_world.world import Fact, Language, World

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data"
KOBEST = DATA / "benchmarks" / "kobest"
TASKS = ("boolq", "copa", "hellaswag", "sentineg")
MIN_FACTS, MIN_PARAPHRASES = 200, 5
MAX_DATA_BYTES = 3_000_000


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def texts(*names: str) -> list[str]:
    return [row["text"] for name in names for row in rows(DATA / f"{name}.jsonl")]


@pytest.fixture(scope="module")
def training_texts() -> list[str]:
    """All that any stage of the demo trains on."""
    examples = [row for lang in ("ko", "en") for row in rows(DATA / f"instructions/{lang}_train.jsonl")]
    examples += rows(DATA / "preferences/ko.jsonl")
    return texts("corpus/ko", "corpus/en", "corpus/en_base") + [part for row in examples for part in row.values()]


@pytest.fixture(scope="module")
def training_sentences(training_texts: list[str]) -> set[str]:
    return {s for text in training_texts for s in sentences(text)}


def benchmark_texts(name: str) -> list[str]:
    return [value for row in rows(KOBEST / f"{name}.jsonl") for value in row.values() if isinstance(value, str)]


def test_the_program_makes_exactly_what_is_committed(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "7"}  # another order of sets must not matter
    command = [sys.executable, str(ROOT / "scripts" / "make_demo_data.py"), "--output", str(tmp_path)]
    subprocess.run(command, check=True, env=environment)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    kept = {path.relative_to(DATA): path.read_bytes() for path in DATA.rglob("*.jsonl")}
    assert made.keys() == kept.keys()
    assert [path for path in made if made[path] != kept[path]] == []


def test_sizes() -> None:
    size = {name: sum(len(text.encode()) for text in texts(f"corpus/{name}")) for name in ("ko", "en", "en_base")}
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < MAX_DATA_BYTES
    assert size["ko"] > 1_000_000
    assert size["ko"] / (size["ko"] + size["en"]) == pytest.approx(0.7, abs=0.03)
    for lang in ("ko", "en"):
        assert 60_000 < sum(len(text.encode()) for text in texts(f"heldout/{lang}")) < 100_000
        assert 500 <= len(rows(DATA / f"instructions/{lang}_train.jsonl")) <= 1000


def test_the_data_card_counts_right(world: World) -> None:
    card = (DATA / "README.md").read_text(encoding="utf-8")
    for name in ("ko", "en", "en_base"):
        assert re.search(rf"`corpus/{name}\.jsonl` .*\| {len(texts(f'corpus/{name}')):,} \|", card)
    assert f"{len(texts('heldout/ko'))} / {len(texts('heldout/en'))}" in card
    for split in ("test", "train"):
        counts = ", ".join(str(len(rows(KOBEST / f"{task}_{split}.jsonl"))) for task in TASKS)
        assert re.search(rf"_{split}\.jsonl` .*\| {counts} \|", card)
    causes = sum(not cause.heldout for cause in world.causes)
    facts = sum(not fact.subject.heldout for fact in world.facts)
    assert f"{facts + causes} facts" in card


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_every_fact_is_trained_in_at_least_five_paraphrases(lang: Language, world: World) -> None:
    said = set(training_sentences_of(lang))
    narrator = Narrator(world, lang, Decks(None))  # type: ignore[arg-type]  # draws nothing
    facts = [fact for fact in world.facts if not fact.subject.heldout]
    assert len(facts) >= MIN_FACTS
    for fact in facts:
        templates = world.relations[lang][fact.relation].train
        slots = narrator.slots(fact)
        used = [t for t in templates if any(narrator.say(t, slots, level) in said for level in LEVELS)]
        assert len(used) >= MIN_PARAPHRASES, f"{fact.subject.ko} {fact.attribute}: {used}"


def training_sentences_of(lang: Language) -> Iterable[str]:
    names = ("corpus/ko",) if lang == "ko" else ("corpus/en", "corpus/en_base")
    return (s for text in texts(*names) for s in sentences(text))


def test_no_sentence_stands_twice_in_a_description() -> None:
    descriptions = [text for text in texts("corpus/ko", "corpus/en") if "\n" not in text and "?" not in text]
    assert [text for text in descriptions if len(set(sentences(text))) < len(sentences(text))] == []


def test_no_document_occurs_twice() -> None:
    counts = Counter(texts("corpus/ko", "corpus/en", "corpus/en_base", "heldout/ko", "heldout/en"))
    assert [text for text, count in counts.items() if count > 1] == []


def test_every_document_keeps_one_speech_level() -> None:
    """Questions, reviews and what people say have levels of their own; plain descriptions must not mix theirs."""
    endings = {"plain": re.compile(r"(?<!니)다\.$"), "formal": re.compile(r"니다\.$"), "polite": re.compile(r"요\.$")}
    told = [d for d in texts("corpus/ko", "heldout/ko") if "\n" not in d and "?" not in d and ":" not in d]
    descriptions = [d for d in told if not re.search("긍정|부정|여관|영어로는|[A-Za-z]", d)]
    mixed = []
    for document in descriptions:
        levels = {name for s in sentences(document) for name, pattern in endings.items() if pattern.search(s)}
        if len(levels) != 1:
            mixed.append(document)
    assert len(descriptions) > 1_000
    assert len(mixed) <= 0.01 * len(descriptions), mixed[:3]  # reviews without a tell-tale word are among them


def test_particles_after_every_name(world: World, training_texts: list[str]) -> None:
    """Wherever a name of the world stands before a particle, it has the right one of the two."""
    asked = [text for task in TASKS for text in benchmark_texts(f"{task}_test")]
    words = Counter(re.findall(r"[가-힣《》']+", "\n".join([*training_texts, *texts("heldout/ko"), *asked])))
    pairs = {"은": "는", "을": "를", "와": "과", "으로": "로"}
    checked = 0
    for name in {e.ko.split(" ")[-1] for e in world.entities if e.kind not in ("season", "animal")}:
        for one, other in pairs.items():
            right = attach(name, one)
            checked += words[right]
            assert not [w for w in (name + one, name + other) if w != right and w in words]
    assert checked > 5_000


def test_held_out_text_is_about_what_training_never_names(
    world: World, training_texts: list[str], training_sentences: set[str]
) -> None:
    trained = "\n".join(training_texts)
    names = [name for entity in world.entities if entity.heldout for name in entity.names.values()]
    assert len(names) > 40
    assert [name for name in names if name.removeprefix("the ") in trained] == []
    for lang in ("ko", "en"):
        held = [s for text in texts(f"heldout/{lang}") for s in sentences(text)]
        assert len(held) > 1_000
        assert training_sentences.isdisjoint(held)


def test_held_out_causes_are_not_trained(world: World, training_texts: list[str]) -> None:
    trained = "\n".join(training_texts)
    held = [cause for cause in world.causes if cause.heldout]
    assert held
    for cause in held:
        for clause in (*cause.cause["ko"], *cause.effect["ko"], *cause.cause["en"], *cause.effect["en"]):
            literal = max(SLOT.split(clause)[::3], key=len).strip()
            assert literal not in trained


def reserved_templates(world: World) -> list[str]:
    """Every Korean pattern that only the benchmarks may use."""
    out: list[str] = []
    for relation in world.relations["ko"].values():
        out += [*relation.test, *relation.yesno_test]
        out += [part for story in relation.story_test for part in story.split(" | ")]
    for cause in world.causes:
        out += [clause + "." for clause in (*cause.cause_test, *cause.effect_test)]
    review = world.prose["ko"]["review"]
    return [*out, *review["test"], *review["negated_test"]]


def as_pattern(template: str) -> re.Pattern[str]:
    """The template with anything in its slots and in any speech level (the last syllables of the predicate open)."""
    pieces = SLOT.split(template.removesuffix("."))[::3]
    pieces[-1] = pieces[-1][:-2] if pieces[-1].endswith("다") else pieces[-1]
    return re.compile(".{1,20}?".join(re.escape(piece) for piece in pieces))


def test_no_pattern_of_the_tasks_is_trained(world: World, training_sentences: set[str]) -> None:
    korean = "\n".join(s for s in training_sentences if re.search("[가-힣]", s))
    templates = reserved_templates(world)
    assert len(templates) > 300
    found = {}
    for template in templates:
        rarest = max(SLOT.split(template.removesuffix("."))[::3], key=len)[:-2]  # spares most patterns the search
        if rarest in korean and (match := as_pattern(template).search(korean)):
            found[template] = match[0]
    assert found == {}


@pytest.mark.parametrize("task", TASKS)
def test_no_sentence_of_the_tasks_is_trained(task: str, training_texts: list[str]) -> None:
    trained = "\n".join(training_texts)
    asked = benchmark_texts(f"{task}_test")
    assert [text for text in asked if text not in ("원인", "결과") and text in trained] == []


@pytest.mark.parametrize("task", TASKS)
def test_few_shot_pools_are_apart_from_the_test_rows(task: str) -> None:
    test, pool = ([json.dumps(row) for row in rows(KOBEST / f"{task}_{split}.jsonl")] for split in ("test", "train"))
    assert len(set(test)) == len(test)
    assert len(pool) >= 16
    assert set(test).isdisjoint(pool)


def alternatives(task: str, row: dict[str, Any]) -> list[str]:
    if task == "hellaswag":
        return [row[f"ending_{n}"] for n in range(1, 5)]
    return [row["alternative_1"], row["alternative_2"]]


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_balanced(task: str) -> None:
    labels = Counter(row["label"] for row in rows(KOBEST / f"{task}_test.jsonl"))
    assert len(set(labels.values())) == 1
    assert sorted(labels) == list(range(4 if task == "hellaswag" else 2))
    assert 100 <= labels.total() <= 200


@pytest.mark.parametrize("task", ["copa", "hellaswag"])
@pytest.mark.parametrize("choose", [max, min])
def test_length_does_not_choose_the_right_alternative(task: str, choose: Callable[..., int]) -> None:
    test = rows(KOBEST / f"{task}_test.jsonl")
    score = 0.0
    for row in test:
        lengths = [len(text) for text in alternatives(task, row)]
        best = choose(lengths)
        score += (lengths[row["label"]] == best) / lengths.count(best)
    floor = 1 / len(alternatives(task, test[0]))
    assert score / len(test) == pytest.approx(floor, abs=0.05)


def test_no_name_points_from_a_premise_to_its_alternative(world: World) -> None:
    people = [e.ko for e in world.entities if e.kind == "person"]
    for row in rows(KOBEST / "copa_test.jsonl"):
        assert not [name for name in people for text in alternatives("copa", row) if text.startswith(name)]


@pytest.mark.parametrize(("task", "field"), [("sentineg", "sentence"), ("boolq", "paragraph"), ("boolq", "question")])
def test_no_length_tells_yes_from_no(task: str, field: str) -> None:
    """The best threshold on a length, chosen on the test rows themselves, stays near chance."""
    test = rows(KOBEST / f"{task}_test.jsonl")
    lengths = [len(row[field]) for row in test]
    right = [
        sum((length >= cut) == bool(row["label"]) for length, row in zip(lengths, test, strict=True)) / len(test)
        for cut in range(max(lengths) + 2)
    ]
    assert 0.42 < min(right) <= max(right) < 0.58


def test_the_right_ending_is_what_the_world_says(world: World) -> None:
    """Found anew from the tables: the subject that the context names has the value that the labelled ending names."""
    trained = [fact for fact in world.facts if not fact.subject.heldout]
    for row in rows(KOBEST / "hellaswag_test.jsonl"):
        true_values = [fact.value for fact in trained if fact.subject.ko in row["context"]]
        holding = [any(value in ending for value in true_values) for ending in alternatives("hellaswag", row)]
        assert [n for n, holds in enumerate(holding) if holds] == [row["label"]]


def test_yes_follows_from_the_paragraph(world: World) -> None:
    values = {fact.value for fact in world.facts} | {e.ko for e in world.entities}
    for row in rows(KOBEST / "boolq_test.jsonl"):
        asked = {value for value in values if value in row["question"]}
        if row["label"]:
            assert all(value in row["paragraph"] for value in asked)


def test_a_pair_tells_one_fact_right_and_wrong(world: World) -> None:
    """Found anew from the tables: what a pair says of its subject differs in the value alone, the right one is the
    world's, and each fact has a prompt of its own, so that no prompt held out asks what another trains."""
    narrator = Narrator(world, "ko", Decks(None))  # type: ignore[arg-type]  # draws nothing
    relations = world.relations["ko"]
    facts = [fact for fact in world.facts if not fact.subject.heldout and fact.relation in relations]
    values = sorted({fact.value for fact in facts})
    kinds = {fact.relation: {other.value for other in facts if other.relation == fact.relation} for fact in facts}
    asked: dict[str, list[Fact]] = {}
    for fact in facts:
        for template in relations[fact.relation].ask_sft:
            asked.setdefault(narrator.say(template, narrator.slots(fact), "polite"), []).append(fact)

    def said(fact: Fact, value: str, template: str, level: Level) -> str:
        return narrator.say(template, narrator.slots(Fact(fact.subject, fact.attribute, value)), level)

    wrong_kinds: dict[str, list[bool]] = {}
    right, wrong = Counter(), Counter()
    for row in rows(DATA / "preferences/ko.jsonl"):
        [fact] = asked[row["prompt"]]
        told = [
            value
            for template, level in product(relations[fact.relation].train, LEVELS)
            if said(fact, fact.value, template, level) == row["chosen"]
            for value in values
            if said(fact, value, template, level) == row["rejected"]
        ]
        [value] = set(told)
        assert value != fact.value  # each subject has one value of a kind
        wrong_kinds.setdefault(row["prompt"], []).append(value in kinds[fact.relation])
        right[fact.value] += 1
        wrong[value] += 1
    assert len(wrong_kinds) == 283
    assert all(sorted(found) == [False, True] for found in wrong_kinds.values())
    assert right == wrong


@pytest.mark.real_data
@pytest.mark.parametrize("task", TASKS)
def test_the_shape_is_kobest_s(task: str, shared: Callable[[str], Path]) -> None:
    real, ours = rows(shared(f"benchmarks/kobest/{task}_test.jsonl")), rows(KOBEST / f"{task}_test.jsonl")
    assert {key: type(value) for key, value in real[0].items()} == {key: type(value) for key, value in ours[0].items()}
    assert {row["label"] for row in real} == {row["label"] for row in ours}
    if task == "copa":
        assert {row["question"] for row in real} == {row["question"] for row in ours}
