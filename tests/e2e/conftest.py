"""A whole recipe small enough for a test: the demo's stages on a slice of its text, a model of some 100,000 weights."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCUMENTS = 400
TRAINING = {
    "block_size": 64,
    "global_batch": 512,
    "micro_batch": 8,
    "checkpoint_every": 2,
    "learning_rate": {"peak": 1e-3},
    "mixture": {"weights": {"en": 1}},
}

Bllossom = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start the command line in a process of its own, in the project's folder: offline and on one thread, so that
    its losses do not depend on how many cores are free."""

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bllossom.cli", *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)

    return start


@pytest.fixture(scope="session")
def bllossom(start: Callable[..., subprocess.Popen[str]]) -> Bllossom:
    """Run the command line to its end."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        process = start(*arguments)
        output, talk = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output, talk)

    return run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Write the recipe and its configs, and give its path. Its output is given with `output=`."""
    for language in ("ko", "en"):
        lines = (ROOT / f"data/corpus/{language}.jsonl").read_text(encoding="utf8").splitlines(keepends=True)
        (tmp_path / f"{language}.jsonl").write_text("".join(lines[:DOCUMENTS]), encoding="utf8")
        (tmp_path / f"held-{language}.jsonl").write_text("".join(lines[-10:]), encoding="utf8")
    instructions = (ROOT / "data/instructions/ko_train.jsonl").read_text(encoding="utf8").splitlines(keepends=True)
    (tmp_path / "instructions.jsonl").write_text("".join(instructions[:64]), encoding="utf8")
    text = {language: str(tmp_path / f"{language}.jsonl") for language in ("ko", "en")}
    init = {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "window": 128}
    rate = {"peak": 1e-3}
    steps = [
        ("base-vocab", "train-vocab", {"type": "bpe", "vocab_size": 500, "text": [text["en"]]}),
        ("base-tokens", "prepare", {"tokenizer": "${steps.base-vocab.output}", "sources": {"en": [text["en"]]}}),
        (
            "base",
            "pretrain",
            {**TRAINING, "model": {"init": init}, "tokens": "${steps.base-tokens.output}", "steps": 8},
        ),
        ("donor-vocab", "train-vocab", {"type": "unigram", "vocab_size": 900, "text": [text["ko"]]}),
        (
            "vocab",
            "merge-vocab",
            {
                "base": "${steps.base-vocab.output}",
                "donor": "${steps.donor-vocab.output}",
                "samples": {language: [path] for language, path in text.items()},
            },
        ),
        ("expanded", "expand", {"model": "${steps.base.output}", "tokenizer": "${steps.vocab.output}"}),
        (
            "tokens",
            "prepare",
            {
                "tokenizer": "${steps.vocab.output}",
                "sources": {language: [path] for language, path in text.items()},
                "shard_bytes": 4000,
            },
        ),
        (
            "adapted",
            "pretrain",
            {
                **TRAINING,
                "mixture": {"weights": {"ko": 7, "en": 3}},
                "model": "${steps.expanded.output}",
                "tokens": "${steps.tokens.output}",
                "steps": 20,
            },
        ),
        (
            "tuned",
            "sft",
            {
                "model": "${steps.adapted.output}",
                "data": [str(tmp_path / "instructions.jsonl")],
                "template": "plain",
                "epochs": 1,
                "max_tokens": 128,
                "too_long": "cut",
                "examples_per_step": 8,
                "checkpoint_every": 2,
                "learning_rate": rate,
            },
        ),
        (
            "eval-tuned",
            "eval",
            {"model": "${steps.tuned.output}", "heldout": {"ko": str(tmp_path / "held-ko.jsonl")}},
        ),
    ]
    (tmp_path / "step.yaml").write_text("output: unused\n", encoding="utf8")
    listed = [{"name": name, "stage": stage, "config": "step.yaml", "set": config} for name, stage, config in steps]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"output": "unused", "steps": listed}, sort_keys=False), encoding="utf8")
    return path
