"""Llama 2's real tokenizer, shared by the tests of this folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from bllossom.tokenizer.load import load_tokenizer


@pytest.fixture(scope="session")
def tokenizer(shared: Callable[[str], Path]) -> PreTrainedTokenizerFast:
    return load_tokenizer(shared("tokenizers/llama2"))
