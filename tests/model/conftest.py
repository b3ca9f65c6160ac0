"""Small real vocabularies, trained and merged by the stages themselves, and small Llamas that go with them."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.train import TrainVocabConfig, train_vocab

ENGLISH = "The {} baker sells fresh bread near the {} door, and the {} children wait on the market square."
ENGLISH_WORDS = ("red", "blue", "large", "small", "northern", "wooden", "golden", "quiet")
KOREAN = "{} 주인은 광장에서 {} 대통령을 기다리고, {} 아이들은 한국어로 노래한다."
KOREAN_WORDS = (
    "바닷가",
    "빵집",
    "도서관",
    "북쪽",
    "나무",
    "황금",
    "조용한",
    "커다란",
    "서비스",
    "서울",
    "시장",
    "어린",
)


@pytest.fixture(scope="session")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The base's folder and the merged folder, whose rows are padded to a multiple of 64."""
    folder = tmp_path_factory.mktemp("vocabularies")
    for name, sentence, words in (("en", ENGLISH, ENGLISH_WORDS), ("ko", KOREAN, KOREAN_WORDS)):
        lines = [sentence.format(*chosen) for chosen in itertools.permutations(words, 3)]
        (folder / f"{name}.txt").write_text("\n\n".join(lines) + "\n", encoding="utf8")
    train_vocab(TrainVocabConfig(text=[str(folder / "en.txt")], type="bpe", vocab_size=330, output=folder / "base"))
    train_vocab(TrainVocabConfig(text=[str(folder / "ko.txt")], type="bpe", vocab_size=400, output=folder / "ko"))
    merge = MergeVocabConfig(
        base=str(folder / "base"), donor=str(folder / "ko"), pad_to_multiple_of=64, output=folder / "merged"
    )
    merge_vocab(merge)
    return folder / "base", folder / "merged"


@pytest.fixture(scope="session")
def real_vocabularies(tmp_path_factory: pytest.TempPathFactory, shared: Callable[[str], Path]) -> tuple[Path, Path]:
    """Llama 2's folder, and the folder where KoBERT's pieces are merged into it: 39,478 pieces, 39,488 rows."""
    base, donor = shared("tokenizers/llama2"), shared("tokenizers/kobert")
    output = tmp_path_factory.mktemp("real") / "merged"
    merge_vocab(MergeVocabConfig(base=str(base), donor=str(donor), pad_to_multiple_of=64, output=output))
    return base, output


@pytest.fixture
def make_model(tmp_path: Path, vocabularies: tuple[Path, Path]) -> Callable[..., Path]:
    """Save a Llama with the base vocabulary as `transformers` itself would; give its folder."""

    def make(
        *, tied: bool = False, dtype: torch.dtype = torch.float32, shard_size: str = "5GB", rows: int = 330
    ) -> Path:
        torch.manual_seed(7)
        config = LlamaConfig(
            vocab_size=rows,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            tie_word_embeddings=tied,
            bos_token_id=1,
            eos_token_id=2,
        )
        folder = tmp_path / "base-model"
        LlamaForCausalLM(config).to(dtype).save_pretrained(folder, max_shard_size=shard_size)
        for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(vocabularies[0] / name, folder / name)
        return folder

    return make
