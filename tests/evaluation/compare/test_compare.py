"""Results side by side: ours, lm-eval's and the published; what is refused, and what is printed."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.compare.compare import compare
from bllossom.evaluation.compare.read import published, read_result
from bllossom.evaluation.compare.render import as_csv, as_json, markdown, print_tables

ROWS = 40


def cell(value: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "stderr": 0.05, "floor": 0.3, "chance": 0.5, "at_floor": False} | more


def write_ours(folder: Path, right: list[int], *, bits: float = 2.0, **settings: Any) -> Path:
    """A result of one right-or-wrong task, one of F1 and held-out text; `right` are the documents answered rightly."""
    (folder / "samples").mkdir(parents=True)
    golds = [number % 2 for number in range(ROWS)]
    answers = [gold if number in right else 1 - gold for number, gold in enumerate(golds)]
    depends = {"rows": ROWS, "data": "abc", "shots": 0, "shots_from": None} | settings.pop("depends", {})
    accuracy = len(right) / ROWS
    value = f1(golds, answers)
    tasks = {
        "klue_nli": {"score": "acc", "acc": cell(accuracy), **depends},
        "kobest_copa": {"score": "f1", "f1": cell(value, at_floor=value < 0.5), **depends},
    }
    held = {"ko": {"bits_per_byte": bits, "stderr": 0.01}}
    figures = {"tasks": tasks, "subtasks": {}, "heldout": held}
    whole = {"results": {}, "config": {"encoding": "lm-eval", "chat_template": False} | settings, "bllossom": figures}
    (folder / "results.json").write_text(json.dumps(whole), encoding="utf8")
    for task in tasks:
        lines = [
            {"doc_id": n, "prompt_hash": f"{n}", "filter": "none", "acc": float(a == g), "f1": [g, a]}
            for n, (g, a) in enumerate(zip(golds, answers, strict=True))
        ]
        text = "".join(json.dumps(line) + "\n" for line in reversed(lines))
        (folder / f"samples/{task}.jsonl").write_text(text, encoding="utf8")
    lines = [{"doc_id": n, "bits": bits * (n + 1), "bytes": n + 1, "tokens": 1} for n in range(10)]
    (folder / "samples/heldout_ko.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf8"
    )
    return folder


def f1(golds: list[int], answers: list[int]) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(golds, answers, average="macro"))


def write_theirs(folder: Path, value: float, shots: int = 0) -> Path:
    """As lm_eval writes it: OUTPUT/MODEL/results_DATE.json and samples beside it."""
    (folder / "model").mkdir(parents=True)
    results = {
        "results": {
            "kobest_boolq": {"alias": "kobest_boolq", "acc,none": value, "acc_stderr,none": 0.02, "f1,none": 0.4}
        },
        "n-shot": {"kobest_boolq": shots},
        "n-samples": {"kobest_boolq": {"original": 1404, "effective": 3}},
    }
    (folder / "model/results_2026-01-01T00-00-00.1.json").write_text(json.dumps(results), encoding="utf8")
    lines = [{"doc_id": n, "prompt_hash": str(n), "filter": "none", "acc": float(n < 3 * value)} for n in range(3)]
    path = folder / "model/samples_kobest_boolq_2026-01-01T00-00-00.1.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf8")
    return folder


def test_paired_differences_best_and_intervals(tmp_path: Path) -> None:
    base = write_ours(tmp_path / "base", list(range(10)))
    better = write_ours(tmp_path / "better", list(range(30)), bits=1.5)
    found = compare([str(base), str(better)])
    assert found.entries == ["base", "better"]
    assert [measure.name for measure in found.measures] == [
        "bits per byte, ko",
        "klue_nli acc",
        "kobest_copa f1",
        "average of 2",
    ]
    accuracy = found.differences["better", "klue_nli acc"]
    assert accuracy.value == pytest.approx(0.5)
    assert accuracy.sure
    assert accuracy.p == pytest.approx(2 / 2**20)
    assert found.differences["better", "kobest_copa f1"].sure
    assert found.differences["better", "bits per byte, ko"].value == pytest.approx(-0.5)
    assert set(found.best.values()) == {"better"}
    assert "left out (encoding: lm-eval in base, paper in" in found.notes[-1]


def test_seeds_of_a_model_are_one_line_with_their_spread(tmp_path: Path) -> None:
    paths = [write_ours(tmp_path / f"run-{n}", list(range(10 + 2 * n))) for n in range(3)]
    other = write_ours(tmp_path / "other", list(range(30)))
    found = compare([f"mine={','.join(map(str, paths))}", f"other={other}"])
    score = found.scores["mine", "klue_nli acc"]
    assert (score.value, score.spread, score.stderr) == (pytest.approx(0.3), pytest.approx(0.1), None)
    assert found.differences["other", "klue_nli acc"].value == pytest.approx(0.45)
    assert "30.0 (spread 10.0)" in markdown(found)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"encoding": "paper"}, "encoding: lm-eval in base, paper in other"),
        ({"chat_template": True}, "chat_template: False in base, True in other"),
        ({"depends": {"rows": 7, "data": "x"}}, "klue_nli: rows: 40 in base, 7 in other"),
        ({"depends": {"shots": 5}}, "klue_nli: shots: 0 in base, 5 in other"),
        ({"depends": {"data": "def"}}, "klue_nli: data: abc in base, def in other"),
    ],
)
def test_what_is_not_comparable_is_refused_unless_told_to(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    base = write_ours(tmp_path / "base", [1, 2])
    other = write_ours(tmp_path / "other", [1, 2, 3], **settings)
    with pytest.raises(BllossomError, match=told) as refused:
        compare([str(base), str(other)])
    assert str(refused.value).endswith("add --anyway to see them so")
    assert told in compare([str(base), str(other)], anyway=True).notes


def test_shots_that_were_drawn_in_another_way_are_refused(tmp_path: Path) -> None:
    """Results of before do not say how; without shots, or with some of the tested rows, nothing has changed."""
    before, same, now = (
        write_ours(tmp_path / name, [1], depends={"shots": 5, "shots_from": "train", **more})
        for name, more in (("before", {}), ("same", {}), ("now", {"drawing": 2}))
    )
    compare([str(before), str(same)])
    with pytest.raises(BllossomError, match="klue_nli: way of drawing shots: 1 in before, 2 in now"):
        compare([str(before), str(now)])


def test_other_questions_have_no_paired_difference(tmp_path: Path) -> None:
    base, other = write_ours(tmp_path / "base", [1, 2]), write_ours(tmp_path / "other", [1, 2, 3])
    path = other / "samples/klue_nli.jsonl"
    path.write_text(
        path.read_text(encoding="utf8").replace('"prompt_hash": "5"', '"prompt_hash": "x"'), encoding="utf8"
    )
    (other / "samples/kobest_copa.jsonl").unlink()
    found = compare([str(base), str(other)])
    assert ("other", "klue_nli acc") not in found.differences
    assert "klue_nli acc, other: no paired difference: their questions differ" in found.notes
    assert "kobest_copa f1, other: no paired difference: samples are missing" in found.notes


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file, or each line of a JSONL file."""
    lines = path.read_text(encoding="utf8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf8")]
    whole = [json.loads(line) for line in lines]
    for each in whole:
        change(each)
    path.write_text("".join(json.dumps(each) + "\n" for each in whole), encoding="utf8")


