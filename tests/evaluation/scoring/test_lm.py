"""Both encodings, after the fast path, against a plain scorer that knows nothing of the package."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from bllossom.evaluation.harness import EvalConfig, evaluate
from bllossom.evaluation.scoring.lm import BllossomLM
from bllossom.evaluation.scoring.scorer import Scorer
from bllossom.tokenizer.load import load_tokenizer

WINDOW = 160  # of the models in conftest.py
ROWS = 200


class PlainScorer:
    """Log-likelihoods from the encodings' definitions: one sequence at a time, whole logits, tokenizer.json alone."""

    def __init__(self, folder: Path, encoding: str, begins_with: list[int], alone: int) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.encoding, self.begins_with, self.alone = encoding, begins_with, alone
        self.pieces = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.pieces.encode_special_tokens = True  # a literal </s> is text

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.pieces.encode(text, add_special_tokens=False).ids
        return ids

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if not context:
            return [self.alone], self.encode(continuation)
        if self.encoding == "paper":
            return self.encode(context), self.encode(continuation)
        stripped = context.rstrip()
        before = self.begins_with + self.encode(stripped)
        return before, (self.begins_with + self.encode(context + continuation))[len(before) :]

    def __call__(self, context: str, continuation: str) -> float:
        before, after = self.pair(context, continuation)
        ids = (before + after)[-(WINDOW + 1) :]
        with torch.no_grad():
            logits = self.model(input_ids=torch.tensor([ids[:-1]])).logits[0, -len(after) :].double()
        return float(logits.log_softmax(-1).gather(1, torch.tensor(after)[:, None]).sum())


def check(plain: PlainScorer, model: Path, data: Path, output: Path, rows: int) -> None:
    tasks = ["table6"]
    run = {"encoding": plain.encoding, "limit": rows, "batch_tokens": 512}
    figures = evaluate(EvalConfig(output=output, model=str(model), tasks=tasks, data=data, **run)).figures
    assert figures["truncated"] > 0  # some of BoolQ's rows exceed the window
    assert len(figures["tasks"]) == 8
    for path in sorted((output / "samples").glob("*.jsonl")):
        for sample in map(json.loads, path.read_text(encoding="utf8").splitlines()):
            pairs = [(pair["arg_0"], pair["arg_1"]) for pair in sample["arguments"].values()]
            found = [float(nats) for nats, _ in sample["filtered_resps"]]
            assert found == pytest.approx([plain(*pair) for pair in pairs], rel=1e-5, abs=1e-4), (path.stem, pairs)


@pytest.mark.real_data
@pytest.mark.parametrize("encoding", ["paper", "lm-eval"])
def test_sentencepiece(model_folder: Path, benchmarks: Path, tmp_path: Path, encoding: str) -> None:
    check(PlainScorer(model_folder, encoding, [1], 1), model_folder, benchmarks, tmp_path / "out", 2)


@pytest.mark.real_data
@pytest.mark.parametrize("encoding", ["paper", "lm-eval"])
def test_byte_level(byte_level: Path, benchmarks: Path, tmp_path: Path, encoding: str) -> None:
    check(PlainScorer(byte_level, encoding, [], 0), byte_level, benchmarks, tmp_path / "out", 2)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("encoding", ["paper", "lm-eval"])
@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level"])
def test_two_hundred_rows_of_each_task(
    shared: Callable[[str], Path], model_folder: Path, byte_level: Path, tmp_path: Path, kind: str, encoding: str
) -> None:
    folder, start, alone = (model_folder, [1], 1) if kind == "sentencepiece" else (byte_level, [], 0)
    check(PlainScorer(folder, encoding, start, alone), folder, shared("benchmarks"), tmp_path / "out", ROWS)


def instance(*arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance("loglikelihood", {}, arguments, 0)


def test_an_empty_context_and_literal_special_tokens(byte_level: Path) -> None:
    scorer = Scorer.of(AutoModelForCausalLM.from_pretrained(byte_level).eval(), 64)
    tokenizer = load_tokenizer(byte_level)
    pairs = [("", "가"), ("<|end|>: 가 ", " <|end|>"), ("가 ", "나")]
    for encoding in ("paper", "lm-eval"):
        plain = PlainScorer(byte_level, encoding, [], tokenizer.eos_token_id)
        lm = BllossomLM(scorer, tokenizer, encoding)  # type: ignore[arg-type]
        found = [nats for nats, _ in lm.loglikelihood([instance(*pair) for pair in pairs])]
        assert found == pytest.approx([plain(*pair) for pair in pairs], abs=1e-4)


def test_lm_eval_s_way_gives_the_log_likelihoods_of_its_own_model_class(byte_level: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(byte_level).eval(), load_tokenizer(byte_level)
    requests = [instance(f"{n}번 문을 열었다.", f" {m}번 방") for n in range(3) for m in range(3)]
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8).loglikelihood(requests, disable_tqdm=True)
    ours = BllossomLM(Scorer.of(model, 256), tokenizer, "lm-eval").loglikelihood(requests)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [nats for nats, _ in ours] == pytest.approx([nats for nats, _ in theirs], abs=1e-4)
    apart = BllossomLM(Scorer.of(model, 256), tokenizer, "paper").loglikelihood(requests)
    # This vocabulary keeps the space before a word with the word, where joint encoding does too.
    assert [nats for nats, _ in apart] == pytest.approx([nats for nats, _ in ours], abs=1e-4)
