"""The stage as a whole on rows made up, and what it says of wrong ones; nothing here needs the real data."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import f1_score
from transformers import AutoModelForCausalLM

import bllossom
from bllossom.artifacts import Manifest, verify
from bllossom.config import load_config
from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation import harness
from bllossom.evaluation.harness import EvalConfig, dry_run, evaluate
from bllossom.evaluation.results import table
from bllossom.evaluation.run import DONE
from bllossom.evaluation.scoring.models import tokenizer_of
from bllossom.files import FileRecord
from bllossom.tokenizer.load import load_tokenizer
from tests.evaluation.answers.conftest import save_adapter
from tests.fixtures.command_runs import partial_of


def config(output: Path, model: Path, data: Path | None, **settings: Any) -> EvalConfig:
    return EvalConfig(output=output, model=str(model), data=data, **{"tasks": ["table6"], **settings})


def samples(output: Path, task: str) -> list[dict[str, Any]]:
    path = output / "samples" / f"{task}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


@pytest.fixture(scope="module")
def published(byte_level: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight tasks, some English ones and held-out text, scored once."""
    from tests.evaluation.conftest import MADE_UP

    folder = tmp_path_factory.mktemp("published")
    for name, rows in MADE_UP.items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "data" / name).write_text(text, encoding="utf8")
    (folder / "ko.jsonl").write_text('{"text": "서울은 한국의 수도이다."}\n{"text": "강"}\n', encoding="utf8")
    heldout = {"ko": folder / "ko.jsonl"}
    evaluate(config(folder / "out", byte_level, folder / "data", tasks=["table6", "english"], limit=6, heldout=heldout))
    return folder / "out"


def test_scores_are_what_the_samples_say(published: Path) -> None:
    figures = json.loads((published / "manifest.json").read_text(encoding="utf8"))["figures"]
    for name, found in figures["tasks"].items():
        rows = samples(published, name)
        assert len(rows) == found["rows"] <= 6
        golds, answers = [row["gold"] for row in rows], [row["prediction"] for row in rows]
        nats = [[float(value) for value, _ in row["filtered_resps"]] for row in rows]
        assert answers == [max(range(len(row)), key=row.__getitem__) for row in nats]
        right = [int(gold == answer) for gold, answer in zip(golds, answers, strict=True)]
        assert [row["acc"] for row in rows] == right
        assert found["acc"]["value"] == pytest.approx(sum(right) / len(right))
        error = math.sqrt(found["acc"]["value"] * (1 - found["acc"]["value"]) / (len(right) - 1))
        assert found["acc"]["stderr"] == pytest.approx(error)
        assert found["acc"]["floor"] == max(golds.count(gold) for gold in golds) / len(golds)
        assert found["acc"]["chance"] == pytest.approx(1 / len(nats[0]))
        if "f1" in found:
            average = "binary" if name in ("klue_sts", "kosbi") else "macro"
            expected = f1_score(golds, answers, average=average, zero_division=0)
            assert found["f1"]["value"] == pytest.approx(expected)
    settled = {"rows", "score", "data", "data_from_hub", "shots", "shots_from"}
    assert set(figures["tasks"]["klue_nli"]) == settled | {"acc"}
    assert {"acc", "acc_norm", "f1"} <= set(figures["tasks"]["kobest_hellaswag"])
    table6 = [found[found["score"]]["value"] for name, found in figures["tasks"].items() if name[0] == "k"]
    assert len(table6) == 8
    assert figures["average"] == pytest.approx(sum(table6) / 8)