def test_other_documents_are_refused_though_nothing_else_differs(tmp_path: Path) -> None:
    base, other = write_ours(tmp_path / "base", [1, 2]), write_ours(tmp_path / "other", [1, 2, 3])
    edit(other / "samples/klue_nli.jsonl", lambda sample: sample.update(prompt_hash="x", doc_hash="y"))
    told = "klue_nli acc, other: the documents are others"
    with pytest.raises(BllossomError, match=told):
        compare([str(base), str(other)])
    assert told in compare([str(base), str(other)], anyway=True).notes


def test_chat_forms_of_the_same_documents_are_paired(tmp_path: Path) -> None:
    """Each model has its own form, so that no prompt is another's."""
    base = write_ours(tmp_path / "base", [1, 2], chat_template=True)
    other = write_ours(tmp_path / "other", [1, 2, 3], chat_template=True)
    edit(other / "samples/klue_nli.jsonl", lambda sample: sample.update(prompt_hash="x"))
    assert compare([str(base), str(other)]).differences["other", "klue_nli acc"].value == pytest.approx(1 / ROWS)


def test_any_two_results_are_held_against_each_other(tmp_path: Path) -> None:
    """The first has nothing of what the others differ in."""
    first = write_ours(tmp_path / "first", [1])
    edit(first / "results.json", lambda whole: whole["bllossom"]["tasks"].pop("klue_nli"))
    one, two = (write_ours(tmp_path / name, [1], depends={"data": name}) for name in ("one", "two"))
    edit(first / "results.json", lambda whole: whole["bllossom"]["tasks"]["kobest_copa"].update(data=None))
    with pytest.raises(BllossomError, match="klue_nli: data: one in one, two in two"):
        compare([str(first), str(one), str(two)])


