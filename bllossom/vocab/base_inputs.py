"""What of a base counts as an input: every file that decides what comes out, and not only the one with the pieces."""

from pathlib import Path

from bllossom.tokenizer.byte_level_file import BYTE_LEVEL_BESIDE
from bllossom.tokenizer.files import BESIDE


def files_beside(base: Path, *, byte_level: bool) -> dict[str, Path | None]:
    """The inputs `base/<name>`: what is read beside the file with the pieces, None where it is not there.

    The base itself is not among them: it may be called as one likes. Other files come and go (the stages behind fetch
    more of a hub's), and change nothing.
    """
    names = BYTE_LEVEL_BESIDE if byte_level else ("tokenizer.json", *BESIDE)
    return {f"base/{name}": path if (path := base.parent / name).is_file() else None for name in names}
