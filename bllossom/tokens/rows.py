"""Many rows of tokens at once, out of mapped shards."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch

from bllossom.tokens.shards import Ids, TokenStream

ACROSS = -1  # in place of a shard's number: the row lies in two


class RowReader:
    """Rows of `length` tokens of several streams. torch copies and widens them on all cores; numpy has one for it."""

    def __init__(self, streams: Sequence[TokenStream], length: int) -> None:
        self._streams, self._length = list(streams), length
        shards = [shard for stream in self._streams for shard in stream.shards]
        self._rows = [_overlapping_rows(shard.tokens, length) for shard in shards]
        self._first_shard = np.cumsum([0, *(len(stream.shards) for stream in self._streams)])

    def locate(self, stream: int, starts: Ids) -> tuple[Ids, Ids]:
        """For rows that begin at these tokens of a stream: the shard they are in, or ACROSS, and where there."""
        shards, offsets, left = self._streams[stream].locate(starts)
        return np.where(left < self._length, ACROSS, shards + self._first_shard[stream]), offsets

    def read(self, streams: Ids, starts: Ids, shards: Ids, offsets: Ids) -> Ids:
        """The rows that begin at `starts` of `streams` and were located before, int64 [len(starts), length]."""
        together = torch.empty((len(starts), self._length), dtype=self._rows[0].dtype)
        order, filled = np.empty(len(starts), np.int64), 0
        for shard in set(shards.tolist()):
            mine = np.flatnonzero(shards == shard)
            part = together[filled : filled + len(mine)]
            order[mine] = np.arange(filled, filled + len(mine))
            filled += len(mine)
            if shard == ACROSS:
                for row, place in zip(part, mine.tolist(), strict=True):
                    start = int(starts[place])
                    row[:] = torch.from_numpy(self._streams[streams[place]].read(start, start + self._length))
            else:
                torch.index_select(self._rows[shard], 0, torch.from_numpy(offsets[mine]), out=part)
        return together.index_select(0, torch.from_numpy(order)).to(torch.int64).numpy()


def _overlapping_rows(tokens: np.ndarray, length: int) -> torch.Tensor:
    """All rows of `length` tokens of a shard, [len(tokens) - length + 1, length], without a copy."""
    with warnings.catch_warnings():
        # That the file is mapped for reading alone; nothing here writes.
        warnings.simplefilter("ignore", UserWarning)
        shard = torch.from_numpy(tokens)
    return shard.as_strided((max(0, len(tokens) - length + 1), length), (1, 1))