def test_bits_per_byte_of_other_text_are_refused(tmp_path: Path) -> None:
    base, other = write_ours(tmp_path / "base", [1]), write_ours(tmp_path / "other", [1])
    for folder, data in ((base, "abc"), (other, "def")):
        text = {"documents": 10, "bytes": 55, "data": data}
        edit(folder / "results.json", lambda whole, text=text: whole["bllossom"]["heldout"]["ko"].update(text))
    told = "bits per byte, ko: text: 10 documents of 55 bytes, abc in base, 10 documents of 55 bytes, def in other"
    with pytest.raises(BllossomError, match=told):
        compare([str(base), str(other)])
    found = compare([str(base), str(other)], anyway=True)
    assert told in found.notes
    assert ("other", "bits per byte, ko") not in found.differences


def test_an_average_is_over_the_same_tasks_for_all(tmp_path: Path) -> None:
    full = {"encoding": "paper", "depends": {"rows": None, "data": None}}
    base = write_ours(tmp_path / "base", [1, 2], **full)
    other = write_ours(tmp_path / "other", [1, 2], **full)
    edit(other / "results.json", lambda whole: whole["bllossom"]["tasks"].pop("klue_nli"))
    found = compare([str(base), str(other)])
    assert found.scores["Llama2 (published)", "average of 2"].value == pytest.approx((0.440 + 0.609) / 2)
    assert ("other", "average of 2") not in found.scores


def test_samples_that_are_broken_or_of_another_score_are_told(tmp_path: Path) -> None:
    base, other = write_ours(tmp_path / "base", [1]), write_ours(tmp_path / "other", [1])
    edit(other / "samples/klue_nli.jsonl", lambda sample: sample.update(acc=1.0))
    edit(other / "samples/heldout_ko.jsonl", lambda sample: sample.update(bits=1.0))
    notes = compare([str(base), str(other)]).notes
    for measure in ("klue_nli acc", "bits per byte, ko"):
        assert f"{measure}, other: no paired difference: the samples give another score than the result" in notes
    path = other / "samples/kobest_copa.jsonl"
    path.write_bytes(path.read_bytes().replace(b"none", b"n\xffne", 1))
    with pytest.raises(BllossomError, match=r"kobest_copa\.jsonl: the samples are broken .*evaluate anew"):
        compare([str(base), str(other)])


