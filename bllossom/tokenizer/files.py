"""The files that make a tokenizer, in the one list that every stage goes by."""

import shutil
from pathlib import Path

TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
"""What is read with a file of pieces, of either family: added tokens, roles, the chat template."""
PIECE_FILES = ("tokenizer.model", "tokenizer.json", "vocab.json")


def tokenizer_files(folder: Path) -> list[Path]:
    """Those of the files that are in `folder`."""
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]


def holds_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer can be loaded from `folder`: it has pieces there, and not only settings or a template."""
    return any((folder / name).is_file() for name in PIECE_FILES)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Put a tokenizer's files into `folder`, unchanged."""
    for file in tokenizer_files(source):
        shutil.copyfile(file, folder / file.name)
