"""Limits, shots and rows of tasks that are lm-eval's or one's own."""

from pathlib import Path

import pytest

from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.tasks.build import limits, prepare
from bllossom.evaluation.tasks.definitions import Chosen, Group, choose


def test_a_group_with_one_score_shares_the_limit_evenly() -> None:
    shared = Group("g", ["a", "b", "c"], [{"metric": "acc"}])
    chosen = Chosen(groups={"g": shared, "names": Group("names", ["d"], [])}, shown=["g", "d"])
    sizes = {"a": 100, "b": 2, "c": 100, "d": 100}
    assert limits(sizes, chosen, 20) == {"a": 9, "b": 2, "c": 9, "d": 20}
    assert limits(sizes, chosen, 2) == {"a": 1, "b": 1, "c": 0, "d": 2}
    assert limits(sizes, chosen, None) == sizes


def test_lm_eval_s_own_tasks_read_rows_of_the_hub_s_columns(made_up: Path) -> None:
    chosen = choose(["hellaswag", "arc_easy", "winogrande", "mmlu_anatomy", "boolq"])
    ready, missing = prepare(chosen, made_up, num_fewshot=None, limit=3, seed=0)
    assert list(ready) == ["hellaswag", "arc_easy", "winogrande", "mmlu_anatomy"]
    assert list(missing) == ["boolq"]
    task = ready["hellaswag"].task
    assert task.doc_to_text(task.eval_docs[1]).startswith("Cooking: A cook breaks 1 eggs. She")
    assert [found.limit for found in ready.values()] == [3, 3, 3, 3]


def test_shots_are_first_ones_where_the_task_says_so(made_up: Path) -> None:
    ready, _ = prepare(choose(["mmlu_anatomy"]), made_up, num_fewshot=2, limit=None, seed=0)
    assert ready["mmlu_anatomy"].shots_from == "dev"
    task = ready["mmlu_anatomy"].task
    task.build_all_requests()
    context = task.instances[0].args[0]
    places = [context.index(f"Which organ is number {n}?") for n in (0, 1)]
    assert places[0] < places[1] < context.index("How many bones has hand 0?")
    assert "Which organ is number 2?" not in context


def test_rows_that_a_definition_cannot_read_are_named_with_their_columns(made_up: Path) -> None:
    path = made_up / "allenai/ai2_arc/ARC-Easy/test.jsonl"
    path.write_text('{"question": "?", "answer": "A"}\n', encoding="utf8")
    with pytest.raises(
        BllossomError, match=r"ARC-Easy/test\.jsonl: arc_easy cannot be asked.* columns question, answer"
    ):
        prepare(choose(["arc_easy"]), made_up, num_fewshot=None, limit=None, seed=0)


def test_too_few_rows_for_the_shots_are_told(made_up: Path) -> None:
    with pytest.raises(ConfigError, match="7 rows are too few for 7 shots; lower num_fewshot"):
        prepare(choose(["kobest_copa"]), made_up, num_fewshot=7, limit=None, seed=0)
