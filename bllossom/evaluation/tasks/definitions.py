"""Which tasks a config's names mean: ours (ko/, en/), lm-eval's, and those of folders of one's own.

A task is a YAML in lm-eval's own form. What we read of it besides stands in its `metadata`:

    score     the metric that tables print (else the first of metric_list)
    table6    its column in the paper's Table 6
    files     its rows below the folder that `data` names, with {split} in it; a glob
    columns   what a row must hold: {name: str} or {name: [allowed values]}; dots reach into a column

Our own go by `bllossom_NAME` inside lm-eval, which has a kobest_copa of its own: `lm-eval:kobest_copa` here.
"""

import difflib
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bllossom.errors import ConfigError

PREFIX = "bllossom_"
STOCK = "lm-eval:"
OURS = Path(__file__).parent
# The value of a line `task: NAME`, `group: NAME`, `tag: NAME`, or the list under such a key.
NAMES = re.compile(
    rb"""^["']?(?:task|group|tag)["']?:[ \t]*(?:["']?([\w.:-]+)["']?[ \t]*\r?$|((?:\r?\n[ \t]*-[ \t]*[^\n]+)+))""", re.M
)
LISTED = re.compile(rb"""-[ \t]*["']?([\w.:-]+)["']?[ \t]*\r?$""", re.M)


@dataclass(frozen=True)
class Definition:
    """One task: `name` for people, `key` inside lm-eval, its YAML with what its group sets on top."""

    name: str
    key: str
    config: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        """The lines that are ours."""
        found = self.config.get("metadata")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Group:
    """Tasks under one name. With `aggregates` they have a score of their own, and a limit is for all of them."""

    name: str
    members: list[str]  # leaves, by name
    aggregates: list[dict[str, Any]]


@dataclass
class Chosen:
    """What is to be run. `shown`: the tasks, and the groups with a score of their own, that get a line each."""

    tasks: dict[str, Definition] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)

    def leaves(self, name: str) -> list[str]:
        """The tasks behind one of `shown`."""
        return self.groups[name].members if name in self.groups else [name]


def file_name(task: str) -> str:
    """A task's name in file names."""
    return task.replace(":", "_").replace("/", "_")


def shown_name(key: str, known: Container[str]) -> str:
    """What people call a key inside lm-eval: a name of lm-eval's that ours, among `known`, has too gets its mark."""
    return f"{STOCK}{key}" if PREFIX + key in known else key.removeprefix(PREFIX)


def choose(names: Sequence[str]) -> Chosen:
    """Find the tasks and groups of these names, and of the folders among them.

    Raises:
        ConfigError: a name is unknown, or a definition cannot be read.
    """
    folders = [Path(name) for name in names if Path(name).is_dir()]
    index = _Index(folders)
    chosen = Chosen()
    for name in names:
        wanted = index.of_folder(Path(name)) if Path(name).is_dir() else [index.find(name)]
        for key in wanted:
            _add(chosen, index, key, {}, shown=True)
    return chosen


def with_revisions(chosen: Chosen, revisions: Mapping[str, str]) -> Chosen:
    """The same tasks, with rows of these revisions of their data sets on the hub.

    Raises:
        ConfigError: no task reads a data set that is named.
    """
    used = sorted({str(task.config.get("dataset_path")) for task in chosen.tasks.values()})
    for name in revisions:
        if name not in used:
            raise ConfigError(f"revisions: no task reads {name!r}; the tasks read {', '.join(used)}")
    tasks = {}
    for name, task in chosen.tasks.items():
        config, revision = task.config, revisions.get(str(task.config.get("dataset_path")))
        if revision is not None:
            config = {**config, "dataset_kwargs": {**(config.get("dataset_kwargs") or {}), "revision": revision}}
        tasks[name] = Definition(name, task.key, config)
    return Chosen(tasks, chosen.groups, chosen.shown)