def test_one_document_makes_no_sure_difference(tmp_path: Path) -> None:
    folders = [write_ours(tmp_path / "base", []), write_ours(tmp_path / "other", [0], bits=1.5)]
    for folder, value in zip(folders, (0.0, 1.0), strict=True):
        for name in ("klue_nli", "kobest_copa", "heldout_ko"):
            path = folder / f"samples/{name}.jsonl"
            [only] = [line for line in path.read_text().splitlines() if '"doc_id": 0,' in line]
            path.write_text(only + "\n")

        def scored(whole: dict[str, Any], value: float = value) -> None:
            whole["bllossom"]["tasks"]["klue_nli"]["acc"]["value"] = value

        edit(folder / "results.json", scored)
    found = compare(list(map(str, folders)))
    assert not found.differences
    for measure in ("bits per byte, ko", "klue_nli acc", "kobest_copa f1"):
        assert f"{measure}, other: no paired difference: of one document alone there is no interval" in found.notes


def test_scores_that_are_not_numbers_are_left_out_and_told(tmp_path: Path) -> None:
    base, other = write_ours(tmp_path / "base", [1]), write_ours(tmp_path / "other", [1, 2])
    edit(base / "results.json", lambda whole: whole["bllossom"]["tasks"]["klue_nli"]["acc"].update(value=float("nan")))
    edit(base / "results.json", lambda whole: whole["bllossom"]["heldout"]["ko"].update(bits_per_byte=float("inf")))
    found = compare([str(base), str(other)])
    assert "klue_nli acc of base is nan: left out" in found.notes
    assert "bits per byte, ko of base is inf: left out" in found.notes
    assert ("base", "klue_nli acc") not in found.scores
    json.loads(as_json(found), parse_constant=pytest.fail)


def test_metrics_of_every_kind_are_told_on_their_scale(tmp_path: Path) -> None:
    """As lm_eval writes them: lists and texts in samples, and scores of which less is better."""
    folders = []
    for name, value in (("one", 20.0), ("two", 3e9)):
        folder = write_theirs(tmp_path / name, 1 / 3)
        file = folder / "model/results_2026-01-01T00-00-00.1.json"
        scores = {"wiki": {"word_perplexity,none": value}, "translate": {"bleu,none": value}}
        edit(file, lambda whole, scores=scores: whole["results"].update(scores))
        edit(file, lambda whole: whole.update(higher_is_better={"wiki": {"word_perplexity": False}}))
        for task, sample in (("wiki", {"word_perplexity": [-9.5, 4]}), ("translate", {"bleu": ["a", "b"]})):
            lines = [json.dumps({"doc_id": n, "filter": "none"} | sample) + "\n" for n in range(2)]
            path = folder / f"model/samples_{task}_2026-01-01T00-00-00.1.jsonl"
            path.write_text("".join(lines), encoding="utf8")
        folders.append(folder)
    found = compare([str(folder) for folder in folders])
    assert (found.best["wiki word_perplexity"], found.best["translate bleu"]) == ("one", "two")
    assert "lm-eval:kobest_boolq acc" not in found.best  # two share it
    assert "| wiki word_perplexity | **20.000** | 3e+09 |" in markdown(found)
    notes = [note for note in found.notes if "cannot be recomputed from the samples" in note]
    assert len(notes) == 2


def test_of_several_results_in_a_folder_the_newest_is_read_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_theirs(tmp_path / "one", 1.0)
    old = folder / "model/results_2025-01-01T00-00-00.1.json"
    old.write_bytes((folder / "model/results_2026-01-01T00-00-00.1.json").read_bytes())
    edit(old, lambda whole: whole["results"]["kobest_boolq"].update({"acc,none": 0.0}))
    assert read_result(folder, "one").tasks["lm-eval:kobest_boolq"].metrics["acc"].value == 1.0
    assert "2 results; the newest is read, results_2026-01-01" in capsys.readouterr().err


