"""The rows of a task: from a local folder or the hub, checked before anything is scored.

Below the folder, a task's `files` (definitions.py) come first; else its data set lies there as the hub has it:

    DATA/allenai/ai2_arc/ARC-Easy/test.jsonl, or test-00000-of-00001.parquet    path, name and split of the data set
    DATA/ai2_arc/ARC-Easy/…                                                     without its owner

Rows are read anew each time: no cache stands between a changed file and its score.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bllossom.errors import BllossomError
from bllossom.evaluation.tasks.definitions import Definition
from bllossom.evaluation.tasks.hub_rows import go_offline_without_a_hub, is_offline, load_from_hub
from bllossom.text.rows import read_rows

FILE = r"(-\d+-of-\d+)?\.(jsonl|ndjson|json|parquet)(\.gz|\.zst)?"  # behind a split's name


class NoDataError(BllossomError):
    """A task's rows are neither here nor to be had: it is not run, and that is told beside the scores of the others."""


@dataclass(frozen=True)
class Rows:
    """Rows of one split, and where they came from: local files, or the hub.

    `origin` is the first file, or `owner/name@commit` with what of it.
    """

    rows: list[dict[str, Any]]
    origin: str
    files: list[Path]

    @property
    def hub_source(self) -> str | None:
        """Data set and commit of rows that came from the hub; the fingerprints of files are the manifest's."""
        return None if self.files else self.origin

    def fingerprint(self, count: int) -> str:
        """sha256 of the first `count` rows, 16 hex digits: by it results are known to be about the same data."""
        digest = hashlib.sha256()
        for row in self.rows[:count]:
            digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
        return digest.hexdigest()[:16]


def evaluated_split(config: Mapping[str, Any]) -> str:
    """The split that is evaluated: lm-eval takes test before validation."""
    return str(config.get("test_split") or config.get("validation_split"))


def shots_split(config: Mapping[str, Any]) -> str:
    """The split that solved examples come from."""
    fewshot = config.get("fewshot_config")
    named = fewshot.get("split") if isinstance(fewshot, dict) else None
    splits = (named, *(config.get(f"{use}_split") for use in ("fewshot", "training", "validation")))
    return str(next((split for split in splits if split), evaluated_split(config)))


def find_files(definition: Definition, split: str, folder: Path) -> list[Path]:
    """The files of one split of a task below `folder`; none where it has none there.

    Raises:
        BllossomError: two files would do (two versions of KoSBi).
    """
    pattern = definition.metadata.get("files")
    if pattern is not None:
        found = sorted(folder.glob(str(pattern).format(split=split)))
        if len(found) > 1:
            names = ", ".join(map(str, found))
            raise BllossomError(f"{definition.name}: which of {names} is meant? Leave one of them in {folder}")
        if found:
            return found
    for place in _places(definition, folder):
        if place.is_dir():
            found = sorted(file for file in place.iterdir() if re.fullmatch(re.escape(split) + FILE, file.name))
            if found:
                return found
    return []


def named_files(definition: Definition, split: str) -> list[Path]:
    """Files of this machine that a definition itself names as a split's rows (`dataset_kwargs: {data_files: …}`)."""
    given = (definition.config.get("dataset_kwargs") or {}).get("data_files")
    given = given.get(split) if isinstance(given, dict) else given
    return [Path(name) for name in (given if isinstance(given, list) else [given]) if name and Path(name).is_file()]


def read_split(definition: Definition, split: str, folder: Path | None) -> Rows:
    """The checked rows of one split, with no columns but the `columns` of the definition, if it has them.

    Raises:
        NoDataError: the rows are nowhere; the message says which file or command gives them.
        BllossomError: there are none, or a row lacks a column or holds a wrong value.
    """
    files = [] if folder is None else find_files(definition, split, folder)
    if files:
        rows: Iterable[Any] = (row for file in files for row in read_rows(file))
        origin = str(files[0])
    else:
        rows, origin = _from_hub(definition, split, folder)
        files = named_files(definition, split)
    columns = definition.metadata.get("columns")
    checked: list[dict[str, Any]] = []
    for number, row in enumerate(rows, 1):
        checked.append(_check(definition.name, columns, row, number, origin))
        # What a row lacks would be asked about as "None".
        if lacking := checked[0].keys() - checked[-1].keys():
            raise BllossomError(f"{origin}: row {number}: {min(lacking)}: is not there, and is in row 1; correct it")
    if not checked:
        raise BllossomError(f"{origin} holds no rows; name a folder with the rows of {definition.name}")
    return Rows(checked, origin, files)


def _places(definition: Definition, folder: Path) -> list[Path]:
    path = str(definition.config.get("dataset_path") or "")
    name = definition.config.get("dataset_name")
    bases = [folder / path, folder / path.split("/")[-1]] if path else []
    return [base / below for base in bases for below in ([str(name)] if name else ["", "data"])]


def _from_hub(definition: Definition, split: str, folder: Path | None) -> tuple[Iterable[Any], str]:
    """The rows, and which data set at which commit they are of."""
    if definition.config.get("dataset_path") is None:
        raise BllossomError(f"{definition.name}: its definition names no dataset_path; add one")
    go_offline_without_a_hub()
    try:
        return load_from_hub(definition.config, split)
    except Exception as error:  # datasets raises a dozen kinds, the network's among them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        reason = "the hub is out of reach, and nothing of it is here" if is_offline() else reason
        raise NoDataError(f"{definition.name}: {_remedy(definition, split, folder)} ({reason})") from error


def _remedy(definition: Definition, split: str, folder: Path | None) -> str:
    below = folder or Path("DATA")
    pattern = definition.metadata.get("files")
    path = definition.config.get("dataset_path")
    file = below / str(pattern).format(split=split) if pattern else _places(definition, below)[0] / f"{split}.jsonl"
    fetch = (
        f", or with a network: hf download --repo-type dataset {path}"  # into the hub's cache, read from offline too
    )
    where = "" if folder else ", with data: DATA"
    return f"no data; put {file} there{where}{fetch if '/' in str(path) else ''}"


def _check(task: str, columns: Mapping[str, Any] | None, row: Any, number: int, origin: str) -> dict[str, Any]:
    """The row, or what of it the columns name."""
    where = f"{origin}: row {number}"
    if not isinstance(row, dict):
        raise BllossomError(f"{where}: should be a mapping of columns to values; correct it")
    if columns is None:
        return row
    kept: dict[str, Any] = {}
    for column, wanted in columns.items():
        value: Any = row
        for part in column.split("."):
            if not isinstance(value, dict) or part not in value:
                raise BllossomError(f"{where}: {column}: is not there; {task} reads the columns {', '.join(columns)}")
            value = value[part]
        _check_value(value, wanted, f"{where}: {column}", f"{task} reads the columns {', '.join(columns)}")
        *parents, last = column.split(".")
        inner = kept
        for part in parents:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return kept


def _check_value(value: Any, wanted: str | Sequence[Any], where: str, hint: str) -> None:
    if wanted == "str":
        if not isinstance(value, str):
            raise BllossomError(f"{where}: should be text (it is {value!r}); {hint}")
        return
    plain = value.strip() if isinstance(value, str) else value
    if not any(plain == allowed and type(plain) is type(allowed) for allowed in wanted):
        raise BllossomError(f"{where}: should be one of {', '.join(map(str, wanted))} (it is {value!r}); {hint}")
