from typing import Any

from bllossom.artifacts import Manifest
from bllossom.report import summary


def manifest(stage: str, figures: dict[str, Any]) -> Manifest:
    return Manifest(
        stage=stage,
        id="0",
        fingerprint="0",
        config={},
        inputs={},
        figures=figures,
        files={},
        versions={},
        git_commit=None,
        run={"wall_seconds": 1.0},
    )


def evaluation(ko: float, f1: float) -> Manifest:
    at_floor = {"stderr": 0.0, "floor": 0.335, "at_floor": f1 < 0.335}
    score = {"acc": {"value": 0.1, "stderr": 0.0, "floor": 0.2}, "f1": {"value": f1, **at_floor}}
    tasks = {"kobest_copa": {"rows": 50, "score": "f1", **score}}
    return manifest("eval", {"bits_per_byte": {"ko": ko}, "tasks": tasks, "average": f1})


def test_it_is_written_where_no_step_has_made_the_folder(tmp_path):
    assert summary.write(tmp_path / "runs/demo", {}, {"eval-base": evaluation(4.0, 0.3)})
    assert sorted(path.name for path in (tmp_path / "runs/demo").iterdir()) == ["summary.json", "summary.md"]


def test_the_table_has_a_model_a_column_and_the_floor_beside_each_score():
    found = summary.summarise(
        {
            "vocab": manifest(
                "merge-vocab", {"pieces": 39478, "tokens_per_word": {"ko": {"base": 6.28, "merged": 2.58}}}
            ),
            "eval-base": evaluation(4.0, 0.3),
            "eval-adapted": evaluation(2.0, 0.6),
        }
    )
    assert summary.markdown(found) == (
        "| tokens per word | base | merged |\n| --- | --: | --: |\n| ko | 6.280 | 2.580 |\n\n"
        "|  | floor | base | adapted |\n| --- | --: | --: | --: |\n"
        "| bits per byte, ko |  | 4.000 | 2.000 |\n"
        "| kobest_copa f1, % | 33.5 | 30.0 (floor) | 60.0 |\n"
        "| average, % |  | 30.0 | 60.0 |\n\n"
        "(floor): the score's 95 % interval reaches the best constant answer, or chance.\n"
    )
    assert "Tokens per word (39,478 pieces)" in summary.render(found)
    assert "(floor): the score's" in summary.render(found)
    assert "(floor)" not in summary.render(summary.summarise({"eval-adapted": evaluation(2.0, 0.6)}))


def test_what_is_no_share_is_no_percentage():
    lambada = {"rows": 9, "score": "perplexity", "perplexity": {"value": 15.3, "stderr": 0.4, "floor": None}}
    found = summary.summarise({"eval-base": manifest("eval", {"tasks": {"lambada_openai": lambada}})})
    assert summary.rows(found)[1] == [["lambada_openai perplexity", "–", "15.3"]]


def test_averages_side_by_side_are_over_the_tasks_that_all_have():
    alone = evaluation(4.0, 0.3)
    both = evaluation(4.0, 0.6)
    both.figures["tasks"]["klue_nli"] = {"rows": 50, "score": "acc", "acc": {"value": 0.2, "stderr": 0.0, "floor": 0.1}}
    both.figures["average"] = 0.4
    table = summary.rows(summary.summarise({"eval-base": alone, "eval-adapted": both}))[1]
    assert table[-1] == ["average of the 1 that all have, %", "", "30.0", "60.0"]
    table = summary.rows(summary.summarise({"eval-adapted": both}))[1]
    assert table[-1] == ["average, %", "", "40.0"]


def test_a_recipe_without_scores_has_no_table():
    assert summary.render(summary.summarise({"vocab": manifest("train-vocab", {})})) == ""
