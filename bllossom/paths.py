"""What a path or pattern of a config names on the disk.

One rule for files, folders and globs: links are followed, each folder and file behind them is found once; hidden names
are not entered; and what is passed over is told by who asked. Names are bytes to the system: those that are not UTF-8
come with surrogate escapes, and `shown` writes them so that they can be printed and stored.
"""

import fnmatch
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAGIC = re.compile(r"[*?\[]")


@dataclass
class Search:
    """The files and folders that were found, and what was passed over on the way."""

    passes: Callable[[Path], bool] = lambda _: False  # whether a folder that nobody named is left alone
    found: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    dangling: list[Path] = field(default_factory=list)  # links that lead nowhere
    closed: list[Path] = field(default_factory=list)  # folders without permission
    unsearched: list[Path] = field(default_factory=list)  # folders that a glob names, with no found file below
    passed: list[Path] = field(default_factory=list)  # folders that were left alone
    special: list[Path] = field(default_factory=list)  # pipes, sockets, devices

    def names(self, folder: Path) -> list[str]:
        """The names in a folder, sorted; none where it may not be read, which is noted."""
        try:
            return sorted(entry.name for entry in folder.iterdir())
        except NotADirectoryError:
            return []  # a file where a glob means a folder: no names are in it
        except PermissionError:
            self.closed.append(folder)
            return []


def shown(path: Path | str) -> str:
    """A path as text that any terminal and file takes: bytes that are no UTF-8 are written `\\xb0`."""
    return os.fsencode(path).decode("utf8", "backslashreplace")


def walk(folder: Path, passes: Callable[[Path], bool] = lambda _: False) -> Search:
    """All files below a folder, those that links lead to included; sorted. Folders that it `passes` are not entered."""
    search = Search(passes)
    files = []
    for below, names in _tree(folder, search).items():
        for path in (below / name for name in names):
            if path.name.startswith("."):
                search.hidden.append(path)
            elif path.is_file():
                files.append(path)
            elif path.is_symlink() and not path.exists():
                search.dangling.append(path)
            elif not path.is_dir():
                search.special.append(path)
    search.found = once(files)
    return search


def once(files: list[Path]) -> list[Path]:
    """The files sorted, each once: by the path without a link of its own where several lead to one, else the first."""
    real: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: (path.is_symlink(), path)):
        real.setdefault(os.path.realpath(path), path)
    return sorted(real.values())


def expand(pattern: str, passes: Callable[[Path], bool] = lambda _: False) -> Search:
    """What a path or glob names.

    A part is taken by its very name where there is one; as a glob (`*`, `?`, `[…]`, `**` for folders at any depth) only
    where there is not; and else by the one name that differs from it in how characters are composed (NFC, NFD) alone.
    """
    search = Search(passes)
    path = Path(pattern)
    root = Path(path.anchor)
    search.found = list(dict.fromkeys(_matches(root, path.parts[1:] if path.anchor else path.parts, search)))
    # Several ways lead to a place.
    for passed in (search.hidden, search.dangling, search.closed, search.passed):
        passed[:] = dict.fromkeys(passed)
    return search


def there(pattern: str) -> bool:
    """Whether a path or glob names anything."""
    return bool(expand(pattern).found)


def as_composed_here(path: Path) -> Path:
    """The path with its names as the disk composes them (NFC, NFD), where one differs in that alone; else as it is."""
    here = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if os.path.lexists(here / part):
            here /= part
            continue
        twins = [name for name in Search().names(here) if _composed(name) == _composed(part)] if here.is_dir() else []
        here /= twins[0] if len(twins) == 1 else part
    return here


def _matches(base: Path, parts: tuple[str, ...], search: Search) -> Iterator[Path]:
    if not parts:
        if base.exists():
            yield base
        else:
            search.dangling.append(base)
        return
    part, rest = parts[0], parts[1:]
    if (base / part).exists():
        yield from _matches(base / part, rest, search)
    elif (base / part).is_symlink():
        search.dangling.append(base / part)
    elif part == "**":
        for folder in _tree(base, search):
            yield from _matches(folder, rest or ("*",), search)
    elif MAGIC.search(part):
        for name in _visible(base, part, search):
            yield from _matches(base / name, rest, search)
    else:
        twins = [name for name in search.names(base) if _composed(name) == _composed(part)]
        if len(twins) == 1:
            yield from _matches(base / twins[0], rest, search)


def _visible(folder: Path, pattern: str, search: Search) -> list[str]:
    """The names in a folder that match, hidden ones only where the pattern begins with a dot, too."""
    names = [name for name in search.names(folder) if fnmatch.fnmatchcase(_composed(name), _composed(pattern))]
    if not pattern.startswith("."):
        search.hidden += [folder / name for name in names if name.startswith(".")]
        names = [name for name in names if not name.startswith(".")]
    return names


def _tree(base: Path, search: Search) -> dict[Path, list[str]]:
    """A folder and all below it with the names in each. Links are followed last, and each folder is entered once."""
    found: dict[Path, list[str]] = {}
    entered: set[str] = set()
    waiting, links = [base], list[Path]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        if folder != base and search.passes(folder):
            search.passed.append(folder)
            continue
        found[folder] = search.names(folder)
        below = [folder / name for name in found[folder] if not name.startswith(".")]
        links += [path for path in below if path.is_symlink() and path.is_dir()]
        waiting += [path for path in below if not path.is_symlink() and path.is_dir()]
    return found


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


Stamp = tuple[int, int, int]  # what a file's contents cannot change without: inode, size, time of change (ns)


def stamps(files: Iterable[Path]) -> dict[Path, Stamp | None]:
    """The stamp of each file; None of one that is not there."""
    found: dict[Path, Stamp | None] = {}
    for path in files:
        try:
            stat = path.stat()
            found[path] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        except OSError:
            found[path] = None
    return found
