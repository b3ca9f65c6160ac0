"""The mixture's blocks as the rows that training reads."""

from collections.abc import Sequence

import numpy as np

from bllossom.tokens.blocks import Block
from bllossom.tokens.mixture import Mixture
from bllossom.training.engines.rows import IGNORED, Row


class BlockRows:
    """The mixture's blocks as rows. With document masks positions restart at each document, and its first token has
    no label: what stands before it belongs to another document."""

    def __init__(self, mixture: Mixture, document_mask: bool, skip_blocks: Sequence[int] = ()) -> None:
        self.mixture = mixture
        self.document_mask = document_mask
        self.skip_blocks = sorted(set(skip_blocks))
        self.groups = tuple(sorted(mixture.config.weights))

    def row(self, index: int) -> Row:
        """Row `index` of the run."""
        return as_row(self.mixture.block(block_number(index, self.skip_blocks)), self.document_mask)

    def describe(self, index: int) -> str:
        """The block behind row `index`, and where it comes from."""
        number = block_number(index, self.skip_blocks)
        block = self.mixture.block(number)
        return f"block {number} ({block.language}/{block.source}, documents {', '.join(map(str, block.documents))})"

    def leave_out(self, indices: Sequence[int]) -> str:
        """The override that leaves out these rows' blocks, beside those that are left out already."""
        blocks = sorted({*self.skip_blocks, *(block_number(index, self.skip_blocks) for index in indices)})
        return f"run the same command with the bad ones left out (all: 'skip_blocks=[{','.join(map(str, blocks))}]')"


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
