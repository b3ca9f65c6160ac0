"""What a model folder carries beside weights, config and tokenizer, through every stage that makes another of it."""

import shutil
from pathlib import Path

CARRIED_FILES = ("generation_config.json", "LICENSE*", "NOTICE*", "USE_POLICY*", "*.py")
"""*.py is the code that config.json's auto_map names, for architectures that transformers does not know."""


def carried_files(folder: Path) -> list[Path]:
    """Those of the files that are in `folder`."""
    return [path for pattern in CARRIED_FILES for path in sorted(folder.glob(pattern)) if path.is_file()]


def copy_carried(source: Path, folder: Path) -> None:
    """Put what a model carries into `folder`, unchanged."""
    for path in carried_files(source):
        shutil.copyfile(path, folder / path.name)