def test_a_group_is_paired_over_the_documents_of_its_tasks(tmp_path: Path) -> None:
    def grouped(whole: dict[str, Any]) -> None:
        tasks = whole["bllossom"]["tasks"]
        twice = {**tasks["klue_nli"], "rows": 2 * ROWS, "subtasks": 2}
        whole["bllossom"]["subtasks"] = {"part": tasks["klue_nli"], "klue_nli": tasks.pop("klue_nli")}
        tasks["both"] = twice
        whole["group_subtasks"] = {"both": ["part", "bllossom_klue_nli"]}

    folders = [write_ours(tmp_path / name, right) for name, right in (("one", [1, 2]), ("two", list(range(20))))]
    for folder in folders:
        edit(folder / "results.json", grouped)
        (folder / "samples/part.jsonl").write_bytes((folder / "samples/klue_nli.jsonl").read_bytes())
    found = compare([str(folder) for folder in folders]).differences
    alone, together = found["two", "klue_nli acc"], found["two", "both acc"]
    assert together.value == alone.value
    assert together.high - together.low < alone.high - alone.low


def test_results_are_found_and_named_whatever_their_folders_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = write_ours(tmp_path / "평가=결과,하나", [1])
    other = write_ours(tmp_path / "other", [1])
    monkeypatch.chdir(odd)
    assert compare([str(odd), str(other)]).entries == ["평가=결과,하나", "other"]
    assert compare([f"mine={odd}", "../other/results.json"]).entries == ["mine", "other"]
    assert compare([".", str(other)]).entries == ["평가=결과,하나", "other"]


def test_names_with_bars_are_one_cell_of_markdown(tmp_path: Path) -> None:
    base = write_ours(tmp_path / "base", [1])
    assert markdown(compare([f"a|b={base}"])).startswith("|  | a\\|b |\n")


def test_a_wide_comparison_is_several_tables(tmp_path: Path) -> None:
    full = {"encoding": "paper", "depends": {"rows": None, "data": None}}
    console = Console(file=io.StringIO(), width=80)
    print_tables(compare([str(write_ours(tmp_path / "base", [1, 2], **full))]), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("KoAlpaca-Polyglot-12.8b (published)") == 2  # whole, once a table
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_result_without_a_score_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"results": {"a": {"alias": "a"}}}', encoding="utf8")
    with pytest.raises(BllossomError, match=r"results\.json holds no score"):
        compare([str(tmp_path)])


def test_a_result_alone_has_no_table_of_differences(tmp_path: Path) -> None:
    assert "minus" not in markdown(compare([str(write_ours(tmp_path / "base", [1]))]))


def test_lm_eval_s_own_output_is_read(tmp_path: Path) -> None:
    one, two = write_theirs(tmp_path / "one", 1 / 3), write_theirs(tmp_path / "two", 1.0)
    result = read_result(one, "one")
    assert result.tasks["lm-eval:kobest_boolq"].metrics["acc"].stderr == 0.02
    assert (result.tasks["lm-eval:kobest_boolq"].rows, result.encoding) == (3, "lm-eval")
    path = one / "model/results_2026-01-01T00-00-00.1.json"
    before = json.loads(path.read_text(encoding="utf8")) | {"config": {"encoding": "paper"}}
    (tmp_path / "before.json").write_text(json.dumps(before), encoding="utf8")
    assert read_result(tmp_path / "before.json", "before").encoding == "paper"
    found = compare([str(one), str(two / "model")])
    assert found.differences["model", "lm-eval:kobest_boolq acc"].value == pytest.approx(2 / 3)
    with pytest.raises(BllossomError, match="lm-eval:kobest_boolq: shots: 0 in one, 5 in three"):
        compare([str(one), str(write_theirs(tmp_path / "three", 1.0, shots=5))])


