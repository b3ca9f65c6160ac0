"""Limits, shots and rows of tasks that are lm-eval's or one's own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.model import LM

from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.results import gather
from bllossom.evaluation.samples import ask, figured
from bllossom.evaluation.tasks.build import Ready, count_documents, limits, prepare
from bllossom.evaluation.tasks.data import read_split
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
    found, missing = prepare(chosen, made_up, num_fewshot=None, limit=3, seed=0)
    assert list(found) == ["hellaswag", "arc_easy", "winogrande", "mmlu_anatomy"]
    assert list(missing) == ["boolq"]
    task = found["hellaswag"].task
    assert task.doc_to_text(task.eval_docs[1]).startswith("Cooking: A cook breaks 1 eggs. She")
    assert [each.limit for each in found.values()] == [3, 3, 3, 3]


def test_shots_are_first_ones_where_the_task_says_so(made_up: Path) -> None:
    found, _ = prepare(choose(["mmlu_anatomy"]), made_up, num_fewshot=2, limit=None, seed=0)
    assert found["mmlu_anatomy"].shots_from == "dev"
    task = found["mmlu_anatomy"].task
    task.build_all_requests()
    context = task.instances[0].args[0]
    places = [context.index(f"Which organ is number {n}?") for n in (0, 1)]
    assert places[0] < places[1] < context.index("How many bones has hand 0?")
    assert "Which organ is number 2?" not in context


def contexts(task: Any) -> list[str]:
    task.build_all_requests()
    return [instance.args[0] for instance in task.instances]


@pytest.mark.parametrize(("name", "examples"), [("mmlu_anatomy", "dev"), ("arc_easy", "train")])
def test_examples_of_a_split_of_their_own_are_all_there_to_show_and_drawn_as_lm_eval_draws_them(
    made_up: Path, name: str, examples: str
) -> None:
    """MMLU's dev has the five rows that its five shots are."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    train = made_up / "allenai/ai2_arc/ARC-Easy/train.jsonl"
    train.write_text((train.with_name("test.jsonl")).read_text(encoding="utf8").replace("plus", "and"), encoding="utf8")
    found, _ = prepare(choose([name]), made_up, num_fewshot=5, limit=None, seed=1)
    ready = found[name]
    config = dict(ready.definition.config) | {"num_fewshot": 5, "dataset_kwargs": None}
    data = {split: Dataset.from_list(read_split(ready.definition, split, made_up).rows) for split in ("test", examples)}
    config.pop("validation_split", None)  # of which no file is here
    stock = ConfigurableTask(config=config | {"custom_dataset": lambda **_: data})
    stock.set_fewshot_seed(1)
    assert contexts(ready.task) == contexts(stock)
    with pytest.raises(ConfigError, match="5 rows are too few for 6 shots; lower num_fewshot"):
        prepare(choose([name]), made_up, num_fewshot=6, limit=None, seed=1)


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


SUMS = """task: sums
dataset_path: sums
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}="
doc_to_choice: [odd, even]
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


def ready(folder: Path, definition: str, labels: Sequence[Any]) -> Ready:
    """The task of rows with these labels."""
    for name in ("tasks", "data/sums"):
        (folder / name).mkdir(parents=True)
    (folder / "tasks/sums.yaml").write_text(definition, encoding="utf8")
    rows = [json.dumps({"question": f"{n} + {n}", "label": label}) + "\n" for n, label in enumerate(labels)]
    (folder / "data/sums/test.jsonl").write_text("".join(rows), encoding="utf8")
    found, _ = prepare(choose([str(folder / "tasks")]), folder / "data", num_fewshot=None, limit=None, seed=0)
    return found["sums"]


HALVES = """def odd(rows): return rows.filter(lambda row: row["label"] == 0)
def even(rows): return rows.filter(lambda row: row["label"] == 1)
"""


def halves(folder: Path) -> Path:
    """A group of two tasks that read one file, of which each leaves out the other's rows; its data."""
    (folder / "tasks").mkdir(parents=True)
    (folder / "data/sums").mkdir(parents=True)
    (folder / "tasks/halves.py").write_text(HALVES, encoding="utf8")
    for half in ("odd", "even"):
        text = SUMS.replace("task: sums", f"task: sums_{half}") + f"process_docs: !function halves.{half}\n"
        (folder / f"tasks/{half}.yaml").write_text(text, encoding="utf8")
    group = "group: sums\ntask: [sums_odd, sums_even]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    (folder / "tasks/sums.yaml").write_text(group, encoding="utf8")
    rows = [json.dumps({"question": f"{n} + {n}", "label": int(n % 10 != 9)}) + "\n" for n in range(40)]
    (folder / "data/sums/test.jsonl").write_text("".join(rows), encoding="utf8")
    return folder / "data"


