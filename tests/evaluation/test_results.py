"""Averages are of shares alone, and tables tell in percent what is a share of something."""

from typing import Any

from bllossom.evaluation.results import gather, table
from bllossom.evaluation.tasks.definitions import Chosen, Definition, Group


def figures(score: str, value: float, stderr: float) -> dict[str, Any]:
    cell = {"value": value, "stderr": stderr, "floor": None, "chance": None, "at_floor": None}
    return {"figures": {"rows": 100, "score": score, score: cell}}


def gathered(asked: dict[str, Any]) -> dict[str, Any]:
    tasks = {name: Definition(name, name, {}) for name in asked}
    chosen = Chosen(tasks, {"lambada": Group("lambada", list(asked), [])}, list(asked))
    return gather(chosen, asked, {}) | {"heldout": {}}


def test_a_perplexity_is_no_percentage_and_in_no_average_of_them() -> None:
    shares = {"one": figures("acc", 0.5, 0.05), "two": figures("acc", 0.25, 0.05)}
    found = gathered(shares | {"three": figures("perplexity", 15.3, 0.4)})
    assert found["averages"]["lambada"] == {"tasks": 2, "value": 0.375, "floor": None, "left_out": ["three"]}
    lines = [line.plain for line in table(found)]
    assert lines[0].split()[:5] == ["one", "acc", "50.0", "±", "9.8"]
    assert lines[2].split()[:5] == ["three", "perplexity", "15.3", "±", "0.784"]
    assert lines[3].split()[:3] == ["average,", "lambada", "37.5"]
    assert lines[3].endswith("(2 tasks, without three: no shares)")


def test_of_perplexities_alone_there_is_no_average() -> None:
    found = gathered({"one": figures("perplexity", 15.3, 0.4), "two": figures("word_perplexity", 30.0, 1.0)})
    assert found["averages"]["lambada"]["value"] is None
    last = [line.plain for line in table(found)][-1]
    assert last.split()[:3] == ["average,", "lambada", "–"]
    assert last.endswith("(0 tasks, without one, two: no shares)")


def test_a_score_of_unknown_scale_is_no_percentage_and_in_no_average() -> None:
    found = gathered({"gen": figures("bleu_max", 27.563, 0.81), "mc1": figures("acc", 0.25, 0.05)})
    assert found["averages"]["lambada"] == {"tasks": 1, "value": 0.25, "floor": None, "left_out": ["gen"]}
    lines = [line.plain for line in table(found)]
    assert lines[0].split()[:5] == ["gen", "bleu_max", "27.56", "±", "1.588"]
    assert lines[2].endswith("(1 tasks, without gen: no shares)")
