"""Which documents hold rows of the evaluation data, found by overlapping windows of text (ngrams.py)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bllossom.config import InputGlob, Model
from bllossom.console import say
from bllossom.corpus.ngrams import normalised, window_hashes
from bllossom.errors import BllossomError
from bllossom.text.locate import locate
from bllossom.text.rows import read_rows

FILTER_BITS = 27  # a 16 MiB bitmap lets through one window in 220 by chance, with the eight tasks' test rows


class DecontaminationConfig(Model):
    """The evaluation data that training text must not hold."""

    paths: Annotated[
        list[InputGlob], Field(min_length=1, description="test rows: JSONL or Parquet files, folders, globs")
    ]
    window_bytes: Annotated[
        int, Field(ge=16, description="bytes of letters and digits that must agree; shorter rows are not looked for")
    ] = 50
    overlap: Annotated[
        float, Field(gt=0, le=1, description="share of a test text's windows in a document that makes it contaminated")
    ] = 0.5


class Decontaminator:
    """All windows of the test rows, sorted, with the texts that each belongs to."""

    def __init__(self, config: DecontaminationConfig) -> None:
        self._config = config
        self.texts: list[str] = []  # where each is: file, row and field
        hashes: list[NDArray[np.uint64]] = []
        rows, too_short = 0, Counter[str]()
        for path in test_files(config):
            for number, row in enumerate(read_rows(path), 1):
                rows += 1
                texts = row_texts(row, config.window_bytes)
                too_short[path.name] += not texts
                for field, data in texts:
                    hashes.append(np.unique(window_hashes(data, config.window_bytes)))
                    self.texts.append(f"{path.name}:{number} {field}".rstrip())
        if not self.texts:
            raise BllossomError(
                f"decontaminate: no text of {config.window_bytes} bytes or more in {', '.join(config.paths)}; "
                "name the tasks' data files, or lower window_bytes"
            )
        _say_too_short(too_short, rows, config.window_bytes)
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
        at = np.minimum(np.searchsorted(self._windows, windows), len(self._windows) - 1)
        at = at[self._windows[at] == windows]
        if not len(at):
            return ""
        owners, matched = np.unique(self._owners_of(np.unique(at)), return_counts=True)
        shares = matched / self._sizes[owners]
        if shares.max() < self._config.overlap:
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


def row_texts(row: Any, window_bytes: int) -> list[tuple[str, bytes]]:
    """What to look for of a row: field and normalised text of each that is long enough to hold a window.

    Where none is, all of them joined in the order of the fields, as they stand in a table; nothing where that is too
    short as well.
    """
    texts = [(field, normalised(text)) for field, text in _strings(row, ())]
    long = [(field, data) for field, data in texts if len(data) >= window_bytes]
    if long:
        return long
    joined = b"".join(data for _, data in texts)
    fields = dict.fromkeys(field for field, data in texts if data)
    return [(" + ".join(fields), joined)] if len(joined) >= window_bytes else []


def _say_too_short(too_short: Counter[str], rows: int, window_bytes: int) -> None:
    """Say how many rows are not looked for. Files of the same name are counted as one."""
    if too_short.total():
        [(name, count)] = too_short.most_common(1)
        say(
            f"decontaminate: {too_short.total():,} of {rows:,} test rows have less than {window_bytes} bytes of "
            f"letters and digits and are not looked for, the most in {name} ({count:,}); "
            "lower window_bytes to look for more"
        )


def _strings(value: Any, field: Sequence[str]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield ".".join(field), value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, (*field, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, field)
