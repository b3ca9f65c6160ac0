"""What of a base counts as an input: every file that decides what comes out, and not only the one with the pieces."""

from pathlib import Path

from bllossom.tokenizer.files import tokenizer_files

MODEL_CONFIG = "config.json"


def files_beside(base: Path, *, byte_level: bool) -> dict[str, Path]:
    """The inputs `base/<name>`: the file of the base itself and those beside it that are read with it.

    Added tokens, roles and the chat template stand in several files. Of a byte-level base the model's config.json is
    read as well: it says how many rows there are, and so where new ids begin.
    """
    beside = base.parent / MODEL_CONFIG
    files = [base, *tokenizer_files(base.parent), *([beside] if byte_level and beside.is_file() else [])]
    return {f"base/{file.name}": file for file in files}