def _add(chosen: Chosen, index: "_Index", key: str, overrides: dict[str, Any], *, shown: bool) -> list[str]:
    """Add a task, a tag's tasks or a group's, and give the names of the tasks."""
    entry = index.entries[key]
    name = index.name(key)
    kind = entry.kind.name
    if kind == "TAG":
        members = [task for member in sorted(entry.tags) for task in _add(chosen, index, member, {}, shown=shown)]
        chosen.groups.setdefault(name, Group(name, members, []))
        return members
    config = index.read(key)
    if kind != "GROUP":
        if name not in chosen.tasks:
            chosen.tasks[name] = Definition(name, key, {**config, **overrides, "task": key})
            _check_lines(chosen.tasks[name], entry.yaml_path)
        if shown and name not in chosen.shown:
            chosen.shown.append(name)
        return [name]
    aggregates = config.get("aggregate_metric_list") or []
    aggregates = aggregates if isinstance(aggregates, list) else [aggregates]
    shown_below = shown and not aggregates
    given = {key: value for key, value in config.items() if key not in index.group_keys} | overrides
    members = []
    for member in config["task"] if isinstance(config.get("task"), list) else []:
        own = dict(member) if isinstance(member, dict) else {"task": member}
        found = own.pop("task", None) or own.pop("group")
        if not isinstance(found, str):
            raise ConfigError(f"{entry.yaml_path}: groups within a group need a file of their own; name the tasks")
        members += _add(chosen, index, index.member(found), {**given, **own}, shown=shown_below)
    chosen.groups[name] = Group(name, list(dict.fromkeys(members)), aggregates)
    if shown and aggregates and name not in chosen.shown:
        chosen.shown.append(name)
    return members


def _check_lines(definition: Definition, path: Path) -> None:
    """The lines that are ours say what they can.

    Raises:
        ConfigError: they do not.
    """
    files, columns = (definition.metadata.get(key) for key in ("files", "columns"))
    if files is not None and ({*re.findall(r"{(.*?)}", str(files))} != {"split"} or Path(str(files)).is_absolute()):
        raise ConfigError(f"{path}: metadata: files: {files!r} should be a path below `data` with {{split}} in it")
    kinds = columns.values() if isinstance(columns, dict) else ["" if columns is not None else "str"]
    if not all(kind == "str" or isinstance(kind, list) for kind in kinds):
        raise ConfigError(f"{path}: metadata: columns: {columns!r} should be {{name: str}} or {{name: [values]}}")


