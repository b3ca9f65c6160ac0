"""First values for new rows of an embedding or an output matrix: one small function for each method.

Each gives the new rows in order, in blocks of float32 [n, width]. The size of a block is fixed, because torch's random
numbers depend on how many are drawn at once, and the same seed must give the same bytes.

- random: N(0, initializer_range), as every Llama's matrices start (transformers, LlamaPreTrainedModel._init_weights).
- mean, normal: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models",
  nlp.stanford.edu/~johnhew/vocab-expansion.html: with the old rows' mean no new token can take much probability from
  the old ones, and drawing with their covariance makes the new rows differ.
- subword-mean: the mean of the rows that spelled the piece so far: Gee et al. 2022, "Fast Vocabulary Transfer for
  Language Model Compression" (EMNLP, industry track); EEVE's input side. Matching the norm and the noise are ours.
- subword-weighted: output side, the mean of those rows weighted by how much of the piece each spells (in bytes, which
  within one script is in characters); input side, their plain mean at the mean norm of the old rows of the same script
  (arXiv 2608.03494). One matrix for both follows the input's rule.
- subword-first: the row of the first of them: the output side of EEVE, Kim et al. 2024, "Efficient and Effective
  Vocabulary Expansion Towards Multilingual Large Language Models", arXiv 2402.14714.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from bllossom.model.safetensors import Rows

Method = Literal["random", "mean", "normal", "subword-mean", "subword-first", "subword-weighted"]
Spellings = Sequence[Sequence[int]]

BLOCK_ROWS = 128  # 2.6 MB of a 13B model's rows: as fast as the processor's cache
NORMAL_BLOCK_ROWS = 1024  # a matrix product wants larger ones
NOISE = 0.01
"""Of a row's root mean square: well above bfloat16's rounding (0.2 %), so that no two rows stay equal, and well below
what tells two pieces apart."""


@dataclass(frozen=True)
class OldMatrix:
    """What an initialiser may look at: the trained rows of one matrix."""

    rows: Rows
    initializer_range: float
    byte_lengths: Sequence[int] = ()  # of each old piece
    alike: Sequence[int] = ()  # old rows of the new pieces' script, whose mean norm subword-weighted takes

    @cached_property
    def mean(self) -> Tensor:
        """The mean of the old rows, float32 [width]."""
        total = torch.zeros(self.rows.width, dtype=torch.float64)
        for block in self.rows.blocks(BLOCK_ROWS):
            total += block.sum(0)  # float32 inside a block of this size, float64 over the blocks
        return (total / self.rows.count).float()


def random(old: OldMatrix, spellings: Spellings, generator: torch.Generator) -> Iterator[Tensor]:
    """N(0, initializer_range)."""
    for block in _blocks(spellings):
        yield torch.randn(len(block), old.rows.width, generator=generator) * old.initializer_range


def mean(old: OldMatrix, spellings: Spellings, generator: torch.Generator) -> Iterator[Tensor]:
    """The mean of the old rows, the same for every new one."""
    for block in _blocks(spellings):
        yield old.mean.expand(len(block), -1)


def normal(old: OldMatrix, spellings: Spellings, generator: torch.Generator) -> Iterator[Tensor]:
    """Draws with the mean and the covariance of the old rows.

    A sum of the centred old rows with N(0, 1) weights has exactly their covariance. So neither the [width, width]
    matrix nor its root is needed, and rows that span less than the whole space (rows of zeros) do no harm.
    """
    drawn = torch.zeros(len(spellings), old.rows.width)
    for block in old.rows.blocks(NORMAL_BLOCK_ROWS):
        weights = torch.randn(len(spellings), len(block), generator=generator)
        drawn.addmm_(weights, block - old.mean)
    drawn /= max(old.rows.count - 1, 1) ** 0.5
    yield from (drawn + old.mean).split(BLOCK_ROWS)


def subword_mean(old: OldMatrix, spellings: Spellings, generator: torch.Generator) -> Iterator[Tensor]:
    """The mean of the rows that spell the piece, as long as those rows are on average, with a little noise.

    Without the first, the mean of k rows that point anywhere is √k times too short. Without the second about 3 % of
    the new rows are equal to another one: 햄 and another syllable of the same three bytes.
    """
    # Row i gets the numbers from i on of one long sequence: no two rows get the same, for the price of one row.
    noise = torch.randn(len(spellings) + old.rows.width - 1, generator=generator).unfold(0, old.rows.width, 1)
    for block, block_noise in zip(_blocks(spellings), noise.split(BLOCK_ROWS), strict=True):
        ids, places, offsets = _index(block)
        rows = old.rows.gather(ids)
        means = embedding_bag(places, rows, offsets, mode="mean")
        wanted = embedding_bag(places, rows.norm(dim=1, keepdim=True), offsets, mode="mean")
        length = means.norm(dim=1, keepdim=True)
        scaled = means * torch.where(length > 0, wanted / length.clamp_min(torch.finfo(torch.float32).tiny), 1.0)
        yield scaled.addcmul_(block_noise, wanted, value=NOISE / old.rows.width**0.5)


def byte_weighted_mean(old: OldMatrix, spellings: Spellings, generator: torch.Generator) -> Iterator[Tensor]:
    """The mean of the rows that spell the piece, each weighted by the bytes it spells."""
    for block in _blocks(spellings):
        ids, places, offsets = _index(block)
        weights = torch.tensor([float(max(old.byte_lengths[piece], 1)) for spelling in block for piece in spelling])
        summed = embedding_bag(places, old.rows.gather(ids), offsets, mode="sum", per_sample_weights=weights)
        totals = torch.stack([part.sum() for part in weights.split([len(spelling) for spelling in block])])
        yield summed / totals[:, None]


def mean_at_script_norm(old: OldMatrix, spellings: Spellings, generator: torch.Generator) -> Iterator[Tensor]:
    """The plain mean of the rows that spell the piece, as long as the old rows of its script are on average."""
    norm = old.rows.gather(sorted(old.alike)).norm(dim=1).mean()
    for block in _blocks(spellings):
        ids, places, offsets = _index(block)
        means = embedding_bag(places, old.rows.gather(ids), offsets, mode="mean")
        yield means * (norm / means.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny))


def subword_first(old: OldMatrix, spellings: Spellings, generator: torch.Generator) -> Iterator[Tensor]:
    """The row of the first id that spells the piece."""
    for block in _blocks(spellings):
        yield old.rows.gather([spelling[0] for spelling in block])


INITIALIZERS: Mapping[str, Callable[[OldMatrix, Spellings, torch.Generator], Iterator[Tensor]]] = {
    "random": random,
    "mean": mean,
    "normal": normal,
    "subword-mean": subword_mean,
    "subword-first": subword_first,
}


def initialize(method: Method, old: OldMatrix, spellings: Spellings, *, seed: int, side: str) -> Iterator[Tensor]:
    """The rows of the new pieces by `method`; `side` keeps the input's and the output's random numbers apart."""
    if method == "subword-weighted":
        weighted = byte_weighted_mean if side == "output" else mean_at_script_norm
        return weighted(old, spellings, torch.Generator())
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(hashlib.sha256(f"{side} {seed}".encode()).digest()[:7]))
    return INITIALIZERS[method](old, spellings, generator)


def commonest_first(spellings: Spellings) -> tuple[int, float]:
    """The id that spells most pieces' beginning, and its share of the pieces: what subword-first copies most often."""
    ((first, count),) = Counter(spelling[0] for spelling in spellings).most_common(1)
    return first, count / len(spellings)


def in_another_order(spellings: Spellings) -> int:
    """How many pieces are spelled by the same ids as one before them, in the same shares, so that a mean without noise
    is the same: what tells them apart is training."""
    return len(spellings) - len({_shares(spelling) for spelling in spellings})


def _shares(spelling: Sequence[int]) -> frozenset[tuple[int, int]]:
    counts = Counter(spelling)
    divisor = math.gcd(*counts.values())
    return frozenset((piece, count // divisor) for piece, count in counts.items())


def _blocks(spellings: Spellings) -> Iterator[Spellings]:
    for start in range(0, len(spellings), BLOCK_ROWS):
        yield spellings[start : start + BLOCK_ROWS]


def _index(spellings: Spellings) -> tuple[list[int], Tensor, Tensor]:
    """The distinct ids, sorted; where each spelled id stands among them; and where each spelling begins."""
    ids = sorted({piece for spelling in spellings for piece in spelling})
    place = {piece: index for index, piece in enumerate(ids)}
    places = torch.tensor([place[piece] for spelling in spellings for piece in spelling])
    lengths = torch.tensor([0, *(len(spelling) for spelling in spellings[:-1])])
    return ids, places, lengths.cumsum(0)
