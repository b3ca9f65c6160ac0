"""A task's rows from the hub, at one commit of their data set.

Where the hub cannot be reached `datasets` takes the newest version in its own cache, whatever revision was asked for.
Here the files of one commit are fetched into the hub's cache, or found there, and read from that folder.
"""

import importlib.util
import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bllossom.console import say

PATIENCE_SECONDS = 0.8  # for the hub to take a connection
CARD = "README.md"  # whose head says which files are which split of what


def load_from_hub(config: Mapping[str, Any], split: str) -> tuple[Iterable[Any], str]:
    """The rows of one split that a definition names, and `owner/name@commit` with name and split, or a file's address.

    Raises:
        Exception: of a dozen kinds: there is no such data set, revision, name or split, or no network.
    """
    from datasets import load_dataset

    path, name = str(config["dataset_path"]), config.get("dataset_name")
    given = {key: value for key, value in (config.get("dataset_kwargs") or {}).items() if key != "trust_remote_code"}
    if _is_a_reader(path):
        files = given.get("data_files")
        return load_dataset(path, name, split=split, **given), str(
            files.get(split) if isinstance(files, dict) else files
        )
    folder = _folder_of(path, name, given.pop("revision", None))
    origin = " ".join(str(part) for part in (f"{path}@{folder.name}", name, split) if part)
    return load_dataset(str(folder), name, split=split, **given), origin


def _is_a_reader(path: str) -> bool:
    """True for `json` and the like: a reader of files at the addresses given, and no data set."""
    return "/" not in path and importlib.util.find_spec(f"datasets.packaged_modules.{path}") is not None


@contextmanager
def without_bars() -> Iterator[None]:
    """Without the bars of `datasets`, which loads and maps rows: there is one progress line, ours."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _folder_of(path: str, name: Any, revision: str | None) -> Path:
    """The folder with a data set's card and the files of one of its configurations; its name is the commit."""
    from huggingface_hub import DatasetCard, snapshot_download

    folder = Path(snapshot_download(path, repo_type="dataset", revision=revision, allow_patterns=[CARD]))
    patterns: list[str] | None = None
    if (folder / CARD).is_file():
        configs = DatasetCard.load(folder / CARD).data.to_dict().get("configs") or []
        mine = [config for config in configs if config.get("config_name", "default") == (name or "default")]
        patterns = (
            [CARD, *(pattern for config in mine for pattern in _patterns(config.get("data_files")))] if mine else None
        )
    return Path(snapshot_download(path, repo_type="dataset", revision=folder.name, allow_patterns=patterns))


def _patterns(data_files: Any) -> list[str]:
    """The paths of a card's `data_files`: one, a list, or a list of {split, path}."""
    if isinstance(data_files, dict):
        data_files = [data_files]
    listed = data_files if isinstance(data_files, list) else [data_files or "*"]
    found: list[str] = []
    for entry in listed:
        paths = entry.get("path") if isinstance(entry, dict) else entry
        found += paths if isinstance(paths, list) else [str(paths)]
    return found


def go_offline_without_a_hub() -> None:
    """Where the hub takes no connection, tell its libraries so: else each data set costs 40 seconds of attempts."""
    import datasets
    import huggingface_hub.constants as hub

    if hub.HF_HUB_OFFLINE or datasets.config.HF_HUB_OFFLINE or _takes_connections(hub.ENDPOINT):
        return
    say(f"{hub.ENDPOINT} cannot be reached: what is not here already is not run")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ[name] = "1"
    # Read at import, which has been.
    hub.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True


def is_offline() -> bool:
    """Whether the hub's libraries have been told that it is out of reach, by the user or above."""
    import huggingface_hub.constants as hub

    return bool(hub.HF_HUB_OFFLINE)


def _takes_connections(url: str) -> bool:
    scheme = urllib.parse.urlsplit(url).scheme
    parts = urllib.parse.urlsplit(urllib.request.getproxies().get(scheme, url))
    answers: list[bool] = []

    def connect() -> None:
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), PATIENCE_SECONDS).close()
            answers.append(True)
        except OSError:
            answers.append(False)

    # Looking up a name knows no time limit of its own.
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(PATIENCE_SECONDS)
    return bool(answers and answers[0])
