"""What a model hands on to the one that a stage makes of it, beside weights and config: one rule for all stages."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from bllossom.tokenizer.chat_template import read_chat_template, write_chat_template
from bllossom.tokenizer.files import copy_tokenizer, holds_tokenizer

GENERATION_CONFIG = "generation_config.json"
CARRIED_FILES = (GENERATION_CONFIG, "LICENSE*", "NOTICE*", "USE_POLICY*", "*.py")
"""*.py is the code that config.json's auto_map names, for architectures that transformers does not know."""


def carried_files(folder: Path) -> list[Path]:
    """Those of the files that are in `folder`."""
    return [path for pattern in CARRIED_FILES for path in sorted(folder.glob(pattern)) if path.is_file()]


def carry(model: Path | None, tokenizers: Sequence[Path], folder: Path) -> None:
    """Put into `folder` what `model` carries, unchanged, the first of the `tokenizers` that there is, and the first of
    their chat templates: an adapter's folder may hold a template alone."""
    for path in carried_files(model) if model else ():
        shutil.copyfile(path, folder / path.name)
    for source in [source for source in tokenizers if holds_tokenizer(source)][:1]:
        copy_tokenizer(source, folder)
    for template in list(filter(None, map(read_chat_template, tokenizers)))[:1]:
        write_chat_template(folder, template)