def test_english_stands_beside_korean_and_what_has_no_data_is_told(published: Path) -> None:
    figures = json.loads((published / "manifest.json").read_text(encoding="utf8"))["figures"]
    assert {"hellaswag", "arc_easy", "winogrande"} <= figures["tasks"].keys()
    assert figures["not_run"].keys() == {"arc_challenge", "boolq", "mmlu"}
    lines = [line.plain for line in table(figures)]
    assert any(line.startswith("boolq ") and "not run: no data; put" in line for line in lines)
    assert any(line.startswith("average, table6") and "(8 tasks)" in line for line in lines)
    assert any(line.startswith("average, english") and "(3 tasks)" in line for line in lines)
    assert lines[-1].startswith("bits per byte, ko: ")
    assert figures["tasks"]["hellaswag"]["score"] == "acc_norm"


def test_a_score_at_its_floor_is_grey_and_called_so(published: Path) -> None:
    figures = json.loads((published / "manifest.json").read_text(encoding="utf8"))["figures"]
    # A random model on six rows is nowhere above its floor.
    lines = [line for line in table(figures) if "rows)" in line.plain]
    assert all(line.plain.endswith("at its floor") and "bright_black" in str(line.style) for line in lines)
    figures["tasks"] = {
        "kosbi": figures["tasks"]["kosbi"] | {"f1": figures["tasks"]["kosbi"]["f1"] | {"at_floor": False}}
    }
    assert not table(figures)[0].plain.endswith("at its floor")


def test_how_texts_begin_is_recorded(published: Path, byte_level: Path) -> None:
    figures = json.loads((published / "manifest.json").read_text(encoding="utf8"))["figures"]
    assert figures["text_start"] == {"task": "", "empty_context": "<|end|>", "document": "<|end|>"}
    assert load_tokenizer(byte_level).bos_token is None
    assert (figures["encoding"], figures["chat_template"]) == ("lm-eval", False)


def test_results_json_is_lm_eval_s_and_free_of_paths(published: Path) -> None:
    text = (published / "results.json").read_text(encoding="utf8")
    assert str(published.parent.parent) not in text.replace("put DATA", "").split('"not_run"')[0]
    assert str(Path(bllossom.__file__).parent) not in text
    results = json.loads(text)
    figures = results["bllossom"]["tasks"]["klue_sts"]
    scores = results["results"]["bllossom_klue_sts"]
    assert scores["acc,none"] == figures["acc"]["value"]
    assert scores["acc_stderr,none"] == figures["acc"]["stderr"]
    assert scores["f1_stderr,none"] == figures["f1"]["stderr"]
    assert results["n-shot"]["bllossom_klue_sts"] == 0
    assert results["n-samples"]["bllossom_klue_sts"] == {"original": 7, "effective": 6}
    assert results["results"]["bllossom_heldout_ko"]["bits_per_byte,none"] == results["bllossom"]["bits_per_byte"]["ko"]
    assert verify(published) == []
    [first, second] = samples(published, "heldout_ko")
    assert (first["doc_id"], second["bytes"]) == (0, 3)


