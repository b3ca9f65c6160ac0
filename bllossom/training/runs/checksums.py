"""Checksums of a checkpoint's files: a byte that a disk or a copy changed is met before it is trained on.

They are xxh3 (128 bits): as fast as the files are read, and made against accidents, not against anybody's will.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xxhash

from bllossom.ranks.ranks import Ranks

CHECKSUM, CHECKSUMS = "checksum", "checksums"
CHUNK_BYTES = 1 << 22
READ_AT_ONCE = 8  # files


def checksums_of(folder: Path, ranks: Ranks) -> dict[str, str]:
    """By name the checksum of every file below `folder`. The ranks share the work; each gets all of them."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    mine = {name: _checksum(folder / name) for name in names[ranks.rank :: ranks.world]}
    return {name: value for part in ranks.gather(mine) for name, value in part.items()}


def first_difference(folder: Path, checksums: Mapping[str, str]) -> str | None:
    """The first file below `folder` that is not what was written, and what is wrong with it; None if all are."""

    def problem(name: str) -> str | None:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        return None if _checksum(path) == checksums[name] else f"{name} is not what was written"

    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        return next(filter(None, pool.map(problem, sorted(checksums))), None)


def seal(values: Mapping[str, Any]) -> str:
    """Values as JSON, with a checksum of themselves among them."""
    return json.dumps({**values, CHECKSUM: _of_values(values)})


def unseal(text: bytes | bytearray) -> dict[str, Any]:
    """The values that `seal` wrote; those of JSON without any checksums as they are.

    Raises:
        ValueError: it is not JSON, or not what was written.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    told = values.pop(CHECKSUM, None)
    if (told is None and CHECKSUMS in values) or told not in (None, _of_values(values)):
        raise ValueError("it is not what was written")
    return values


def _of_values(values: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(values, sort_keys=True).encode())


def _checksum(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
