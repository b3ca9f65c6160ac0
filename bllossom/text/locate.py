"""Which files a source names: a file, a folder, a glob, or a hub data set, all by one rule.

Read is what is of a known kind by its name or, without an ending, by how it begins. Links are followed, each file once.
Hidden files, the settings of the `datasets` library and results of ours below a searched folder are not read. What is
passed over is said.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.hub import is_hub_id, parse
from bllossom.paths import MAGIC, Search, expand, once, shown, walk
from bllossom.provenance.manifest import read_origin
from bllossom.text.compression import COMPRESSIONS
from bllossom.text.kinds import (
    ARCHIVES,
    ENDINGS,
    KNOWN,
    SETTINGS,
    Kind,
    file_kind,
    is_archive,
    kind_of_file,
    kind_of_name,
)

NAMES_TOLD = 3  # of what is passed over
# As the `datasets` library tells splits by the names of files and folders.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SEPARATORS = r"[-._ 0-9/]"


def locate(source: str, *, kind: Kind | None = None, split: str = "", quiet: bool = False) -> list[Path]:
    """The files a source names, in a fixed order.

    With `kind` all of them are of that kind, whatever their names. `split` is one of a data set, `train` where it is
    not given and there is one; what is passed over is said unless `quiet`.

    Raises:
        BllossomError: nothing is there, nothing of a known kind, or no such split.
    """
    hub = is_hub_id(source)
    root = _download(source) if hub else Path(source) if Path(source).is_dir() else None
    search = walk(root, _is_result) if root else _find(source)
    _refuse_special(search, source)
    if not hub and len(search.found) == 1 and (Path(source).is_file() or not MAGIC.search(source)) and not root:
        [path] = search.found
        if kind is None and not is_archive(path.name):
            file_kind(path)  # it was named itself: no word of passing it over
        if split and splits_of(path) != split:
            raise _no_split(source, split, [splits_of(path)], search.found, kind)
        return search.found
    files = [path for path in search.found if path.name not in SETTINGS]
    read = [path for path in files if kind or is_archive(path.name) or kind_of_file(path)]
    read, other_splits = _of_split(read, source, split, kind, required=hub)
    if not quiet:
        left_out = sorted(set(files) - set(read) - set(other_splits))
        _tell(source, root, search, left_out, [path for path in search.found if path.name in SETTINGS])
        _tell_splits(source, root, read, other_splits)
    if not read:
        what = "no file of a known format in" if search.found or root or hub else "no such file:"
        raise BllossomError(f"{what} {shown(source)}; name a file, a folder, a glob or a hub data set (owner/name)")
    return sorted(read)


def _find(source: str) -> Search:
    """What a path or glob names; a folder is searched below, and one that a glob matches is not."""
    search = expand(source, _is_result)
    if len(search.found) == 1 and search.found[0].is_dir():
        return walk(search.found[0], _is_result)
    folders = [path for path in search.found if path.is_dir()]
    search.special = [path for path in search.found if not path.is_dir() and not path.is_file()]
    search.found = once([path for path in search.found if path.is_file()])
    deeper = [folder for folder in folders if not any(path.is_relative_to(folder) for path in search.found)]
    search.unsearched = deeper
    return search


def _is_result(folder: Path) -> bool:
    """Whether a stage published the folder, or is at work in it: its held-out text and lists of what was dropped are no
    text that somebody put there to be read."""
    return read_origin(folder) is not None


def _refuse_special(search: Search, source: str) -> None:
    """What is named itself and cannot be read twice, as it is to be hashed: `<(zcat …)` of a shell, say."""
    if search.special and not search.found and not MAGIC.search(source) and not Path(source).is_dir():
        raise BllossomError(
            f"{shown(source)} is a pipe, a socket or a device, which cannot be read twice; write it to a file first"
        )


def splits_of(path: Path) -> str:
    """The split that a file belongs to by a name in its path, the last one that tells; empty where none does."""
    for part in reversed(path.parts):
        for split, words in SPLITS.items():
            if any(re.search(rf"(^|{SEPARATORS}){word}({SEPARATORS}|$)", part.lower()) for word in words):
                return split
    return ""


def _of_split(
    files: list[Path], source: str, split: str, kind: Kind | None, *, required: bool
) -> tuple[list[Path], list[Path]]:
    """The files to read, and those of other splits.

    Without `split`, a hub's data set gives its train split where it has several; anything else gives all.
    """
    base = _common(files)
    by_split: dict[str, list[Path]] = {}
    for path in files:
        by_split.setdefault(splits_of(path.relative_to(base)) if base else "", []).append(path)
    if not files or (not split and (not required or len(by_split) < 2)):
        return files, []
    wanted = split or ("train" if "train" in by_split or "" not in by_split else "")
    if wanted not in by_split:
        raise _no_split(source, wanted, by_split, files, kind)
    return by_split[wanted], [path for path in files if path not in set(by_split[wanted])]


def _no_split(
    source: str, wanted: str, there: Iterable[str], files: Iterable[Path], kind: Kind | None
) -> BllossomError:
    named = ", ".join(sorted(filter(None, there)))
    ways = [f"set split to one it has: {named}"] if named else []
    if not (named and is_hub_id(source)):  # where a hub's data set has splits, one of them is read in any case
        ways.append("leave split out")
    if any((kind or kind_of_file(path)) == "text" for path in files):
        ways.append("set it to blank-line, line or file, which say what a document of plain text is")
    none = "" if named else " (names of files and folders tell of none)"
    return BllossomError(f"{shown(source)} has no split {wanted!r}{none}; {', or '.join(ways)}")


def _common(files: Sequence[Path]) -> Path | None:
    """The deepest folder that holds all files."""
    if not files:
        return None
    folder = files[0].parent
    while not all(path.is_relative_to(folder) for path in files):
        folder = folder.parent
    return folder


def _tell(source: str, root: Path | None, search: Search, left_out: list[Path], settings: list[Path]) -> None:
    # What is hidden is mostly no text that anybody put there: .git, .DS_Store, a download's .cache.
    hidden = [file for path in search.hidden for file in (walk(path).found if path.is_dir() else [path])]
    hidden = [path for path in hidden if kind_of_name(path.name) or is_archive(path.name)]
    told = [
        (left_out, "file(s) left out", f"what is text must end in one of {KNOWN}; or give prepare its format"),
        (hidden, "hidden file(s) not read", "rename those that are text"),
        (settings, "file(s) with settings of a data set left out", ""),
        (search.dangling, "link(s) lead nowhere", "mount what they point to, or remove them"),
        (search.closed, "folder(s) may not be read", "give yourself permission, or leave them out"),
        (search.unsearched, "folder(s) not searched", "end the glob in /** to search them"),
        (search.passed, "folder(s) of results not read", "name what is text in them itself"),
        (search.special, "pipe(s), socket(s) or device(s) not read", "write what they give to a file"),
    ]
    for paths, what, advice in told:
        if paths:
            names = _names(paths, root)
            say(f"{shown(source)}: {len(paths):,} {what}: {names}" + (f"; {advice}" if advice else ""))


def _tell_splits(source: str, root: Path | None, read: list[Path], others: list[Path]) -> None:
    if others:
        say(
            f"{shown(source)}: read are {len(read):,} file(s) of one split, {_names(read, root)}; {len(others):,} of "
            f"others left out: {_names(others, root)}; split names another"
        )
        return
    base = _common(read)
    found = {splits_of(path.relative_to(base)) for path in read} if base else set()
    if found & {"validation", "test"} and len(found) > 1:
        kept = [path for path in read if base and splits_of(path.relative_to(base)) in ("validation", "test")]
        say(
            f"{shown(source)}: {len(kept):,} file(s) are by their names for validation or tests, and read too: "
            f"{_names(kept, root)}; split: train leaves them out"
        )


def _names(paths: Iterable[Path], root: Path | None) -> str:
    names = sorted(shown(path.relative_to(root) if root and path.is_relative_to(root) else path) for path in paths)
    return ", ".join(names[:NAMES_TOLD]) + (", …" if len(names) > NAMES_TOLD else "")


def _download(source: str) -> Path:
    """The folder with a hub data set `owner/name`, or with one folder of it, `hf://datasets/owner/name/folder`; at the
    revision behind an @, where there is one. Fetched is what is of a known kind by the ending of its name.

    Raises:
        BllossomError: it cannot be had, or has no such folder.
    """
    from huggingface_hub import snapshot_download

    name, revision, folder_in_it = parse(source)
    within = f"{folder_in_it}/" if folder_in_it else ""
    endings = [f"{suffix}{packed}" for suffix in (*ENDINGS, *ARCHIVES) for packed in ("", *COMPRESSIONS)]
    patterns = [f"{within}*{_in_any_case(ending)}" for ending in endings]
    try:
        folder = snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except Exception as error:  # the hub client raises a dozen kinds for "cannot be had"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BllossomError(f"{source}: not here and not from the hub ({reason}); name a path, or go online") from error
    root = Path(folder) / within
    if not root.is_dir():
        raise BllossomError(
            f"{source}: the data set has no folder {folder_in_it} with files of a known format; name one that it has"
        )
    return root


def _in_any_case(ending: str) -> str:
    """An ending as a glob: the hub takes upper case and lower case for two names."""
    return "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in ending)
