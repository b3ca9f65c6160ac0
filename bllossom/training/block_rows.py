"""The mixture's blocks as the rows that training reads."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from bllossom.tokens.blocks import Block, heldout_blocks
from bllossom.tokens.mixture import Mixture
from bllossom.tokens.shards import read_index
from bllossom.training.engines.rows import IGNORED, Row
from bllossom.training.runs.validation import HeldOutRows


class BlockRows:
    """The mixture's blocks as rows, without `skip_blocks` and behind the first `read` that are left.

    With document masks positions restart at each document, and its first token has no label: what stands before it
    belongs to another document.
    """

    def __init__(
        self, mixture: Mixture, document_mask: bool, skip_blocks: Sequence[int] = (), *, read: int = 0
    ) -> None:
        self.mixture = mixture
        self.document_mask = document_mask
        self.skip_blocks = sorted(set(skip_blocks))
        self.read = read
        self.groups = tuple(sorted(mixture.config.weights))

    def row(self, index: int) -> Row:
        """Row `index` of the run."""
        return as_row(self.mixture.block(self._number(index)), self.document_mask)

    def describe(self, index: int) -> str:
        """The block behind row `index`, and where it comes from."""
        number = self._number(index)
        block = self.mixture.block(number)
        source, documents = f"{block.language}/{block.source}", [str(document) for document in block.documents]
        return (
            f"block {number} ({source}, documents {', '.join(documents)}): "
            f"bllossom show document {self.mixture.folder} {source} {' '.join(documents)}"
        )

    def leave_out(self, indices: Sequence[int]) -> str:
        """The override that leaves out these rows' blocks, beside those that are left out already."""
        blocks = sorted({*self.skip_blocks, *(self._number(index) for index in indices)})
        return f"run the same command with the bad ones left out (all: 'skip_blocks=[{','.join(map(str, blocks))}]')"

    def _number(self, index: int) -> int:
        return block_number(self.read + index, self.skip_blocks)


def heldout_rows(
    tokens: Path, languages: Collection[str], block_size: int, most_tokens: int | None, *, apart: bool = False
) -> dict[str, HeldOutRows]:
    """The rows of the held-out text of each of the languages, as far as prepare kept some back.

    A document is scored by itself, whether training masks others or not: by its positions within a row, or with `apart`
    as a row of its own, for models whose attention does not go by them.
    """
    found = {source.language for source in read_index(tokens).sources if source.heldout}
    blocks = {
        language: heldout_blocks(tokens, language, block_size, most_tokens=most_tokens)
        for language in sorted(found & set(languages))
    }
    return {
        language: HeldOutRows(
            [row for block in held for row in _rows_of(as_row(block, document_mask=True), apart)], held.bytes
        )
        for language, held in blocks.items()
    }


def _rows_of(row: Row, apart: bool) -> list[Row]:
    """A row as it is, or each of its documents as one."""
    if not apart:
        return [row]
    begins = np.flatnonzero(row.positions == 0)[1:]
    parts = zip(*(np.split(part, begins) for part in (row.ids, row.labels, row.positions)), strict=True)
    return [Row(ids, labels, positions, row.group) for ids, labels, positions in parts]


def as_row(block: Block, document_mask: bool) -> Row:
    """A block with its labels."""
    if not document_mask:
        return Row(block.ids, block.ids, np.arange(len(block.ids)), block.language)
    labels = np.where(block.positions == 0, IGNORED, block.ids)
    return Row(block.ids, labels, block.positions, block.language)


def block_number(index: int, skipped: Sequence[int]) -> int:
    """The block that row `index` is, where the blocks `skipped` (ascending) are left out."""
    for skip in skipped:
        if skip > index:
            break
        index += 1
    return index
