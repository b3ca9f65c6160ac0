"""Hub ids in a config: `owner/name`, `owner/name@revision`, `hf://datasets/owner/name@revision/folder`.

A revision is a branch, a tag or a commit. What a stage reads is fixed to a commit before it starts (`pin`), and its
manifest says `owner/name@commit`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bllossom.errors import BllossomError

DATASETS = "hf://datasets/"
ID = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w.][\w./-]*))?")
DATA_FILE = re.compile(r"\.(jsonl?|ndjson|csv|tsv|txt|parquet|arrow|zip|tar|tgz|gz|zst|bz2|xz)$", re.IGNORECASE)
COMMIT = re.compile(r"[0-9a-f]{40}")
CACHED = re.compile(r"(?:^|/)(models|datasets)--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})(/.*)?$")


class HubId(NamedTuple):
    """A repository of the hub, and what is meant of it."""

    repository: str
    revision: str | None = None
    folder: str = ""  # of a data set


def is_hub_id(source: str) -> bool:
    """True for `owner/name` and `owner/name@revision` where no such path exists here, and for what begins with
    `hf://datasets/`: something to be fetched from the hub. A name that ends as files of data do is a path, mistyped."""
    if source.startswith(DATASETS):
        return True
    found = ID.fullmatch(source)
    return found is not None and not DATA_FILE.search(found[1]) and not Path(source).exists()


def parse(source: str) -> HubId:
    """The parts of a hub id.

    Raises:
        BllossomError: it begins with hf://datasets/ and names no data set.
    """
    owner, _, rest = source.removeprefix(DATASETS).partition("/")
    name, _, folder = rest.partition("/") if source.startswith(DATASETS) else (rest, "", "")
    found = ID.fullmatch(f"{owner}/{name}")
    if found is None:
        raise BllossomError(f"{source}: names no data set; write {DATASETS}owner/name, and a folder in it behind a /")
    return HubId(found[1], found[2], folder.strip("/"))


def name_and_revision(source: str) -> tuple[str, str | None]:
    """A hub id's name and, where it has one, its revision; a folder as it is."""
    return parse(source)[:2] if is_hub_id(source) else (source, None)


def pretrained(source: str | Path) -> dict[str, str]:
    """The arguments by which `from_pretrained` finds a folder, or a hub id at its revision."""
    name, revision = name_and_revision(str(source))
    return {"pretrained_model_name_or_path": name} | ({"revision": revision} if revision else {})


def pin(source: str) -> str:
    """A model's hub id with the commit that it stands for now; a path as it is.

    Raises:
        BllossomError: the hub id is unknown, gated or cannot be reached.
    """
    if not is_hub_id(source):
        return source
    name, revision, _ = parse(source)
    if revision is not None and COMMIT.fullmatch(revision):
        return source
    return f"{name}@{download(source, ['config.json']).name}"


def download(source: str, patterns: Sequence[str]) -> Path:
    """The folder with a model's files, those that match `patterns` among them; downloaded if they are not here.

    Raises:
        BllossomError: the hub id is unknown, gated or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, revision, _ = parse(source)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except (OSError, HTTPError, HFValidationError) as error:
        if isinstance(error, GatedRepoError):
            why = f"{name} is gated: accept its licence at https://huggingface.co/{name}, then run hf auth login"
        elif isinstance(error, RevisionNotFoundError):
            why = f"the hub has no revision {revision} of {name}; name a branch, a tag or a commit behind the @"
        elif isinstance(error, RepositoryNotFoundError | HFValidationError):
            why = f"the hub has no {name}, or your account may not see it; check the name, or run hf auth login"
        else:
            why = f"{source} cannot be fetched ({type(error).__name__}); check the network and HF_HUB_OFFLINE, or "
            why += "download it elsewhere and name its folder"
        raise BllossomError(f"model: {why}") from error


def reference(path: Path) -> str | None:
    """`owner/name@commit`, and the file behind a /, for what lies in the hub's cache; None for everything else."""
    found = CACHED.search(path.as_posix())
    if found is None:
        return None
    kind, owner, name, commit, below = found.groups()
    return f"{DATASETS if kind == 'datasets' else ''}{owner}/{name}@{commit}{below or ''}"
