"""Small vocabularies trained on the spot, and the two real ones."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from bllossom.vocab.train import TrainVocabConfig, train_vocab

ENGLISH = """the river ran along old stones and a quiet village where people kept their garden walls low because every
winter storm would bring them down again while children counted ships beyond the harbour 1984 2013 (see note) don't"""
KOREAN = """정부는 대통령은 대통령이 밝혔다 서비스를 시스템을 시스템 마을 사람들이 겨울마다 돌담을 다시 쌓았다 아이들은
항구 너머 배를 세었다 강물은 오래된 바위를 따라 흘렀다 기술을 배우는 학생들이 도서관에서 책을 읽는다 2013년 제1조
햄버거를 먹는 공룡"""


def write_text(path: Path, said: str, lines: int) -> Path:
    """A text of random sentences over the words said, with invented ones mixed in so that there is much to learn."""
    generator, words = random.Random(0), said.split()
    characters = sorted({character for word in words for character in word if character.isalpha()})
    invented = ["".join(generator.choices(characters, k=generator.randrange(2, 6))) for _ in range(400)]
    # A few words are said often and most seldom, as in any language.
    weights = [1 / (i + 1) for i in range(len(words) + len(invented))]
    sentences = (
        " ".join(generator.choices([*words, *invented], weights, k=generator.randrange(4, 12))) + "."
        for _ in range(lines)
    )
    path.write_text("\n".join(sentences) + "\n", encoding="utf8")
    return path


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("texts")
    return {
        "en": write_text(folder / "en.txt", ENGLISH, 3000),
        "ko": write_text(folder / "ko.txt", KOREAN, 3000),
    }


@pytest.fixture(scope="session")
def small_base(texts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BPE vocabulary of English, as Llama 2's is made."""
    output = tmp_path_factory.mktemp("base") / "vocab"
    train_vocab(TrainVocabConfig(text=[str(texts["en"])], type="bpe", vocab_size=700, output=output))
    return output


@pytest.fixture(scope="session")
def small_donor(texts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Unigram vocabulary of Korean, as KoBERT's is made: whole words without the parts that BPE would need."""
    output = tmp_path_factory.mktemp("donor") / "vocab"
    train_vocab(TrainVocabConfig(text=[str(texts["ko"])], type="unigram", vocab_size=480, output=output))
    return output


@pytest.fixture
def llama2(shared: Callable[[str], Path]) -> Path:
    return shared("tokenizers/llama2/tokenizer.model")


@pytest.fixture
def kobert(shared: Callable[[str], Path]) -> Path:
    return shared("tokenizers/kobert/spiece.model")