class _Index:
    """lm-eval's entries by name. Its own 14,000 files take 15 s to read: only the folders that are needed are."""

    def __init__(self, folders: Sequence[Path]) -> None:
        from dataclasses import fields

        import lm_eval.tasks
        from lm_eval.config.group import GroupConfig

        self.group_keys = {field.name for field in fields(GroupConfig)}
        self.stock = Path(lm_eval.tasks.__file__).parent
        self.own: dict[Path, list[str]] = {}
        self.entries: dict[str, Any] = {}
        self.loaded: set[str] = set()
        self.stock_names: dict[str, set[str]] | None = None
        self._load(OURS)
        self.own_files: dict[str, Path] = {}
        for folder in folders:
            self._check_own(folder)
            self.own[folder] = self._load(folder)

    def of_folder(self, folder: Path) -> list[str]:
        """The tasks and groups that a folder of one's own defines."""
        if not self.own[folder]:
            raise ConfigError(f"{folder} defines no task; put a NAME.yaml with `task: NAME` there")
        members = {str(member) for key in self.own[folder] for member in self._members(key)}
        return [key for key in self.own[folder] if key not in members and self.entries[key].kind.name != "TAG"]

    def find(self, name: str) -> str:
        """The key of a task, group or tag.

        Raises:
            ConfigError: there is none.
        """
        bare = name.removeprefix(STOCK)
        if name == bare:
            for key in (PREFIX + name, name):
                if key in self.entries:
                    return key
        self._load_stock(bare)
        if bare in self.entries:
            return bare
        known = {*map(self.name, self.entries), *(self.stock_names or ())}
        nearest = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(nearest)}?" if nearest else "`lm_eval ls tasks` lists lm-eval's"
        raise ConfigError(f"tasks: there is no task, group or folder {name!r}; {hint}")

    def member(self, name: str) -> str:
        """The key of what a group names: the very name, before one of ours that is like it."""
        if name not in self.entries:
            self._load_stock(name)
        return name if name in self.entries else self.find(name)

    def name(self, key: str) -> str:
        """What people call a task, a group or a tag."""
        return shown_name(key, self.entries)

    def read(self, key: str) -> dict[str, Any]:
        """A definition with its includes and functions."""
        from lm_eval.tasks._yaml_loader import load_yaml  # the one reader of `!function` and `include`

        path = self.entries[key].yaml_path
        try:
            return load_yaml(path)
        except Exception as error:  # YAML's errors, and whatever a function's module raises on import
            raise ConfigError(f"{path}: cannot be read as a task ({error}); correct it") from error

    def _check_own(self, folder: Path) -> None:
        """Every file of a folder can be read, and no name means two things: lm-eval passes over those that are not so.

        Raises:
            ConfigError: a file that is no YAML, or a name that is used elsewhere.
        """
        from lm_eval.tasks._yaml_loader import load_yaml

        for path in sorted(folder.glob("**/*.yaml")):
            if ".ipynb_checkpoints" in path.parts:
                continue
            try:
                config = load_yaml(path, resolve_func=False)
                name = config.get("group", config.get("task"))
            except Exception as error:  # as in read()
                raise ConfigError(f"{path}: cannot be read as a task ({error}); correct it") from error
            if not isinstance(name, str):  # what others include
                continue
            ours = [self.entries[key].yaml_path for key in (name, PREFIX + name) if key in self.entries]
            if known := self.own_files.get(name) or next(iter(ours), None):
                raise ConfigError(f"{path}: {name} is the name of {known} too; give it another")
            self.own_files[name] = path

    def _members(self, key: str) -> Iterator[Any]:
        entry = self.entries[key]
        if entry.kind.name == "GROUP":
            for member in entry.cfg["task"] if isinstance(entry.cfg.get("task"), list) else []:
                yield member if isinstance(member, str) else member.get("task") or member.get("group")

    def _load(self, *folders: Path) -> list[str]:
        from lm_eval.tasks import TaskManager

        found: Mapping[str, Any] = TaskManager(include_path=list(folders), include_defaults=False).task_index
        for key, entry in found.items():
            known = self.entries.get(key)
            if known is not None and entry.kind.name == known.kind.name == "TAG":
                known.tags.update(entry.tags)
            else:
                self.entries.setdefault(key, entry)
        return list(found)

    def _load_stock(self, name: str) -> None:
        if self.stock_names is None:
            self.stock_names = _names_below(self.stock)
            for own in self.own_files.keys() & self.stock_names.keys():
                raise ConfigError(f"{self.own_files[own]}: {own} is a name of lm-eval's too; give it another")
        missing = self.stock_names.get(name, set()) - self.loaded
        self.loaded |= missing
        if missing:
            self._load(*(self.stock / folder for folder in sorted(missing)))


def _names_below(root: Path) -> dict[str, set[str]]:
    """Every name in the YAML files below `root`, with the folders of `root` that hold it; half a second for 14,000."""
    names: dict[str, set[str]] = {}
    for path in root.glob("*/**/*.yaml"):
        for name in names_in(path.read_bytes()):
            names.setdefault(name, set()).add(path.relative_to(root).parts[0])
    return names


def names_in(text: bytes) -> Iterable[str]:
    """The names of tasks, groups and tags in a definition, and those that it lists."""
    for match in NAMES.finditer(text):
        for name in [match[1]] if match[1] else LISTED.findall(match[2]):
            yield name.decode()