def test_a_group_has_its_score_from_all_its_rows(byte_level: Path, made_up: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    for subject in ("anatomy", "astronomy"):
        path = made_up / f"cais/mmlu/{subject}"
        path.mkdir(exist_ok=True)
        (path / "test.jsonl").write_bytes((made_up / "cais/mmlu/anatomy/test.jsonl").read_bytes())
    group = "group: two\ntask: [mmlu_anatomy, mmlu_astronomy]\naggregate_metric_list: [{metric: acc}]\n"
    (tmp_path / "tasks/two.yaml").write_text(group, encoding="utf8")
    run = config(tmp_path / "out", byte_level, made_up, tasks=[str(tmp_path / "tasks")], limit=5)
    figures = evaluate(run).figures
    assert list(figures["tasks"]) == ["two"]
    assert figures["tasks"]["two"]["rows"] == 5
    parts = figures["subtasks"]
    assert sorted(part["rows"] for part in parts.values()) == [2, 3]
    weighted = sum(part["rows"] * part["acc"]["value"] for part in parts.values()) / 5
    assert figures["tasks"]["two"]["acc"]["value"] == pytest.approx(weighted)
    results = json.loads((tmp_path / "out/results.json").read_text(encoding="utf8"))
    assert results["groups"]["two"]["acc,none"] == pytest.approx(weighted)


def test_a_limit_below_the_number_of_a_group_s_tasks_is_rows_of_some_of_them(
    byte_level: Path, made_up: Path, tmp_path: Path
) -> None:
    (tmp_path / "tasks").mkdir()
    subjects = ("anatomy", "astronomy", "virology")
    for subject in subjects:
        path = made_up / f"cais/mmlu/{subject}"
        path.mkdir(exist_ok=True)
        (path / "test.jsonl").write_bytes((made_up / "cais/mmlu/anatomy/test.jsonl").read_bytes())
    group = f"group: three\ntask: [{', '.join(f'mmlu_{s}' for s in subjects)}]\n"
    (tmp_path / "tasks/g.yaml").write_text(f"{group}aggregate_metric_list: [{{metric: acc}}]\n", encoding="utf8")
    figures = evaluate(config(tmp_path / "out", byte_level, made_up, tasks=[str(tmp_path / "tasks")], limit=2)).figures
    assert figures["not_run"] == {}
    three = figures["tasks"]["three"]
    assert (three["rows"], three["subtasks"], three["subtasks_left_out"]) == (2, 2, 1)
    assert "(2 rows of 2 of its 3 tasks)" in table(figures)[0].plain
    results = json.loads((tmp_path / "out/results.json").read_text(encoding="utf8"))
    assert results["group_subtasks"]["three"] == ["mmlu_anatomy", "mmlu_astronomy"]


def test_a_task_that_a_limit_leaves_no_row_to_is_told_and_not_tried_again_with_force(
    byte_level: Path, made_up: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks").mkdir()
    shutil.copytree(made_up / "cais/mmlu/anatomy", made_up / "cais/mmlu/astronomy", dirs_exist_ok=True)
    group = "group: two\ntask: [mmlu_anatomy, mmlu_astronomy]\naggregate_metric_list: [{metric: acc}]\n"
    (tmp_path / "tasks/two.yaml").write_text(group, encoding="utf8")
    run = config(tmp_path / "out", byte_level, made_up, tasks=[str(tmp_path / "tasks"), "mmlu_astronomy"], limit=1)
    first = evaluate(run)
    assert (list(first.figures["tasks"]), first.figures["not_run"]) == (["two"], {})
    assert "mmlu_astronomy  not run: limit leaves no row to it; raise limit" in capfd.readouterr().err
    assert evaluate(run, force=True).run == first.run, "nothing was done"


def test_a_kill_costs_no_task_that_was_done(byte_level: Path, made_up: Path, tmp_path: Path) -> None:
    whole = evaluate(config(tmp_path / "whole", byte_level, made_up))
    arguments = ["eval", f"output={tmp_path}/out", f"model={byte_level}", "tasks=[table6]", f"data={made_up}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(bllossom.__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-m", "bllossom.cli", *arguments], env=environment, stderr=subprocess.DEVNULL
    )
    done: list[Path] = []
    while len(done) < 5 and process.poll() is None:
        done = list(tmp_path.glob(f"out.partial-*/{DONE}/*.json"))
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in (partial_of(tmp_path / "out") / DONE).glob("*.json")}
    assert len(kept) >= 5
    partial = partial_of(tmp_path / "out")
    marked = {path.stem: (partial / "samples" / f"{path.stem}.jsonl") for path in kept}
    for path in marked.values():
        os.utime(path, ns=(1, 1))
    manifest = evaluate(config(tmp_path / "out", byte_level, made_up))
    assert all((tmp_path / f"out/samples/{name}.jsonl").stat().st_mtime_ns == 1 for name in marked)
    assert manifest.fingerprint == whole.fingerprint
    assert manifest.figures == whole.figures


