"""The eval stage as a whole: its scores against an independent computation, its output, its refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sentencepiece import SentencePieceProcessor
from sklearn.metrics import f1_score
from transformers import AutoModelForCausalLM, PreTrainedModel

from bllossom.artifacts import verify
from bllossom.config import load_config
from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.data import TASK_DATA, evaluated_rows
from bllossom.evaluation.harness import EvalConfig, dry_run, evaluate, load_tasks
from bllossom.evaluation.lm import BllossomLM
from bllossom.evaluation.results import table
from bllossom.tokenizer.load import load_tokenizer

WINDOW = 160  # of the model in conftest.py


def config(output: Path, model: Path, data: Path, **settings: Any) -> EvalConfig:
    return EvalConfig(output=output, model=str(model), data=data, **{"tasks": list(TASK_DATA), **settings})


def choices_of(name: str, data: Path) -> list[tuple[list[tuple[str, str]], int]]:
    """(context, continuation) of every choice, and the right one, by row."""
    task = load_tasks(config(Path("unused"), Path("unused"), data, tasks=[name]))["bllossom_" + name]
    task.build_all_requests(rank=0, world_size=1)
    rows: list[tuple[list[tuple[str, str]], int]] = [([], task.doc_to_target(row)) for row in task.eval_docs]
    for instance in task.instances:
        rows[instance.doc_id][0].append(instance.args)
    return rows


def log_likelihood(
    model: PreTrainedModel, pieces: SentencePieceProcessor, context: str, continuation: str, encoding: str
) -> float:
    """Written from the encodings' definitions, with SentencePiece itself and nothing of the package."""
    if encoding == "paper":
        before, after = pieces.encode(context), pieces.encode(continuation)
    else:
        stripped = context.rstrip()
        before = [1, *pieces.encode(stripped)]
        after = [1, *pieces.encode(context + continuation)][len(before) :]
    ids = (before + after)[-(WINDOW + 1) :]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids[:-1]])).logits[0, -len(after) :].double()
    return float(logits.log_softmax(-1).gather(1, torch.tensor(after)[:, None]).sum())


@pytest.mark.real_data
@pytest.mark.parametrize("encoding", ["paper", "lm-eval"])
def test_scores_are_those_of_an_independent_computation(
    shared: Callable[[str], Path], model_folder: Path, benchmarks: Path, tmp_path: Path, encoding: str
) -> None:
    figures = evaluate(config(tmp_path / "out", model_folder, benchmarks, encoding=encoding, limit=6)).figures
    model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    pieces = SentencePieceProcessor(model_file=str(shared("tokenizers/llama2/tokenizer.model")))
    named = []
    for name in TASK_DATA:
        golds, predictions, normed = [], [], []
        for choices, gold in choices_of(name, benchmarks)[:6]:
            scores = [log_likelihood(model, pieces, context, answer, encoding) for context, answer in choices]
            by_length = [s / len(answer[1:]) for s, (_, answer) in zip(scores, choices, strict=True)]
            golds.append(gold)
            predictions.append(max(range(len(scores)), key=scores.__getitem__))
            normed.append(max(range(len(scores)), key=by_length.__getitem__))
        found = figures["tasks"][name]
        average = "binary" if name in ("klue_sts", "kosbi") else "macro"
        expected = {
            "acc": sum(g == p for g, p in zip(golds, predictions, strict=True)) / 6,
            "acc_norm": sum(g == p for g, p in zip(golds, normed, strict=True)) / 6,
            "f1": f1_score(golds, predictions, average=average, zero_division=0),
        }
        assert found["rows"] == 6
        for metric in found.keys() & expected.keys():
            assert found[metric]["value"] == pytest.approx(expected[metric]), (name, metric)
        named.append(expected["acc" if name in ("klue_nli", "klue_sts", "klue_ynat") else "f1"])
    assert set(figures["tasks"]["klue_nli"]) == {"rows", "score", "acc"}
    assert set(figures["tasks"]["kobest_hellaswag"]) == {"rows", "score", "acc", "acc_norm", "f1"}
    assert figures["average"] == pytest.approx(sum(named) / 8)
    assert figures["encoding"] == encoding
    assert figures["truncated"] > 0  # some of BoolQ's rows exceed the window


@pytest.mark.real_data
def test_lm_eval_s_way_gives_the_log_likelihoods_of_its_own_model_class(model_folder: Path, benchmarks: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder).eval(), load_tokenizer(model_folder)
    rows = [row for name in ("kobest_copa", "klue_ynat") for row, _ in choices_of(name, benchmarks)[:3]]
    pairs = [pair for row in rows for pair in row]
    requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, add_bos_token=True).loglikelihood(requests)
    ours = BllossomLM(model, tokenizer, "lm-eval", 8).loglikelihood(requests)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [nats for nats, _ in ours] == pytest.approx([nats for nats, _ in theirs], abs=1e-3)
    apart = BllossomLM(model, tokenizer, "paper", 8).loglikelihood(requests)
    assert [nats for nats, _ in apart] != pytest.approx([nats for nats, _ in ours], abs=1e-3)


@pytest.mark.real_data
def test_literal_special_tokens_in_a_row_stay_text(model_folder: Path) -> None:
    tokenizer = load_tokenizer(model_folder)
    for encoding in ("paper", "lm-eval"):
        lm = BllossomLM(None, tokenizer, encoding, 1)  # type: ignore[arg-type]
        context, answer = lm._encode_pair("<s>문장</s>:", " </s>")
        assert 2 not in context + answer
        assert context.count(1) == (encoding == "lm-eval")


