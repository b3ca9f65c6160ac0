"""A small random Llama with Llama 2's real tokenizer, and a folder of a few real rows of every task."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bllossom.evaluation.data import TASK_DATA
from bllossom.tokenizer.load import load_tokenizer

ROWS = 12  # of each task in `benchmarks`


@pytest.fixture(scope="session")
def small_model() -> LlamaForCausalLM:
    """A model of 60 pieces and a window of 32."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=60, max_position_embeddings=32, initializer_range=0.3, **shape))
    return model.eval()


@pytest.fixture(scope="session")
def model_folder(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with 32,000 pieces and a window of 160, which some BoolQ rows do not fit."""
    folder = tmp_path_factory.mktemp("model")
    load_tokenizer(shared("tokenizers/llama2")).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=32_000, max_position_embeddings=160, initializer_range=0.3, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def benchmarks(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first rows of the eight tasks, in the shape of the whole."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for data in TASK_DATA.values():
        pattern = data.files.format(split=data.split)
        (whole,) = shared("benchmarks").glob(pattern)
        part = folder / whole.relative_to(shared("benchmarks"))
        part.parent.mkdir(exist_ok=True)
        part.write_text("\n".join(whole.read_text(encoding="utf8").split("\n")[:ROWS]) + "\n", encoding="utf8")
    return folder