def test_what_was_done_on_other_rows_or_with_shots_drawn_otherwise_is_done_again(
    byte_level: Path, made_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version was killed."""
    run = {"tasks": ["mmlu_anatomy", "hellaswag", "arc_easy"], "num_fewshot": 2, "limit": 3}
    whole = evaluate(config(tmp_path / "whole", byte_level, made_up, **run))
    with monkeypatch.context() as patch:
        patch.setattr(harness, "gather", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            evaluate(config(tmp_path / "out", byte_level, made_up, **run))
    done = partial_of(tmp_path / "out") / DONE
    edited = {"mmlu_anatomy": "drawing", "arc_easy": "data"}
    for name, key in edited.items():
        kept = json.loads((done / f"{name}.json").read_text(encoding="utf8"))
        del kept["figures"][key]
        kept["figures"]["acc"] = 9
        (done / f"{name}.json").write_text(json.dumps(kept), encoding="utf8")
    marked = done.parent.parent / "samples/hellaswag.jsonl"
    os.utime(marked, ns=(1, 1))
    manifest = evaluate(config(tmp_path / "out", byte_level, made_up, **run))
    assert (tmp_path / "out/samples/hellaswag.jsonl").stat().st_mtime_ns == 1
    assert (manifest.fingerprint, manifest.figures) == (whole.fingerprint, whole.figures)


def test_a_tuned_model_is_asked_in_its_chat_form(byte_level: Path, made_up: Path, tmp_path: Path) -> None:
    run = {"tasks": ["kobest_sentineg"], "chat_template": True, "limit": 3}
    with pytest.raises(BllossomError, match="has no chat template; leave chat_template out"):
        evaluate(config(tmp_path / "out", byte_level, made_up, **run))
    folder = tmp_path / "tuned"
    folder.mkdir()
    for file in byte_level.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    template = "{% for m in messages %}Q: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    figures = evaluate(config(tmp_path / "out", folder, made_up, **run)).figures
    assert (figures["chat_template"], figures["chat_specials"]) == (True, 0)
    first = samples(tmp_path / "out", "kobest_sentineg")[0]["arguments"]["gen_args_0"]
    assert first == {"arg_0": "Q: 문장: 0번 다시 사고 싶다 긍부정:\nA:", "arg_1": "부정"}


GENERATING = """task: sums
dataset_path: sums
test_split: test
output_type: generate_until
doc_to_text: "{{question}}="
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["번", "."], max_gen_toks: 5}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


def test_answers_are_generated_up_to_their_stops(byte_level: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/sums.yaml").write_text(GENERATING, encoding="utf8")
    (tmp_path / "data/sums").mkdir(parents=True)
    lines = [json.dumps({"question": f"{n} + {n}", "answer": str(2 * n)}) + "\n" for n in range(3)]
    (tmp_path / "data/sums/test.jsonl").write_text("".join(lines), encoding="utf8")
    run = config(tmp_path / "out", byte_level, tmp_path / "data", tasks=[str(tmp_path / "tasks")])
    figures = evaluate(run).figures["tasks"]["sums"]
    assert (figures["exact_match"]["floor"], figures["exact_match"]["at_floor"]) == (None, None)
    tokenizer = load_tokenizer(byte_level)
    model = AutoModelForCausalLM.from_pretrained(byte_level).eval()
    for sample in samples(tmp_path / "out", "sums"):
        [[answer]] = sample["resps"]
        ids = tokenizer(sample["arguments"]["gen_args_0"]["arg_0"], return_tensors="pt", add_special_tokens=False)
        longest = model.generate(**ids, max_new_tokens=5, do_sample=False)[0, ids["input_ids"].shape[1] :]
        text = tokenizer.decode(longest, skip_special_tokens=True)
        assert answer == re.split(r"번|\.", text)[0]


NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ strftime_now('%d %b %Y') }}{% for m in messages %}|{{ m['content'] }}{% endfor %}|"
)


