"""Models and rows to evaluate: small random Llamas with real and synthetic tokenizers, rows real and made up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bllossom.evaluation.tasks.data import evaluated_split
from bllossom.evaluation.tasks.definitions import choose
from bllossom.tokenizer.load import load_tokenizer

ROWS = 12  # of each task in `benchmarks`
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}

# Rows of the columns that the hub's data sets have, written here.
MADE_UP: dict[str, list[dict[str, Any]]] = {
    "klue/nli_validation.jsonl": [
        {"premise": f"비가 {n}시에 왔다.", "hypothesis": "날이 맑았다", "label": n % 3} for n in range(7)
    ],
    "klue/sts_validation.jsonl": [
        {"sentence1": f"{n}번 방은 넓다 .", "sentence2": "방이 크다", "labels": {"binary-label": n % 2, "label": 1.0}}
        for n in range(7)
    ],
    "klue/ynat_validation.jsonl": [{"title": f"반도체 수출 {n}% 늘어", "label": n % 7} for n in range(7)],
    "kosbi/kosbi_v1_test.jsonl": [
        {"context": "이웃이다.", "sentence": f"{n}명이 산다.", "sentence_label": ["unsafe", "safe"][n % 2]}
        for n in range(7)
    ],
    "kobest/boolq_test.jsonl": [
        {"paragraph": f"섬에는 {n}명이 산다.", "question": "사람이 사나?", "label": n % 2} for n in range(7)
    ],
    "kobest/copa_test.jsonl": [
        {
            "premise": f"{n}일째 비가 왔다.",
            "question": ["원인", "결과 "][n % 2],
            "alternative_1": "강이 넘쳤다.",
            "alternative_2": "해가 떴다.",
            "label": n % 2,
        }
        for n in range(7)
    ],
    "kobest/hellaswag_test.jsonl": [
        {
            "context": f"그는 문 {n}개를 열었다.",
            **{f"ending_{e}": f"{e}번 방에 들어갔다." for e in range(1, 5)},
            "label": n % 4,
        }
        for n in range(7)
    ],
    "kobest/sentineg_test.jsonl": [{"sentence": f"{n}번 다시 사고 싶다", "label": n % 2} for n in range(7)],
    "Rowan/hellaswag/validation.jsonl": [
        {
            "ind": n,
            "activity_label": "Cooking",
            "ctx_a": f"A cook breaks {n} eggs.",
            "ctx_b": "she",
            "ctx": f"A cook breaks {n} eggs. she",
            "endings": ["stirs them.", "sings [title] a song.", "leaves.", "sleeps."],
            "label": str(n % 4),
        }
        for n in range(5)
    ],
    "allenai/ai2_arc/ARC-Easy/test.jsonl": [
        {
            "id": str(n),
            "question": f"What is {n} plus {n}?",
            "choices": {"text": [str(2 * n), "red", "none"], "label": ["A", "B", "C"]},
            "answerKey": "A",
        }
        for n in range(5)
    ],
    "winogrande/winogrande_xl/validation.jsonl": [
        {
            "sentence": f"The {n} cups did not fit the box, as the _ was small.",
            "option1": "box",
            "option2": "cup",
            "answer": "1",
        }
        for n in range(5)
    ],
    "cais/mmlu/anatomy/test.jsonl": [
        {"question": f"How many bones has hand {n}?", "choices": ["27", "5", "0", "100"], "answer": n % 4}
        for n in range(9)
    ],
    "cais/mmlu/anatomy/dev.jsonl": [
        {"question": f"Which organ is number {n}?", "choices": ["heart", "leg", "nose", "ear"], "answer": 0}
        for n in range(5)
    ],
}


@pytest.fixture(scope="session")
def small_model() -> LlamaForCausalLM:
    """A model of 60 pieces and a window of 32."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=60, max_position_embeddings=32, **SHAPE)).eval()


def save_model(folder: Path, tokenizer: PreTrainedTokenizerFast, window: int) -> Path:
    """A random model for a tokenizer, in a folder with it."""
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=window, **SHAPE)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama 2's 32,000 pieces and a window of 160, which some BoolQ rows do not fit."""
    return save_model(tmp_path_factory.mktemp("model"), load_tokenizer(shared("tokenizers/llama2")), 160)


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level vocabulary made from `MADE_UP`, as GPT-2's: EOS, no BOS, nothing added; a window of 160."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, special_tokens=["<|end|>"])
    tokenizer.train_from_iterator([json.dumps(rows, ensure_ascii=False) for rows in MADE_UP.values()], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    return save_model(tmp_path_factory.mktemp("byte-level"), fast, 160)


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    """A folder of the rows made up above: the eight tasks, and some of the English ones."""
    folder = tmp_path / "made-up"
    for name, rows in MADE_UP.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf8")
    return folder


@pytest.fixture(scope="session")
def benchmarks(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first rows of the eight tasks, in the shape of the whole."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for definition in choose(["table6"]).tasks.values():
        pattern = definition.metadata["files"].format(split=evaluated_split(definition.config))
        (whole,) = shared("benchmarks").glob(pattern)
        part = folder / whole.relative_to(shared("benchmarks"))
        part.parent.mkdir(exist_ok=True)
        part.write_text("\n".join(whole.read_text(encoding="utf8").split("\n")[:ROWS]) + "\n", encoding="utf8")
    return folder
