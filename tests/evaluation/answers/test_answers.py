"""Answers are one file a model, in the order of the prompts, and after a kill none is made twice."""

import json
import multiprocessing
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from bllossom.cli import make_app
from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.answers.answers import AnswersConfig, answers, dry_run, seed_of
from bllossom.evaluation.answers.model import AnswerModel, format_choice
from bllossom.evaluation.judge.pairs import read_answers
from tests.evaluation.answers.conftest import TEMPLATE, save_adapter, save_model

QUESTIONS = [
    "Where?",
    "어디에 있나요?",
    "Why is that so, and since when?",
    "2 + 2?",
    "Who </s> is it?",
    "a",
    "b b",
    "c c c",
]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    records = [{"prompt": question, "category": "x"} for question in QUESTIONS]
    path.write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf8")
    return path


@pytest.fixture
def config(tmp_path, prompts, chat_model):
    def make(**changes):
        settings = {"output": tmp_path / "out", "models": [str(chat_model)], "prompts": prompts, "max_tokens": 16}
        return AnswersConfig.model_validate(settings | {"language": "en", "batch_size": 3} | changes)

    return make


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_a_file_a_model_in_the_order_of_the_prompts(config, tmp_path, chat_model, plain_model):
    manifest = answers(config(models=[str(chat_model), str(plain_model)], template="lima"))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jsonl")) == ["bare.jsonl", "chatty.jsonl"]
    records = lines(tmp_path / "out" / "chatty.jsonl")
    assert [record["messages"][0]["content"] for record in records] == QUESTIONS
    keys = ["id", "language", "category", "messages", "answer", "finish", "tokens", "seconds"]
    assert all(list(record) == keys for record in records)
    assert {(record["language"], record["category"]) for record in records} == {("en", "x")}
    assert all(record["tokens"] == 16 for record in records if record["finish"] == "length")
    figures = manifest.figures["chatty"]
    assert figures["answers"] == figures["stopped"] + figures["cut_at_max_tokens"] == len(QUESTIONS)
    assert list(read_answers(tmp_path / "out" / "bare.jsonl")) == [record["id"] for record in records]


def test_the_models_own_chat_form_is_used_and_text_makes_no_control_id(chat_model):
    model = AnswerModel.load(str(chat_model), None, "cpu")
    ids = model.encode([{"role": "user", "content": "Who </s> is it?"}])
    eos = model.tokenizer.eos_token_id
    assert model.tokenizer.decode(ids) == "user: Who </s> is it?</s>assistant: "
    assert ids.count(eos) == 1


def test_answers_are_those_of_transformers(config, tmp_path, chat_model):
    answers(config())
    model = AnswerModel.load(str(chat_model), None, "cpu")
    reference = AutoModelForCausalLM.from_pretrained(chat_model)
    for record in lines(tmp_path / "out" / "chatty.jsonl"):
        ids = model.encode(record["messages"])
        out = reference.generate(
            reference.dummy_inputs["input_ids"].new_tensor([ids]),
            max_new_tokens=16,
            do_sample=False,
            eos_token_id=model.tokenizer.eos_token_id,
            pad_token_id=0,
        )[0, len(ids) :]
        text = model.tokenizer.decode(out, skip_special_tokens=True)
        assert record["answer"] == text.strip()


def test_sampled_answers_do_not_depend_on_the_other_prompts(config, tmp_path, prompts):
    sampled = {"temperature": 1.0, "top_p": 0.9, "seed": 3}
    answers(config(**sampled))
    whole = {record["id"]: record["answer"] for record in lines(tmp_path / "out" / "chatty.jsonl")}
    kept = prompts.read_text(encoding="utf8").splitlines()[:2]
    prompts.write_text("\n".join(kept) + "\n", encoding="utf8")
    answers(config(output=tmp_path / "part", **sampled))
    part = {record["id"]: record["answer"] for record in lines(tmp_path / "part" / "chatty.jsonl")}
    assert len(part) == 2
    assert part.items() <= whole.items()
    answers(config(output=tmp_path / "other", **sampled | {"seed": 4}))
    assert {record["answer"] for record in lines(tmp_path / "other" / "chatty.jsonl")}.isdisjoint(part.values())


def test_seeds_are_those_of_the_prompt():
    assert seed_of(0, "1-a") == seed_of(0, "1-a") < 2**63
    assert len({seed_of(0, "1-a"), seed_of(1, "1-a"), seed_of(0, "1-b")}) == 3


def on_one_thread(settings: AnswersConfig) -> None:
    """In a forked process OpenMP's threads of the parent are not there."""
    torch.set_num_threads(1)
    answers(settings)


