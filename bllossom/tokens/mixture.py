"""The mixture: training blocks from the token shards of several languages, in the asked ratio, each exactly once.

A block is a row of `block_size` tokens out of one source's stream. The last block of a source steps back to end where
the source ends, so no token is left out; the tokens it shares with the block before it are counted (`repeated_tokens`).
Which block comes when is in schedule.py; `Mixture.plan` says beforehand what a run of so many blocks will have seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from bllossom.config import Model
from bllossom.errors import BllossomError, ConfigError
from bllossom.tokens.blocks import Block, HeldOutBlocks, heldout_blocks, positions_of
from bllossom.tokens.fair import STRETCH, FairSplit
from bllossom.tokens.mixture_plan import MixturePlan, Share, Unit, language_row
from bllossom.tokens.schedule import MOST_BLOCKS, WITHIN_ONE, Ints, Split, shuffled, split_by
from bllossom.tokens.shards import SourceRecord, TokenStream, open_stream, read_index

__all__ = ["Block", "HeldOutBlocks", "Mixture", "MixtureConfig", "MixturePlan", "heldout_blocks"]

WINDOW = 16384  # blocks whose places are worked out together
WINDOWS = 4  # kept: training reads forwards, its loader's workers a little apart
NOT_ALLOWED = -1  # in place of a block's first token, where `max_epochs` ends

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class MixtureConfig(Model):
    """How much of each language, and what that is measured in."""

    weights: Annotated[dict[str, Weight], Field(description="share of each language, on any scale: {ko: 7, en: 3}")]
    unit: Annotated[Unit, Field(description="what the weights measure; the paper's 7:3 is in bytes of text")] = "bytes"
    source_weights: Annotated[
        dict[str, Annotated[dict[str, Weight], Field(min_length=1)]],
        Field(description="shares of the sources within a language, in the same unit; by size where none is given"),
    ] = Field(default_factory=dict)
    max_epochs: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="how often a source may be read before training refuses; `epochs` above 1 stand for a 1 here",
        ),
    ] = 1

    @model_validator(mode="after")
    def _source_weights_of_languages(self) -> Self:
        for language in self.source_weights.keys() - self.weights.keys():
            raise ValueError(f"source_weights.{language} has no weight of its own; add weights.{language}")
        if not self.weights:
            raise ValueError("weights is empty; name at least one language, as {ko: 7, en: 3}")
        return self


@dataclass(frozen=True)
class _Stream:
    language: str
    name: str
    tokens: TokenStream
    blocks: int  # in one epoch
    bytes_per_token: float
    tokens_per_document: float

    def per_block(self, unit: Unit, block_size: int) -> float:
        """How many bytes, tokens or documents a block of this source stands for, on average."""
        return (
            block_size
            * {
                "bytes": self.bytes_per_token,
                "tokens": 1.0,
                "documents": 1 / self.tokens_per_document,
            }[unit]
        )


class Mixture:
    """Blocks of a tokens folder in the order of training. Block i depends on (seed, i) and the shards alone."""

    def __init__(
        self,
        folder: Path,
        streams: Sequence[_Stream],
        config: MixtureConfig,
        block_size: int,
        seed: int,
        left_out: int = 0,
    ) -> None:
        self.folder, self.left_out = folder, left_out
        self.config, self.block_size, self.seed = config, block_size, seed
        self._streams = list(streams)
        self._windows: dict[int, Ints] = {}
        shares = _block_shares(self._streams, config, block_size)
        self._targets = {leaf: share / sum(shares.values()) for leaf, share in shares.items()}
        by_language = {
            language: [leaf for leaf, stream in enumerate(self._streams) if stream.language == language]
            for language in sorted(config.weights)  # where shares tie, the order of a config's keys must not decide
        }
        self._languages = list(config.weights)
        self._by_language = _split_languages(
            {name: sum(shares[leaf] for leaf in leaves) for name, leaves in by_language.items()}
        )
        self._by_source = [split_by({leaf: shares[leaf] for leaf in leaves}) for leaves in by_language.values()]

    @classmethod
    def open(
        cls,
        tokens_dir: Path,
        config: MixtureConfig,
        block_size: int,
        seed: int,
        *,
        tokenizer: str | None = None,
        left_out: int = 0,
    ) -> Self:
        """Open a tokens folder; `tokenizer` is the fingerprint of the model's (tokenizer/ids.py), to be compared.

        A run that leaves out `left_out` blocks reads so many more behind them, which `max_epochs` does not refuse.

        Raises:
            BllossomError: another tokenizer, a damaged shard, an unknown language or source, a source shorter than a
                block.
        """
        index = read_index(tokens_dir, tokenizer)
        _check_names(config, index.sources)
        streams = []
        for source in index.sources:
            if not _is_used(source, config):
                continue
            if source.tokens < block_size:
                raise BllossomError(
                    f"{source.language}/{source.name} has {source.tokens:,} tokens, less than one block of "
                    f"{block_size:,}; take shorter blocks, or merge it with another source in prepare"
                )
            stream = _Stream(
                language=source.language,
                name=source.name,
                tokens=open_stream(tokens_dir, index, source),
                blocks=-(-source.tokens // block_size),
                bytes_per_token=source.bytes / source.tokens,
                tokens_per_document=source.tokens / source.documents,
            )
            streams.append(stream)
        return cls(tokens_dir, streams, config, block_size, seed, left_out)

    def block(self, index: int) -> Block:
        """Block number `index` of training.

        Raises:
            BllossomError: its source would be read more often than `max_epochs` allows.
            IndexError: there can be no such block.
        """
        if not 0 <= index < MOST_BLOCKS:
            raise IndexError(f"blocks are counted from 0 to {MOST_BLOCKS:,}")
        number, within = divmod(index, WINDOW)
        leaf, start = self._window(number)[:, within].tolist()
        if start == NOT_ALLOWED:
            raise BllossomError(self._have_and_need(index + 1))
        stream = self._streams[leaf]
        positions, documents = positions_of(stream.tokens, start, self.block_size)
        ids = stream.tokens.read(start, start + self.block_size)
        return Block(ids, positions, stream.language, stream.name, documents)

    def _window(self, number: int) -> Ints:
        """Where the blocks `number * WINDOW` and on are, together: one by one they would cost a hundred times it."""
        window = self._windows.get(number)
        if window is None:
            if len(self._windows) >= WINDOWS:
                del self._windows[next(iter(self._windows))]
            window = self._windows[number] = self._locate(np.arange(number * WINDOW, (number + 1) * WINDOW))
        return window

    def _locate(self, indices: Ints) -> Ints:
        """Where some blocks are, int64 [2, blocks]: the stream, and the first token there or NOT_ALLOWED."""
        languages, within, leaves, ordinals = (np.empty(len(indices), np.int64) for _ in range(4))
        self._by_language.locate(indices, languages, within)
        for place, split in enumerate(self._by_source):
            mine = np.flatnonzero(languages == place)
            if len(mine):
                split.locate(within[mine], leaves, ordinals, mine)
        table = np.stack([leaves, leaves])
        for leaf in np.flatnonzero(np.bincount(leaves)).tolist():
            stream, mine = self._streams[leaf], np.flatnonzero(leaves == leaf)
            epochs, at = np.divmod(ordinals[mine], stream.blocks)
            for epoch in range(int(epochs.min()), int(epochs.max()) + 1):
                key = f"{self.seed}/{stream.language}/{stream.name}/{epoch}"
                now = epochs == epoch
                at[now] = shuffled(stream.blocks, key, at[now])
            starts = np.minimum(at * self.block_size, stream.tokens.tokens - self.block_size)
            table[1, mine] = np.where(ordinals[mine] < self._allowed(stream) + self.left_out, starts, NOT_ALLOWED)
        return table

    def _allowed(self, stream: _Stream) -> int:
        return round(self.config.max_epochs * stream.blocks)

    def _counts(self, blocks: int) -> dict[int, int]:
        counts: dict[int, int] = {}
        for place, count in self._by_language.counts(blocks).items():
            counts |= self._by_source[place].counts(count)
        return counts

    def longest(self) -> int:
        """How many blocks there are before some source is used up (`max_epochs` times), whatever is left out."""
        low, high = 0, 1
        while self._fits(high):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._fits(middle) else (low, middle)
        return low

    def blocks_of(self, text_bytes: int, *, after: int = 0) -> int:
        """How many blocks behind the first `after` stand for so many UTF-8 bytes of text."""
        wanted = self._bytes(after) + text_bytes
        low, high = after, after + 1
        while self._bytes(high) < wanted:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._bytes(middle) < wanted else (low, middle)
        return high - after

    def _bytes(self, blocks: int) -> float:
        counts = self._counts(blocks)
        return sum(count * self._streams[leaf].per_block("bytes", self.block_size) for leaf, count in counts.items())

    def _fits(self, blocks: int, more: int = 0) -> bool:
        return all(count <= self._allowed(self._streams[leaf]) + more for leaf, count in self._counts(blocks).items())

    def plan(self, blocks: int) -> MixturePlan:
        """What the first `blocks` blocks hold, target beside observed, and the epochs of each source.

        Raises:
            BllossomError: a source would be read more often than `max_epochs` allows; says what it has and needs.
        """
        counts = self._counts(blocks)
        if not self._fits(blocks, self.left_out):
            raise BllossomError(self._have_and_need(blocks))
        unit = self.config.unit
        amounts = {leaf: s.per_block(unit, self.block_size) for leaf, s in enumerate(self._streams)}
        in_unit = {leaf: share * amounts[leaf] for leaf, share in self._targets.items()}
        all_target = sum(in_unit.values())
        all_observed = sum(counts[leaf] * amounts[leaf] for leaf in counts) or 1
        sources = []
        for leaf, stream in enumerate(self._streams):
            tokens = counts[leaf] * self.block_size
            epochs = counts[leaf] / stream.blocks
            row = Share(
                language=stream.language,
                source=stream.name,
                blocks=counts[leaf],
                tokens=tokens,
                bytes=tokens * stream.bytes_per_token,
                documents=tokens / stream.tokens_per_document,
                epochs=epochs,
                target=in_unit[leaf] / all_target,
                observed=counts[leaf] * amounts[leaf] / all_observed,
                repeated_tokens=int(epochs) * (stream.blocks * self.block_size - stream.tokens.tokens),
            )
            sources.append(row)
        return MixturePlan(unit, blocks, [language_row(language, sources) for language in self._languages], sources)

    def _have_and_need(self, blocks: int) -> str:
        lines, counts = [], self._counts(blocks)
        for leaf, count in counts.items():
            stream = self._streams[leaf]
            if count > self._allowed(stream) + self.left_out:
                have, need = (number * self.block_size for number in (self._allowed(stream), count))
                lines.append(
                    f"{stream.language}/{stream.name} has {have:,} tokens for at most {self.config.max_epochs:g} "
                    f"epochs, {blocks:,} blocks need {need:,} ({count / stream.blocks:.2f} epochs)"
                )
        wanted = max(count / self._streams[leaf].blocks for leaf, count in counts.items())
        epochs = math.ceil(100 * wanted) / 100
        most = self.longest()
        lines.append(
            f"train on at most {most:,} blocks ({most * self.block_size:,} tokens) with fewer steps, set "
            f"mixture.max_epochs to {epochs:g}, or add text"
        )
        return "\n".join(lines)


def _split_languages(shares: Mapping[str, float]) -> Split | FairSplit:
    """Deals blocks out to the languages, by their place in `shares`: by the tree while it keeps to within one block."""
    by_place = dict(enumerate(shares.values()))
    if len(by_place) <= WITHIN_ONE:
        return split_by(by_place)
    if small := [name for name, share in shares.items() if share * STRETCH < sum(shares.values())]:
        key = f"mixture.weights.{small[0]}"
        raise ConfigError(f"{key}: less than one block in {STRETCH:,}; give it more, or leave it out")
    return FairSplit(by_place)


def _is_used(source: SourceRecord, config: MixtureConfig) -> bool:
    given = config.source_weights.get(source.language)
    return source.language in config.weights and source.tokens > 0 and (given is None or source.name in given)


def _block_shares(streams: Sequence[_Stream], config: MixtureConfig, block_size: int) -> dict[int, float]:
    """The share of each source in the blocks, from weights in the config's unit."""
    shares: dict[int, float] = {}
    for language, weight in config.weights.items():
        mine = {leaf: stream for leaf, stream in enumerate(streams) if stream.language == language}
        amounts = {leaf: stream.per_block(config.unit, block_size) for leaf, stream in mine.items()}
        given = config.source_weights.get(language)
        if given is None:
            parts = {leaf: float(stream.blocks) for leaf, stream in mine.items()}
        else:
            parts = {leaf: given[stream.name] / amounts[leaf] for leaf, stream in mine.items()}
        in_unit = sum(part * amounts[leaf] for leaf, part in parts.items())
        shares |= {leaf: weight * part / in_unit for leaf, part in parts.items()}
    return shares


def _check_names(config: MixtureConfig, sources: Sequence[SourceRecord]) -> None:
    names: dict[str, list[str]] = {}
    for source in sources:
        if source.tokens:
            names.setdefault(source.language, []).append(source.name)
    problems = [
        f"mixture.weights.{language}: no training text in this language; there is {', '.join(names) or 'none at all'}"
        for language in config.weights
        if language not in names
    ]
    for language, given in config.source_weights.items():
        unknown = [name for name in given if name not in names.get(language, [])]
        problems += [
            f"mixture.source_weights.{language}.{name}: no such source; there are {', '.join(names.get(language, []))}"
            for name in unknown
        ]
    if problems:
        raise ConfigError(problems)
