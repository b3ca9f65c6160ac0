"""Which tasks a name means."""

import time
from pathlib import Path

import pytest

from bllossom.errors import ConfigError
from bllossom.evaluation.tasks.definitions import OURS, _names_below, choose

TASK = """task: capitals
dataset_path: capitals
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: [Seoul, Rome]
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def test_our_names_are_ours_and_lm_eval_s_can_be_asked_for() -> None:
    chosen = choose(["kobest_copa", "lm-eval:kobest_copa", "kobest"])
    assert chosen.tasks["kobest_copa"].key == "bllossom_kobest_copa"
    assert chosen.tasks["lm-eval:kobest_copa"].key == "kobest_copa"
    # lm-eval's group means lm-eval's tasks.
    assert "lm-eval:kobest_boolq" in chosen.groups["kobest"].members


def test_groups_have_a_line_where_they_have_a_score() -> None:
    chosen = choose(["table6", "english"])
    english = ["hellaswag", "arc_easy", "arc_challenge", "boolq", "winogrande", "mmlu"]
    assert chosen.shown == [*chosen.groups["table6"].members, *english]
    assert len(chosen.groups["table6"].members) == 8
    assert len(chosen.leaves("mmlu")) == 57
    assert chosen.leaves("arc_easy") == ["arc_easy"]
    assert chosen.tasks["arc_challenge"].metadata["score"] == "acc_norm"
    assert chosen.tasks["mmlu_anatomy"].config["dataset_name"] == "anatomy"


def test_lm_eval_s_tags_and_generating_tasks_are_found_quickly() -> None:
    choose(["table6"])  # the imports
    started = time.process_time()
    chosen = choose(["ai2_arc", "gsm8k", "haerae", "click"])
    assert time.process_time() - started < 10  # the whole of lm-eval's index takes 15
    assert {"arc_easy", "arc_challenge", "gsm8k", "haerae", "click"} <= set(chosen.shown)
    assert chosen.tasks["gsm8k"].config["output_type"] == "generate_until"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("kobest_copas", r"no task, group or folder 'kobest_copas'; did you mean kobest_copa"),
        ("mmul", "did you mean mmlu"),
        ("@@@@", "`lm_eval ls tasks` lists"),
    ],
)
def test_unknown_names_get_the_nearest(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        choose([name])


def test_a_folder_of_one_s_own_is_tasks(tmp_path: Path) -> None:
    (tmp_path / "capitals.yaml").write_text(TASK, encoding="utf8")
    (tmp_path / "more.yaml").write_text("include: capitals.yaml\ntask: more\n", encoding="utf8")
    (tmp_path / "both.yaml").write_text("group: both\ntask: [capitals, more, kobest_copa]\n", encoding="utf8")
    chosen = choose([str(tmp_path)])
    assert chosen.groups["both"].members == ["capitals", "more", "lm-eval:kobest_copa"]
    assert chosen.shown == ["capitals", "more", "lm-eval:kobest_copa"]
    assert chosen.tasks["more"].config["test_split"] == "test"


def test_broken_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"defines no task; put a NAME\.yaml"):
        choose([str(tmp_path)])
    (tmp_path / "broken.yaml").write_text(TASK + "process_docs: !function missing.function\n", encoding="utf8")
    with pytest.raises(ConfigError, match=r"broken\.yaml: cannot be read as a task"):
        choose([str(tmp_path)])


def test_a_broken_file_is_named_though_others_are_whole(tmp_path: Path) -> None:
    (tmp_path / "capitals.yaml").write_text(TASK, encoding="utf8")
    (tmp_path / "broken.yaml").write_text("task: b\n  - : [\n", encoding="utf8")
    with pytest.raises(ConfigError, match=r"broken\.yaml: cannot be read as a task"):
        choose([str(tmp_path)])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("capitals", "capitals"), r"two/t\.yaml: capitals is the name of .*one/t\.yaml too"),
        (("capitals", "kobest_copa"), r"two/t\.yaml: kobest_copa is the name of .*ko/kobest_copa\.yaml too"),
        (("capitals", "hellaswag"), r"two/t\.yaml: hellaswag is a name of lm-eval's too; give it another"),
    ],
)
def test_no_name_means_two_things(tmp_path: Path, names: tuple[str, str], told: str) -> None:
    for folder, name in zip(("one", "two"), names, strict=True):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.yaml").write_text(TASK.replace("task: capitals", f"task: {name}"), encoding="utf8")
    with pytest.raises(ConfigError, match=told):
        choose([str(tmp_path / "one"), str(tmp_path / "two"), "english"])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("files: 'a/{kind}_{split}.jsonl'", "metadata: files: .* should be a path below `data` with {split} in it"),
        ("files: a.jsonl", "metadata: files: "),
        ("columns: [question]", "metadata: columns: .* should be {name: str}"),
        ("columns: {question: text}", "metadata: columns: "),
    ],
)
def test_lines_of_ours_that_say_nothing_are_named(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "t.yaml").write_text(f"{TASK}metadata: {{{line}}}\n", encoding="utf8")
    with pytest.raises(ConfigError, match=rf"t\.yaml: {told}"):
        choose([str(tmp_path)])


def test_names_are_found_in_every_way_of_writing_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    text = '"task": "one"\ntag:\n  - two\n  - "three"\n'
    (tmp_path / "a/x.yaml").write_text(text, encoding="utf8")
    (tmp_path / "a/y.yaml").write_text("group: four\ntask:\n- one\n- five\n", encoding="utf8")
    assert _names_below(tmp_path) == {name: {"a"} for name in ("one", "two", "three", "four", "five")}
    assert "bllossom_kosbi" in _names_below(OURS)
