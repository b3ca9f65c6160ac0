"""A real Ray cluster of this machine's cores, against the same corpus done without it."""

import gzip
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bllossom
from bllossom.artifacts import Manifest
from bllossom.corpus.prepare import PrepareConfig, prepare
from bllossom.errors import BllossomError, ConfigError

RUN = "import sys; from pathlib import Path; from bllossom.corpus.prepare import *; \
prepare(PrepareConfig.model_validate_json(Path(sys.argv[1]).read_text()))"


pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture
def hard(make: Callable[..., PrepareConfig], tmp_path: Path, write_jsonl: Any, documents: Any) -> dict[str, Any]:
    """A corpus with all that goes from slice to slice: duplicates, near ones, test rows, broken records, files of
    several kinds that slices run across, and a held-out file."""
    korean = documents("ko", 150, 1)
    many = tmp_path / "many"
    many.mkdir()
    write_jsonl(many / "a.jsonl", [*korean[:60], *korean[:5]])
    with gzip.open(many / "b.jsonl.gz", "wt", encoding="utf8") as file:
        for number, text in enumerate(korean[50:]):
            file.write("{broken\n" if number % 30 == 29 else json.dumps({"text": text}, ensure_ascii=False) + "\n")
    (many / "c.txt").write_text("\n\n".join(text + " 끝" for text in korean[:80]), encoding="utf8")
    held = write_jsonl(tmp_path / "held.jsonl", documents("en", 20, 7))
    english = write_jsonl(tmp_path / "english.jsonl", documents("en", 80, 3) + documents("en", 20, 7))
    tests = write_jsonl(tmp_path / "tests.jsonl", [documents("en", 80, 3)[11]])
    return {
        "sources": {"ko": [str(many)], "en": [{"path": str(english), "holdout_path": str(held)}]},
        "near_duplicates": {"threshold": 0.9},
        "decontaminate": {"paths": [str(tests)]},
        "on_error": "skip",
        "shard_bytes": 2000,
    }


def payload(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_cluster_makes_the_same_bytes(make, hard: dict[str, Any], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    local = prepare(make(output=tmp_path / "local", **hard))
    on_ray = prepare(make(output=tmp_path / "ray", executor="ray", **hard))
    figures = local.figures["sources"]
    assert set(figures["ko/many"]["dropped"]) >= {"duplicate", "near duplicate"}
    assert figures["en/english"]["dropped"]["contaminated"]["documents"] >= 1
    assert figures["ko/many"]["broken_records"] == 3
    assert len(list((tmp_path / "local" / "shards").rglob("*.tokens"))) > 8
    assert payload(tmp_path / "ray") == payload(tmp_path / "local")
    assert on_ray.fingerprint == local.fingerprint


@pytest.mark.slow
def test_what_a_killed_cluster_run_began_ends_anywhere(make, hard: dict[str, Any], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    whole = prepare(make(output=tmp_path / "whole", **hard))
    for executor in ("ray", "local"):
        config: PrepareConfig = make(output=tmp_path / executor, executor="ray", **hard)
        (tmp_path / "config.json").write_text(config.model_dump_json())
        command = [sys.executable, "-c", RUN, str(tmp_path / "config.json")]
        environment = os.environ | {"PYTHONPATH": str(Path(bllossom.__file__).parents[1])}
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        while len(list(tmp_path.glob(f"{executor}.partial-*/work/*.mark.json"))) < 3:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() != 0
        done: Manifest = prepare(make(output=tmp_path / executor, executor=executor, **hard))
        assert done.fingerprint == whole.fingerprint
        assert done.figures == whole.figures


def test_an_error_on_another_machine_is_told_as_here(make, hard: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BllossomError, match=r"b\.jsonl\.gz:30: is not JSON .* or set on_error: skip"):
        prepare(make(executor="ray", **(hard | {"on_error": "stop"})))
    with pytest.raises(BllossomError, match=r"more than 2 broken records, now .*b\.jsonl\.gz:90"):
        prepare(make(executor="ray", **(hard | {"max_errors": 2})))


def test_without_ray_it_is_said_what_to_install(make, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'bllossom\[ray\]', or set executor: local"):
        prepare(make(executor="ray"))


def test_a_cluster_that_is_not_there_is_named(make, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    for address in ("auto", "127.0.0.1:9"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(BllossomError, match=f"no Ray cluster at {address} .* set RAY_ADDRESS right, or unset it"):
            prepare(make(executor="ray"))
