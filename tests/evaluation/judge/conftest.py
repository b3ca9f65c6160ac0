"""Answers of two models of known lengths, and a judge's config."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bllossom.evaluation.judge.judge import JudgeConfig

PROMPTS = 40
WORDS = ["the", "mountain", "river", "answer", "stands", "behind", "every", "old", "house", "near", "a", "market"]


def prose(random_: random.Random, words: int) -> str:
    return " ".join(random_.choice(WORDS) for _ in range(words)) + "."


def write_answers(path: Path, answers: list[str], **more: Any) -> Path:
    with path.open("w", encoding="utf8") as file:
        for number, answer in enumerate(answers):
            messages = [{"role": "user", "content": f"What stands near house number {number} of the old town?"}]
            record = {"id": f"q{number}", "messages": messages, "answer": answer, "category": f"c{number % 2}"} | more
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Answers of 5 to 44 words; "wordy" is the longer one in about two of three."""
    folder, random_ = tmp_path_factory.mktemp("answers"), random.Random(3)
    wordy = [prose(random_, random_.randint(12, 44)) for _ in range(PROMPTS)]
    terse = [prose(random_, random_.randint(5, 33)) for _ in range(PROMPTS)]
    return write_answers(folder / "wordy.jsonl", wordy), write_answers(folder / "terse.jsonl", terse)


@pytest.fixture
def config(
    tmp_path: Path, two_models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., JudgeConfig]:
    """`config(url, **changes)`: two models before the judge at this address."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")

    def make(url: str, endpoint: dict[str, Any] | None = None, **changes: Any) -> JudgeConfig:
        at = {"url": url, "model": "judge", "backoff_seconds": 0.01} | (endpoint or {})
        settings = {"output": tmp_path / "judged", "answers": list(two_models), "draws": 500, "endpoint": at}
        return JudgeConfig.model_validate(settings | changes)

    return make
