"""What a run of pretrain, sft or dpo computes, whatever the machine: what a plan needs to know of its config and data.

Where the examples of sft or dpo are here, and a tokenizer to read them with, they are counted; else a plan is of full
rows, and how many steps there are is not known. Nor is it of pretrain's `epochs` and `bytes_total` before its tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PretrainedConfig

from bllossom.paths import there
from bllossom.tokenizer.files import holds_tokenizer
from bllossom.training.dpo import DpoConfig, load_pairs
from bllossom.training.engines.optimization import Trainable
from bllossom.training.pretrain_config import PretrainConfig
from bllossom.training.sft import LIMA_TOKENS, SftConfig, load_examples, with_window, without_leaks
from bllossom.training.tuning.example_rows import ExampleRows, PackedSteps
from bllossom.training.tuning.pair_rows import shares_prompt
from bllossom.training.tuning.stage import Tuning, check_length

UNKNOWN = "what is read is not here yet, so that steps and hours are not known"


@dataclass(frozen=True)
class Workload:
    """Sizes in tokens; rows are the sequences of a micro-batch."""

    parts: Sequence[tuple[Trainable, int]]  # what trains, and for how many steps: phase by phase
    tokens: int  # that all steps compute; 0 where that is not known
    rows_per_step: int  # over all ranks, at most
    row_tokens: int  # of the longest row
    attended: float  # of its own row or example, that a token's attention looks through: mean
    scored: float  # share of the tokens whose logits are computed
    groups: int  # losses reported apart
    masked: bool  # attention is given a mask of rows × tokens × tokens
    even: bool  # every rank has as many rows in a step, in micro-batches of one size
    key: str  # of the config, which sets the rows of a step
    unit: str  # what the key counts: "blocks"
    unit_size: int  # what one of these is in the key
    row_key: str  # of the config, which keeps rows within the model's window; "" where they may be longer
    arithmetic: str

    @property
    def steps(self) -> int:
        """Optimizer steps of all phases."""
        return sum(count for _, count in self.parts)


def pretrain_workload(config: PretrainConfig) -> Workload:
    """Blocks of one length."""
    blocks, steps = config.blocks_per_step(), config.total_steps()
    phases = [(segment.trainable, segment.steps) for segment in config.segments()] if config.phases else []
    why_none = "what is read makes no whole step" if config.tokens.is_dir() else UNKNOWN
    return Workload(
        parts=phases or [(config.trainable, steps)],
        tokens=(sum(count for _, count in phases) or steps) * config.global_batch,
        rows_per_step=blocks,
        row_tokens=config.block_size,
        attended=config.block_size,
        scored=1.0,
        groups=len(config.mixture.weights),
        masked=config.document_mask and config.attention == "sdpa",
        even=True,
        key="global_batch",
        unit="blocks",
        unit_size=config.block_size,
        row_key="block_size",
        arithmetic=f"{blocks:,} blocks × {config.block_size:,} tokens = {config.global_batch:,} tokens a step"
        + ("" if steps else f"; {why_none}"),
    )


def sft_workload(config: SftConfig, shape: PretrainedConfig) -> Workload:
    """Packed rows of `max_tokens`, or examples padded to the longest of their micro-batch.

    Raises:
        ConfigError: max_tokens is more than the model's window.
        BllossomError: an example that is here cannot be used.
    """
    config, _ = without_leaks(with_window(config, getattr(shape, "max_position_embeddings", None)), shape.model_type)
    limit = config.max_tokens or LIMA_TOKENS
    lengths, scored, rows, steps, computed = [limit], 1.0, config.examples_per_step, 0, 0.0
    how = UNKNOWN
    if _is_here(config):
        items = load_examples(config)[1].items
        packed = PackedSteps(ExampleRows(items, config.seed), config.examples_per_step, limit, config.micro_batch)
        passed = [packed.packed(step) for step in range(-(-len(items) // config.examples_per_step))]
        lengths = [len(example.ids) for step in passed for row in step for example in row]
        supervised = sum(int(example.supervised.sum()) for step in passed for row in step for example in row)
        if config.packing:
            rows = max(map(len, passed))
            how = f"in {np.mean([len(step) for step in passed]):.1f} rows of at most {limit:,} tokens"
        else:
            groups = [
                lengths[start : start + config.micro_batch] for start in range(0, len(lengths), config.micro_batch)
            ]
            lengths = [max(group) for group in groups for _ in group]
            limit = max(lengths)
            how = f"padded to {np.mean(lengths):,.0f} tokens each"
        steps = math.ceil(len(items) * config.epochs / config.examples_per_step)
        computed = sum(lengths) / len(passed) * steps
        scored = supervised / sum(lengths)
    return Workload(
        parts=[("all", steps)],
        tokens=round(computed),
        rows_per_step=rows,
        row_tokens=limit,
        attended=_attended(lengths),
        scored=scored,
        groups=1,
        masked=False,  # each example is attended to by itself, and padding stands behind what it might disturb
        even=not config.packing,
        key="examples_per_step",
        unit="examples",
        unit_size=1,
        row_key="max_tokens",
        arithmetic=f"{config.examples_per_step:,} examples a step, {how}",
    )


def dpo_workload(config: DpoConfig, shape: PretrainedConfig) -> Workload:
    """Pairs, one a row where they share their prompt. The reference's pass, forward alone, counts a third of an epoch.

    Raises:
        ConfigError: max_tokens is more than the model's window.
        BllossomError: a pair that is here cannot be used.
    """
    window = getattr(shape, "max_position_embeddings", None)
    check_length(config.max_tokens, window)
    share = shares_prompt(shape, config.attention)
    longest = 2 * (config.max_tokens or window or LIMA_TOKENS)
    lengths, scored, steps, computed, how = [longest], 1.0, 0, 0.0, UNKNOWN
    if _is_here(config):
        pairs = load_pairs(config)[1]
        answers = [len(pair.chosen) + len(pair.rejected) for pair in pairs]
        lengths = [(1 if share else 2) * len(pair.prompt) + said for pair, said in zip(pairs, answers, strict=True)]
        longest = max(lengths)
        steps = math.ceil(len(pairs) * config.epochs / config.pairs_per_step)
        computed = sum(lengths) * (steps * config.pairs_per_step / len(pairs) + 1 / 3)
        scored = sum(answers) / sum(lengths)
        how = f"of {np.mean(lengths):,.0f} tokens each, {'prompts shared' if share else 'each answer with its prompt'}"
    return Workload(
        parts=[("all", steps)],
        tokens=round(computed),
        rows_per_step=config.pairs_per_step,
        row_tokens=longest,
        attended=_attended(lengths),
        scored=scored,
        groups=1,
        masked=share,
        even=True,
        key="pairs_per_step",
        unit="pairs",
        unit_size=1,
        row_key="",
        arithmetic=f"{config.pairs_per_step:,} pairs a step, {how}",
    )


def _attended(lengths: Sequence[int]) -> float:
    """The length of a token's own sequence, on average over tokens."""
    return sum(length**2 for length in lengths) / sum(lengths)


def _is_here(config: Tuning) -> bool:
    """Whether examples can be counted without fetching anything."""
    return holds_tokenizer(Path(config.model)) and all(there(source.path) for source in config.data)