def test_after_kill_9_no_answer_is_made_twice(config, tmp_path, prompts):
    prompts.write_text("".join(json.dumps({"prompt": f"Question {number}?"}) + "\n" for number in range(60)))
    settings = config(max_tokens=100, batch_size=4)
    process = multiprocessing.get_context("fork").Process(target=on_one_thread, args=(settings,))
    process.start()
    while not (found := list(tmp_path.glob("out.partial-*/chatty.jsonl"))) or found[0].read_bytes().count(b"\n") < 9:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    [unfinished] = found
    kept = lines(unfinished)
    with unfinished.open("a", encoding="utf8") as file:
        file.write('{"id": "60-cut in the mid')
    answers(settings)
    records = lines(tmp_path / "out" / "chatty.jsonl")
    assert len(records) == len({record["id"] for record in records}) == 60
    assert all(record in records for record in kept)  # seconds included: they are the very lines


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ["{bare}"]}, "the model has no chat template of its own; set template to plain, lima"),
        ({"template": "chatml"}, r"needs the special token <\|im_start\|>"),
        ({"template": "chatmml"}, "no such file or folder: chatmml"),
        ({"models": ["{tmp}"]}, "holds no SentencePiece model"),
    ],
)
def test_models_that_cannot_answer_are_refused(config, tmp_path, plain_model, changes, message):
    (tmp_path / "no model").mkdir()
    changes = {
        key: [name.format(bare=plain_model, tmp=tmp_path / "no model") for name in value] if key == "models" else value
        for key, value in changes.items()
    }
    with pytest.raises(BllossomError, match=message):
        answers(config(**changes))


def test_prompts_that_leave_no_room_are_named(config, prompts):
    prompts.write_text(json.dumps({"prompt": "a" * 200, "id": "long"}) + "\n")
    with pytest.raises(BllossomError, match=r"1 prompts \(long\) leave no room for an answer in its window of 160"):
        answers(config())


def test_two_models_of_one_name_are_refused(config, chat_model):
    with pytest.raises(ValueError, match="two are called chatty"):
        config(models=[str(chat_model), str(chat_model)])


def test_a_dry_run_says_how_many(config):
    assert dry_run(config(temperature=0.5)) == ["8 prompts × 1 models, sampled at 0.5, seed 0, 16 tokens each at most"]


def test_the_command_takes_models_and_prompts_as_it_is_documented(tmp_path, prompts, chat_model, plain_model):
    arguments = ["answers", str(chat_model), str(plain_model), "--prompts", str(prompts), f"output={tmp_path / 'o'}"]
    result = CliRunner().invoke(make_app(), [*arguments, "max_tokens=2", "template=plain"])
    assert result.exit_code == 0, result.output
    assert len(lines(tmp_path / "o" / "bare.jsonl")) == len(QUESTIONS)


def test_an_adapter_answers_on_its_base(config, tmp_path, chat_model):
    adapter = save_adapter(tmp_path / "adapter", chat_model)
    answers(config(models=[str(chat_model), str(adapter)]))
    one, other = (lines(tmp_path / "out" / f"{name}.jsonl") for name in ("chatty", "adapter"))
    assert [record["answer"] for record in one] != [record["answer"] for record in other]


def test_answers_of_an_adapter_are_others_once_its_base_was_trained_anew(config, tmp_path, capsys):
    run = config(models=[str(save_adapter(tmp_path / "adapter", save_model(tmp_path / "base", 0, TEMPLATE)))])
    assert "models.adapter.base" in answers(run).inputs
    manifest = tmp_path / "out" / "manifest.json"
    recorded = json.loads(manifest.read_text(encoding="utf8"))
    save_model(tmp_path / "base", 1, TEMPLATE)
    with pytest.raises(BllossomError, match=r"another result \(input models\.adapter\.base: "):
        answers(run)
    del recorded["inputs"]["models.adapter.base"]  # as it was before this counted
    manifest.write_text(json.dumps(recorded), encoding="utf8")
    answers(run)
    assert "out does not record models.adapter.base" in capsys.readouterr().err


def test_a_chat_form_of_one_s_own_may_lie_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert format_choice("~/own.jinja") == tmp_path / "own.jinja"
    assert (format_choice("lima"), format_choice(None)) == ("lima", None)
    with pytest.raises(ConfigError, match="whose home that is cannot be told"):
        format_choice("~nobody-here/own.jinja")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(chat_model):
    with pytest.raises(ConfigError, match="device: cuda: there is no GPU here; set device to auto"):
        AnswerModel.load(str(chat_model), None, "cuda")
