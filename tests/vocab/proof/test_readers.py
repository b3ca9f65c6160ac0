"""A tokenizer that readers load otherwise than it is written is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bllossom.errors import BllossomError
from bllossom.vocab.proof.readers import check_readers


@pytest.fixture
def folder(byte_level_base: Path, tmp_path: Path) -> Path:
    shutil.copytree(byte_level_base, tmp_path / "base")
    return tmp_path / "base"


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | settings), encoding="utf8")


def test_readers_that_agree_pass(folder: Path) -> None:
    assert check_readers(folder, ["the river", "강물"])["texts"] == 2


def test_a_part_that_a_class_replaces_is_named(folder: Path) -> None:
    """GPT-2's class, as transformers has it, brings its own pre-tokenizer."""
    change(folder / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    with pytest.raises(BllossomError, match=r"AutoTokenizer replaces the \w+ of tokenizer.json; nothing is published"):
        check_readers(folder, ["the river"])


def test_other_ids_for_a_text_are_seen(folder: Path) -> None:
    """What transformers does with special tokens in text is no part that is compared: the texts show it."""
    change(folder / "tokenizer_config.json", split_special_tokens=True)
    assert check_readers(folder, ["the river"])["texts"] == 1
    with pytest.raises(BllossomError, match=r"AutoTokenizer and tokenizers give other ids for 'the river<\|end\|>'"):
        check_readers(folder, ["the river<|end|>"])