@pytest.mark.real_data
def test_the_output_is_whole_deterministic_and_free_of_paths(
    model_folder: Path, benchmarks: Path, tmp_path: Path
) -> None:
    heldout = tmp_path / "ko.jsonl"
    heldout.write_text(json.dumps({"text": "서울은 한국의 수도이다."}), encoding="utf8")
    settings = {"tasks": ["klue_sts", "kobest_copa"], "heldout": {"ko": heldout}, "num_fewshot": 2}
    first = evaluate(config(tmp_path / "one", model_folder, benchmarks, **settings))
    second = evaluate(config(tmp_path / "two", model_folder, benchmarks, **settings))
    assert first.fingerprint == second.fingerprint
    assert first.figures == second.figures
    assert verify(tmp_path / "one") == []
    text = (tmp_path / "one/results.json").read_text(encoding="utf8")
    assert str(tmp_path.parent) not in text
    assert str(Path(__file__).parents[2]) not in text

    results = json.loads(text)
    scores = results["results"]["bllossom_klue_sts"]
    figures = first.figures["tasks"]["klue_sts"]
    assert scores["acc,none"] == figures["acc"]["value"]
    assert scores["acc_stderr,none"] == figures["acc"]["stderr"]
    assert scores["f1_stderr,none"] == figures["f1"]["stderr"]
    assert results["n-shot"]["bllossom_klue_sts"] == 2
    assert results["n-samples"]["bllossom_klue_sts"] == {"original": 12, "effective": 12}
    assert results["results"]["bllossom_heldout_ko"]["bits_per_byte,none"] == first.figures["bits_per_byte"]["ko"]
    lines = table(first.figures)
    assert [line.split()[0] for line in lines] == ["klue_sts", "kobest_copa", "average", "bits"]
    assert all("floor" in line for line in lines[:3])


@pytest.mark.real_data
def test_other_rows_under_the_same_name_are_scored_anew(model_folder: Path, tmp_path: Path) -> None:
    row = {"premise": "비가 왔다.", "question": "결과", "alternative_1": "우산을 썼다.", "alternative_2": "잤다."}
    path = tmp_path / "data/kobest/copa_test.jsonl"
    path.parent.mkdir(parents=True)
    values = []
    for label in (0, 1):
        path.write_text(json.dumps(row | {"label": label}, ensure_ascii=False), encoding="utf8")
        run = config(tmp_path / f"out{label}", model_folder, tmp_path / "data", tasks=["kobest_copa"])
        values.append(evaluate(run).figures["tasks"]["kobest_copa"]["acc"]["value"])
    assert sorted(values) == [0.0, 1.0]


@pytest.mark.real_data
def test_bits_per_byte_alone_need_no_data(model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "en.jsonl"
    path.write_text('{"text": "Rome."}\n', encoding="utf8")
    run = EvalConfig(output=tmp_path / "out", model=str(model_folder), heldout={"en": path})
    figures = evaluate(run).figures
    assert figures["tasks"] == {}
    assert figures["average"] is None
    assert figures["heldout"]["en"]["bytes"] == 5
    assert table(figures) == [f"bits per byte, en: {figures['bits_per_byte']['en']:.4f}"]


@pytest.mark.real_data
def test_bad_data_is_met_before_the_model(benchmarks: Path, tmp_path: Path) -> None:
    (tmp_path / "kobest").mkdir()
    (tmp_path / "kobest/copa_test.jsonl").write_text('{"premise": "가"}\n', encoding="utf8")
    absent = tmp_path / "no-model"
    with pytest.raises(BllossomError, match="question: Field required"):
        evaluate(config(tmp_path / "out", absent, tmp_path, tasks=["kobest_copa"]))
    with pytest.raises(BllossomError, match="no model can be loaded"):
        evaluate(config(tmp_path / "out", absent, benchmarks, tasks=["kobest_copa"]))
    with pytest.raises(BllossomError, match="12 rows are too few for 12 shots"):
        evaluate(config(tmp_path / "out", absent, benchmarks, tasks=["kobest_copa"], num_fewshot=12))
    assert not (tmp_path / "out").exists()


@pytest.mark.real_data
def test_a_dry_run_counts_rows_and_lists_what_is_missing(benchmarks: Path, tmp_path: Path) -> None:
    heldout = {"ko": tmp_path / "later/ko.jsonl"}
    lines = dry_run(
        config(tmp_path / "out", tmp_path / "later", benchmarks, tasks=["klue_sts"], limit=5, heldout=heldout)
    )
    assert lines[0].startswith("klue_sts: 5 of 12 rows of ")
    assert len(evaluated_rows("klue_sts", benchmarks)) == 12
    assert "not here yet" in lines[-1]
    assert "not here yet" in dry_run(config(tmp_path / "out", tmp_path, tmp_path / "later", tasks=["kosbi"]))[0]


def test_configs_that_ask_for_nothing_or_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "eval.yaml"
    for text, told in [
        ("output: out\nmodel: a/b\n", "nothing to score"),
        ("output: out\nmodel: a/b\ntasks: [kosbi, kosbi]\n", "stands twice"),
        ("output: out\nmodel: a/b\ntasks: [copa]\n", r"eval\.yaml:3: tasks\.0: "),
    ]:
        path.write_text(text, encoding="utf8")
        with pytest.raises(ConfigError, match=told):
            load_config(EvalConfig, path)