def test_a_template_that_refuses_system_messages_is_asked_without_the_description(
    byte_level: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/sums.yaml").write_text(GENERATING + "description: Add.\n", encoding="utf8")
    (tmp_path / "data/sums").mkdir(parents=True)
    lines = [json.dumps({"question": f"{n} + {n}", "answer": str(2 * n)}) + "\n" for n in range(3)]
    (tmp_path / "data/sums/test.jsonl").write_text("".join(lines), encoding="utf8")
    shutil.copytree(byte_level, tmp_path / "tuned")
    run = {"tasks": [str(tmp_path / "tasks")], "chat_template": True}
    (tmp_path / "tuned/chat_template.jinja").write_text(NO_SYSTEM, encoding="utf8")
    figures = evaluate(config(tmp_path / "out", tmp_path / "tuned", tmp_path / "data", **run)).figures
    first = samples(tmp_path / "out", "sums")[0]["arguments"]["gen_args_0"]["arg_0"]
    assert first == "26 Jul 2024|0 + 0=|"
    assert (figures["chat_without_system"], figures["template_date"]) == (3, "2024-07-26")
    said = capsys.readouterr().err
    assert said.count("3 questions are asked without the task's description") == 1
    assert said.count("asks for today's date; it is always given 2024-07-26") == 1

    (tmp_path / "tuned/chat_template.jinja").write_text("{{ raise_exception('no') }}", encoding="utf8")
    with pytest.raises(BllossomError, match=r"template refuses a question \(no\); leave chat_template out"):
        evaluate(config(tmp_path / "more", tmp_path / "tuned", tmp_path / "data", **run))


FILTERS = """filter_list:
  - {name: strict, filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: take_first}]}
  - {name: loose, filter: [{function: take_first}]}
"""


@pytest.mark.parametrize(
    ("line", "score"),
    [("", "exact_match,strict"), ('metadata: {score: "exact_match,loose"}\n', "exact_match,loose")],
)
def test_a_metric_behind_filters_is_printed(
    byte_level: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], line: str, score: str
) -> None:
    """As gsm8k's: no column is called by the metric alone."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/sums.yaml").write_text(GENERATING + FILTERS + line, encoding="utf8")
    (tmp_path / "data/sums").mkdir(parents=True)
    lines = [json.dumps({"question": f"{n} + {n}", "answer": str(2 * n)}) + "\n" for n in range(3)]
    (tmp_path / "data/sums/test.jsonl").write_text("".join(lines), encoding="utf8")
    run = config(tmp_path / "out", byte_level, tmp_path / "data", tasks=[str(tmp_path / "tasks")])
    assert evaluate(run).figures["tasks"]["sums"]["score"] == score
    assert f"sums  {score}" in capfd.readouterr().err


def test_a_group_whose_metric_its_tasks_have_not_is_its_tasks(byte_level: Path, made_up: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    group = "group: two\ntask: [mmlu_anatomy]\naggregate_metric_list: [{metric: f1}]\n"
    (tmp_path / "tasks/two.yaml").write_text(group, encoding="utf8")
    run = config(tmp_path / "out", byte_level, made_up, tasks=[str(tmp_path / "tasks")], limit=5)
    assert list(evaluate(run).figures["tasks"]) == ["mmlu_anatomy"]


def test_every_folder_of_tasks_counts_as_an_input(byte_level: Path, tmp_path: Path) -> None:
    (tmp_path / "data/sums").mkdir(parents=True)
    (tmp_path / "data/sums/test.jsonl").write_text('{"question": "1", "answer": "1"}\n', encoding="utf8")
    for folder in ("a", "b"):
        (tmp_path / folder / "own").mkdir(parents=True)
        text = GENERATING.replace("task: sums", f"task: sums_{folder}")
        (tmp_path / folder / "own/sums.yaml").write_text(text, encoding="utf8")
    folders = [str(tmp_path / folder / "own") for folder in ("a", "b")]
    run = config(tmp_path / "out", byte_level, tmp_path / "data", tasks=folders)
    evaluate(run)
    for folder in folders:
        path = Path(folder) / "sums.yaml"
        whole = path.read_text(encoding="utf8")
        path.write_text(whole + "# other\n", encoding="utf8")
        with pytest.raises(BllossomError, match="holds another result"):
            evaluate(run)
        path.write_text(whole, encoding="utf8")


def test_a_file_that_a_definition_names_counts_as_an_input(byte_level: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1", "answer": "1"}\n', encoding="utf8")
    (tmp_path / "tasks").mkdir()
    text = GENERATING.replace(
        "dataset_path: sums", f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {rows}}}}}"
    )
    (tmp_path / "tasks/sums.yaml").write_text(text, encoding="utf8")
    run = config(tmp_path / "out", byte_level, None, tasks=[str(tmp_path / "tasks")])
    assert evaluate(run).figures["tasks"]["sums"]["data_from_hub"] is None
    rows.write_text('{"question": "2", "answer": "1"}\n', encoding="utf8")
    with pytest.raises(BllossomError, match=r"holds another result \(input data\.sums:"):
        evaluate(run)


def test_a_folder_of_tasks_may_lie_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = EvalConfig(output=tmp_path / "out", model="a/b", tasks=["~/mine", "kosbi"])
    assert run.tasks == [str(tmp_path / "mine"), "kosbi"]


def test_there_is_no_progress_but_ours(
    byte_level: Path, made_up: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate(config(tmp_path / "out", byte_level, made_up, tasks=["kobest_copa", "hellaswag"]))  # the latter maps rows
    talk = capfd.readouterr()
    assert "%|" not in talk.out + talk.err
    assert "at its floor" in talk.err


def test_other_rows_under_the_same_name_are_scored_anew(byte_level: Path, tmp_path: Path) -> None:
    row = {"premise": "비가 왔다.", "question": "결과", "alternative_1": "우산을 썼다.", "alternative_2": "잤다."}
    path = tmp_path / "data/kobest/copa_test.jsonl"
    path.parent.mkdir(parents=True)
    values, prints = [], set()
    for label in (0, 1):
        path.write_text(json.dumps(row | {"label": label}, ensure_ascii=False), encoding="utf8")
        run = config(tmp_path / f"out{label}", byte_level, tmp_path / "data", tasks=["kobest_copa"])
        found = evaluate(run).figures["tasks"]["kobest_copa"]
        values.append(found["acc"]["value"])
        prints.add(found["data"])
    assert sorted(values) == [0.0, 1.0]
    assert len(prints) == 2


def test_bits_per_byte_alone_need_no_data(byte_level: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text/en.txt").write_text("Rome.\n", encoding="utf8")
    run = EvalConfig(output=tmp_path / "out", model=str(byte_level), heldout={"en": tmp_path / "text"})
    figures = evaluate(run).figures
    assert (figures["tasks"], figures["average"]) == ({}, None)
    assert figures["heldout"]["en"]["bytes"] == 5
    assert [line.plain for line in table(figures)] == [f"bits per byte, en: {figures['bits_per_byte']['en']:.4f}"]


def test_what_is_wrong_with_the_data_is_met_before_the_model(made_up: Path, tmp_path: Path) -> None:
    absent = tmp_path / "no-model"
    with pytest.raises(BllossomError, match="no model loads"):
        evaluate(config(tmp_path / "out", absent, made_up, tasks=["kobest_copa"]))
    with pytest.raises(ConfigError, match="7 rows are too few for 12 shots"):
        evaluate(config(tmp_path / "out", absent, made_up, tasks=["kobest_copa"], num_fewshot=12))
    (made_up / "kobest/copa_test.jsonl").write_text('{"premise": "가"}\n', encoding="utf8")
    with pytest.raises(BllossomError, match="question: is not there"):
        evaluate(config(tmp_path / "out", absent, made_up, tasks=["kobest_copa"]))
    with pytest.raises(BllossomError, match=r"klue_nli: no data; put .*klue/nli_validation\.jsonl there"):
        evaluate(config(tmp_path / "out", absent, tmp_path / "made-up/kobest", tasks=["klue_nli"]))
    assert not (tmp_path / "out").exists()


def test_scores_of_an_adapter_are_others_once_its_base_was_trained_anew(byte_level: Path, tmp_path: Path) -> None:
    base = shutil.copytree(byte_level, tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    load_tokenizer(byte_level).save_pretrained(adapter)
    (tmp_path / "en.txt").write_text("Rome.\n", encoding="utf8")
    run = EvalConfig(output=tmp_path / "out", model=str(adapter), heldout={"en": tmp_path / "en.txt"})
    evaluate(run)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.get_input_embeddings().weight.data += 1
    model.save_pretrained(base)
    with pytest.raises(BllossomError, match=r"another result \(input model\.base: "):
        evaluate(run)


def test_a_tokenizer_that_is_not_the_model_s_is_refused(byte_level: Path, made_up: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in byte_level.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens([f"<{n}>" for n in range(600)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(BllossomError, match="put the tokenizer there that the model was made with"):
        evaluate(config(tmp_path / "out", folder, made_up, tasks=["kobest_copa"]))


def test_another_tokenizer_than_the_model_was_published_with_is_refused(
    byte_level: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has fewer pieces, as a padded model's would; in a folder of somebody else's that is said."""
    folder = tmp_path / "model"
    shutil.copytree(byte_level, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf8"))
    kept = dict(list(tokenizer["model"]["vocab"].items())[:300])
    merges = [merge for merge in tokenizer["model"]["merges"] if "".join(merge) in kept]
    tokenizer["model"] |= {"vocab": kept, "merges": merges}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf8")
    tokenizer_of(str(folder), 500)
    assert "its tokenizer has 300 pieces, its model 500 rows: if it is another model's" in capsys.readouterr().err
    tokenizer_of(str(folder), 310)
    assert capsys.readouterr().err == ""
    record = FileRecord(bytes=1, sha256="0" * 64)
    manifest = Manifest(
        stage="pretrain", id="0", fingerprint="0", config={}, inputs={}, figures={}, files={"tokenizer.json": record},
        versions={}, git_commit=None, run={},
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf8")
    with pytest.raises(BllossomError, match=r"tokenizer\.json is not what .* was published with"):
        tokenizer_of(str(folder), 310)


def test_a_dry_run_counts_rows_and_lists_what_is_missing(made_up: Path, tmp_path: Path) -> None:
    heldout = {"ko": tmp_path / "later/ko.jsonl"}
    run = config(tmp_path / "out", tmp_path / "later", made_up, tasks=["klue_sts", "boolq"], limit=5, heldout=heldout)
    lines = dry_run(run)
    assert lines[0] == f"klue_sts: 5 of 7 rows of {made_up}"
    assert lines[1] == "boolq: rows from the hub"
    assert "not here yet" in lines[-1]
    assert "not here yet" in dry_run(config(tmp_path / "out", tmp_path, tmp_path / "later", tasks=["kosbi"]))[0]


def test_configs_that_ask_for_nothing_or_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "eval.yaml"
    for text, told in [
        ("output: out\nmodel: a/b\n", "nothing to score"),
        ("output: out\nmodel: a/b\ntasks: [kosbi, kosbi]\n", "stands twice"),
        ("output: out\nmodel: a/b\ntasks: [kosbi]\nbatch_token: 1\n", "did you mean batch_tokens"),
        ("output: out\nmodel: a/b\ntasks: [kosbi]\nseed: -1\n", "seed: "),
    ]:
        path.write_text(text, encoding="utf8")
        with pytest.raises(ConfigError, match=told):
            load_config(EvalConfig, path)
    with pytest.raises(ConfigError, match="did you mean kobest_copa"):
        dry_run(config(tmp_path / "out", tmp_path, tmp_path, tasks=["kobest_copas"]))