def test_lm_eval_s_own_task_is_laid_beside_lm_eval_s_and_not_beside_ours_of_that_name(tmp_path: Path) -> None:
    theirs = str(write_theirs(tmp_path / "theirs", 1.0))
    names = {"stock": "lm-eval:kobest_boolq", "mine": "kobest_boolq"}
    runs = {name: write_ours(tmp_path / name, [1, 2]) for name in names}
    for name, task in names.items():

        def rename(whole: dict[str, Any], task: str = task) -> None:
            tasks = whole["bllossom"]["tasks"]
            tasks[task] = tasks.pop("kobest_copa")

        edit(runs[name] / "results.json", rename)
    found = compare([theirs, str(runs["stock"])], anyway=True)
    assert {entry for entry, name in found.scores if name == "lm-eval:kobest_boolq f1"} == {"theirs", "stock"}
    found = compare([theirs, str(runs["mine"])], anyway=True)
    assert "theirs" not in {entry for entry, name in found.scores if name == "kobest_boolq f1"}


def test_the_published_rows_stand_beside_a_result_like_them(tmp_path: Path) -> None:
    full = {"encoding": "paper", "depends": {"rows": None, "data": None}}
    base = write_ours(tmp_path / "base", [1, 2], **full)
    found = compare([str(base)])
    assert len(found.entries) == 13
    assert found.scores["Bllossom-ko (published)", "kobest_copa f1"].value == pytest.approx(0.69)
    assert found.scores["Llama2 (published)", "klue_nli acc"].value == pytest.approx(0.44)
    assert found.best["kobest_copa f1"] == "polyglot-ko-12.8b (published)"
    assert [len(row.tasks) for row in published()] == [8] * 12


def test_tables_in_every_form(tmp_path: Path) -> None:
    base = write_ours(tmp_path / "[base]", list(range(10)))
    better = write_ours(tmp_path / "better", list(range(30)))
    found = compare([str(base), str(better)])
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    print_tables(found, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[base]" in text
    assert "\x1b[1m75.0 ± 9.8\x1b[0m" in text  # the best is bold
    assert "\x1b[90m" in text  # what is at its floor is grey
    assert "| klue_nli acc | 25.0 ± 9.8 | **75.0 ± 9.8** |" in markdown(found)
    assert "| kobest_copa f1 | *25.0 ± 9.8* | **75.0 ± 9.8** |" in markdown(found)
    assert "**+50.0 [+" in markdown(found)
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert float(rows[-2]["value"]) == pytest.approx(0.75)
    assert float(next(row for row in rows if row["p"])["difference"]) == pytest.approx(0.5)
    assert json.loads(as_json(found))["results"]["better"]["klue_nli acc"]["difference"]["p"] < 0.001


def test_the_command_writes_them_and_names_what_is_wrong(tmp_path: Path) -> None:
    base = write_ours(tmp_path / "base", [1, 2])
    done = CliRunner().invoke(make_app(), ["compare", str(base), f"again={base}", "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"comparison.{kind}" for kind in ("md", "csv", "json")
    }
    taken = CliRunner().invoke(make_app(), ["compare", str(base), "--output", str(base / "results.json")])
    assert "results.json cannot be written (File exists); name another output" in taken.stderr
    assert CliRunner().invoke(make_app(), ["compare", str(tmp_path / "nothing")]).exit_code == 1
    with pytest.raises(ConfigError, match="base: two results of one name; call one of them NAME=PATH"):
        compare([str(base), str(base)])
    with pytest.raises(BllossomError, match=r"no result there; name a folder that eval published"):
        compare([str(tmp_path / "nothing")])
    with pytest.raises(ConfigError, match="~nobody-here/a: whose home that is cannot be told"):
        compare(["~nobody-here/a"])
    strange = ["[]", '{"results": []}', '{"results": {"a": 1}}', '{"results": {}, "bllossom": {}}']
    for text in strange:
        (tmp_path / "other.json").write_text(text, encoding="utf8")
        with pytest.raises(BllossomError, match=r"other\.json is not a result"):
            compare([str(tmp_path / "other.json")])
