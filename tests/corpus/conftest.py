"""A small tokenizer of the kind of Llama 2's (SentencePiece BPE with byte fallback), and text to make tokens of."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from bllossom.corpus.prepare import PrepareConfig

KOREAN = "나무 바다 하늘 사람 도시 마을 학교 아침 저녁 구름 이야기 노래 사랑 시간 여행 친구 음식 편지 달빛 강물"
ENGLISH = "tree sea sky people city village school morning evening cloud story song love time travel friend"
WORDS = {"ko": KOREAN.split(), "en": ENGLISH.split()}


def make_documents(language: str, count: int, seed: int = 0, words: int = 40) -> list[str]:
    """Different documents of up to `words` words."""
    rng = random.Random(f"{language}/{seed}")
    return [
        f"{language} {seed} {number}: " + " ".join(rng.choices(WORDS[language], k=rng.randint(1, words)))
        for number in range(count)
    ]


@pytest.fixture(scope="session")
def write_jsonl() -> Callable[[Path, Iterable[str]], Path]:
    def write(path: Path, texts: Iterable[str]) -> Path:
        path.write_text("".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts), encoding="utf8")
        return path

    return write


@pytest.fixture(scope="session")
def documents() -> Callable[..., list[str]]:
    return make_documents


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer.model of 500 pieces."""
    folder = tmp_path_factory.mktemp("tokenizer")
    text = folder / "text.txt"
    text.write_text("\n".join(make_documents("ko", 300) + make_documents("en", 300)), encoding="utf8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=500,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    text.unlink()
    (folder / "tokenizer.vocab").unlink()
    return folder


@pytest.fixture
def corpus(tmp_path: Path, write_jsonl, documents) -> dict[str, Path]:  # type: ignore[no-untyped-def]
    return {
        "news": write_jsonl(tmp_path / "news.jsonl", documents("ko", 300, 1)),
        "wiki": write_jsonl(tmp_path / "wiki.jsonl", documents("ko", 120, 2)),
        "en": write_jsonl(tmp_path / "english.jsonl", documents("en", 200, 3)),
    }


@pytest.fixture
def make(tmp_path: Path, tokenizer_folder: Path, corpus: dict[str, Path]) -> Callable[..., PrepareConfig]:
    """A config over the corpus, with changes."""

    def build(**changes: Any) -> PrepareConfig:
        sources = {"ko": [str(corpus["news"]), str(corpus["wiki"])], "en": [str(corpus["en"])]}
        settings = {"tokenizer": str(tokenizer_folder), "sources": sources, "output": tmp_path / "tokens"}
        return PrepareConfig.model_validate(settings | {"shard_bytes": 8000, "holdout": 0.05} | changes)

    return build
