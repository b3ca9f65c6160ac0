"""Which documents hold rows of the evaluation data, found by overlapping windows of text (ngrams.py)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bllossom.config import Model
from bllossom.corpus.ngrams import normalised, window_hashes
from bllossom.corpus.sources import locate, read_rows
from bllossom.errors import BllossomError

FILTER_BITS = 27  # a 16 MiB bitmap lets through one window in fifty by chance, with the eight tasks' test rows


class DecontaminationConfig(Model):
    """The evaluation data that training text must not hold."""

    paths: Annotated[list[str], Field(min_length=1, description="test rows: JSONL or Parquet files, folders, globs")]
    window_bytes: Annotated[
        int, Field(ge=16, description="bytes of letters and digits that must agree; shorter texts are not looked for")
    ] = 50
    overlap: Annotated[
        float, Field(gt=0, le=1, description="share of a test text's windows in a document that makes it contaminated")
    ] = 0.5


class Decontaminator:
    """All windows of the test rows, sorted, with the texts that each belongs to."""

    def __init__(self, config: DecontaminationConfig) -> None:
        self._config = config
        self.texts: list[str] = []  # where each is: file, row and field
        self.too_short = 0
        hashes: list[NDArray[np.uint64]] = []
        for path in test_files(config):
            for place, text in _row_texts(path):
                data = normalised(text)
                if len(data) < config.window_bytes:
                    self.too_short += 1
                    continue
                hashes.append(np.unique(window_hashes(data, config.window_bytes)))
                self.texts.append(place)
        if not self.texts:
            raise BllossomError(
                f"decontaminate: no text of {config.window_bytes} bytes or more in {', '.join(config.paths)}; "
                "name the tasks' data files, or lower window_bytes"
            )
        self._sizes = np.array([len(part) for part in hashes])  # windows of each text, those it shares among them
        every, owners = np.concatenate(hashes), np.repeat(np.arange(len(hashes), dtype=np.int32), self._sizes)
        order = np.argsort(every, kind="stable")
        self._windows, starts = np.unique(every[order], return_index=True)
        # The texts that hold window i are owners[starts[i]:starts[i + 1]].
        self._owners, self._starts = owners[order], np.append(starts, len(every))
        self._filter = np.zeros(1 << (FILTER_BITS - 3), np.uint8)
        np.bitwise_or.at(self._filter, self._byte(self._windows), self._bit(self._windows))

    def find(self, data: bytes) -> str:
        """Where the test text stands that a document (UTF-8) holds most of; empty if it holds none."""
        windows = window_hashes(normalised(data.decode()), self._config.window_bytes)
        windows = windows[(self._filter[self._byte(windows)] & self._bit(windows)) != 0]
        if not len(windows):
            return ""
        at = np.minimum(np.searchsorted(self._windows, windows), len(self._windows) - 1)
        at = np.unique(at[self._windows[at] == windows])
        owners, matched = np.unique(self._owners_of(at), return_counts=True)
        shares = matched / self._sizes[owners]
        if not len(shares) or shares.max() < self._config.overlap:
            return ""
        return self.texts[int(owners[int(np.argmax(shares))])]

    def _owners_of(self, windows: NDArray[np.int64]) -> NDArray[np.int32]:
        """The texts that hold each of these windows, one after another."""
        counts = self._starts[windows + 1] - self._starts[windows]
        gaps = self._starts[windows] - (np.cumsum(counts) - counts)
        return self._owners[np.repeat(gaps, counts) + np.arange(counts.sum())]

    def _byte(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return (hashes & np.uint64((1 << FILTER_BITS) - 1)) >> np.uint64(3)

    def _bit(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
        return np.left_shift(np.uint8(1), (hashes & np.uint64(7)).astype(np.uint8))


def test_files(config: DecontaminationConfig) -> list[Path]:
    """The files that hold the test rows.

    Raises:
        BllossomError: one of the paths names nothing.
    """
    return [file for path in config.paths for file in locate(path)]


def _row_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Every text of every row, with its place."""
    for number, row in enumerate(read_rows(path), 1):
        for field, text in _strings(row, ()):
            yield f"{path.name}:{number} {field}".rstrip(), text


def _strings(value: Any, field: Sequence[str]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield ".".join(field), value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, (*field, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, field)