class Odd(LM):
    """Says odd, whatever is asked."""

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        return [(-1.0 - ("even" in request.args[1]), True) for request in requests]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any: ...

    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any: ...


def test_rows_that_a_task_leaves_out_are_neither_counted_nor_weighed_nor_fingerprinted(tmp_path: Path) -> None:
    data = halves(tmp_path)
    chosen = choose([str(tmp_path / "tasks")])
    found, missing = prepare(chosen, data, num_fewshot=None, limit=None, seed=0)
    asked = {}
    for name, ready in found.items():
        results, samples = ask(ready, Odd(), chat=False)
        asked[name] = results | {"figures": figured(ready, results, samples, 0)}
        assert asked[name]["figures"]["rows"] == len(samples) == {"sums_odd": 4, "sums_even": 36}[name]
        assert count_documents(ready.definition, ready.rows) == len(samples)
    scored = gather(chosen, asked, missing)["tasks"]["sums"]
    assert (scored["rows"], scored["acc"]["value"]) == (40, pytest.approx(0.1))
    # The rows that come first are other ones than those that are asked first.
    some, _ = prepare(chosen, data, num_fewshot=None, limit=6, seed=0)
    assert [ready.limit for ready in some.values()] == [3, 3]
    rows = some["sums_odd"].rows
    assert some["sums_odd"].figures()["data"] != rows.fingerprint(3)
    text = "".join(json.dumps(row) + "\n" for row in [*rows.rows[:9], *rows.rows[:8:-1]])
    (data / "sums/test.jsonl").write_text(text, encoding="utf8")
    turned, _ = prepare(chosen, data, num_fewshot=None, limit=6, seed=0)
    assert turned["sums_odd"].figures()["data"] != some["sums_odd"].figures()["data"]
    assert turned["sums_even"].figures()["data"] == some["sums_even"].figures()["data"]


def test_a_score_that_the_task_has_not_is_told_before_it_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sums: metadata: score: there is no 'f2'; its metrics are acc"):
        ready(tmp_path, SUMS + "metadata: {score: f2}\n", [0, 1])


def test_a_target_that_is_no_choice_is_told(tmp_path: Path) -> None:
    """lm-eval counts every answer to it as wrong. A column that is not there is such a target, by its name."""
    with pytest.raises(BllossomError, match=r"test\.jsonl: row 1: sums finds none of its choices right, as in 3 of 3"):
        ready(tmp_path / "column", SUMS.replace("label", "lable"), [0, 1, 0])
    with pytest.raises(BllossomError, match=r"row 2: .* as in 1 of 3 rows"):
        ready(tmp_path / "f1", SUMS.replace("metric: acc", "metric: f1"), [0, 2, 1])
    some = ready(tmp_path / "some", SUMS, [0, -1, 2, 1])
    assert some.figures()["unanswerable"] == 2


def test_columns_of_several_types_are_told(tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match=r"test\.jsonl: sums cannot be asked about its rows \(ArrowInvalid"):
        ready(tmp_path, SUMS, [0, "one"])
