"""distill-rows: an expanded model's new rows, learned by distilling what the old spellings did (distillation.py).

It comes after expand and before pretrain. Snippets are of the tokens that training reads, never of what is held out.
"""

import random
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from bllossom.artifacts import Manifest, publish
from bllossom.config import InputPath, StageConfig
from bllossom.console import progress, say
from bllossom.errors import BllossomError
from bllossom.model.carried import carry
from bllossom.model.checkpoint import INDEX, Checkpoint, check_written, open_checkpoint
from bllossom.model.distillation import REPLACED, RowLearner, Snippet, make_snippet
from bllossom.model.pieces import Pieces, compare_tokenizers
from bllossom.model.safetensors import Growth, Rows, rewrite
from bllossom.tokenizer.ids import tokenizer_fingerprint
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokens.shards import TokenStream, open_stream, read_index

STATE = "state.pt"
MOST_OF_A_DOCUMENT = 10
"""Snippets that one document may give: one that repeats itself is not to be all that is learned from."""


class DistillRowsConfig(StageConfig):
    """Keys of distill-rows."""

    model: Annotated[InputPath, Field(description="expand's folder")]
    base: Annotated[InputPath, Field(description="the model that expand read, whose tokenizer spells the new pieces")]
    tokens: Annotated[InputPath, Field(description="prepare's folder, made with the new tokenizer")]
    steps: Annotated[int, Field(gt=0, description="optimizer steps")] = 200
    batch_snippets: Annotated[int, Field(gt=0, description="snippets of a step")] = 8
    snippet_tokens: Annotated[int, Field(gt=1, description="tokens of a snippet, in the new tokenizer")] = 96
    learning_rate: Annotated[float, Field(gt=0, description="Adam's, constant; of a row's root mean square")] = 0.02
    output_weight: Annotated[
        float, Field(ge=0, description="weight of next-token loss beside the hidden states' distance")
    ] = 0.1
    save_every: Annotated[int, Field(gt=0, description="steps between two states that a stopped run goes on from")] = 50
    seed: Annotated[int, Field(description="of the snippets and of which pieces are put in")] = 0


def distill_rows(config: DistillRowsConfig, *, force: bool = False) -> Manifest:
    """Learn the rows, and publish the model with them; every other weight stays bit-equal.

    Raises:
        BllossomError: the model has no new pieces, the tokens hold none of them, or are another tokenizer's.
    """
    inputs = {"model": config.model, "base": config.base, "tokens": config.tokens}
    checkpoint, pieces = _open(config)
    return publish(
        config,
        stage="distill-rows",
        inputs=inputs,
        build=lambda folder: _build(config, checkpoint, pieces, folder),
        force=force,
        scratch=[STATE],
    )


def dry_run(config: DistillRowsConfig) -> list[str]:
    """Say how much would be learned from, and refuse models that the run would refuse."""
    if config.model.is_dir() and config.base.is_dir():
        _open(config)
    tokens = config.steps * config.batch_snippets * config.snippet_tokens
    return [f"{config.steps:,} steps, {tokens:,} tokens: the new rows alone are learned"]


def _open(config: DistillRowsConfig) -> tuple[Checkpoint, Pieces]:
    checkpoint = open_checkpoint(config.model)
    pieces = compare_tokenizers(config.base, config.model)
    if not pieces.new:
        raise BllossomError(f"model: {config.model} has no pieces that {config.base} lacks; nothing is to be distilled")
    return checkpoint, pieces


def _build(config: DistillRowsConfig, checkpoint: Checkpoint, pieces: Pieces, folder: Path) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32)
    learner = RowLearner(model, pieces.base, pieces.new, output_weight=config.output_weight)
    snippets = cut_snippets(config, pieces)
    held = [_choose(snippets, config, step, pieces) for step in range(-4, 0)]  # the same for both scores
    before = score(learner, held)
    _learn(learner, snippets, config, pieces, folder / STATE)
    after = score(learner, held)
    say(f"distill-rows: distance of the hidden states {before:.4f} → {after:.4f}")
    _write(learner, checkpoint, pieces, folder)
    return {
        "rows": pieces.rows,
        "old_rows": pieces.base,
        "new_pieces": pieces.new,
        "snippets": len(snippets),
        "distance_before": round(before, 6),
        "distance_after": round(after, 6),
    }


def cut_snippets(config: DistillRowsConfig, pieces: Pieces) -> list[list[int]]:
    """As many snippets as the steps take, or all there are, each with a new piece in it, spread over all sources.

    Raises:
        BllossomError: the tokens are another tokenizer's, or hold none of the new pieces.
    """
    index = read_index(config.tokens, tokenizer_fingerprint(load_tokenizer(config.model)))
    streams = [open_stream(config.tokens, index, source) for source in index.sources]
    sources = [_snippets_of(stream, config.snippet_tokens, pieces) for stream in streams]
    found = list(islice(_in_turn(sources), config.steps * config.batch_snippets))
    if not found:
        raise BllossomError(f"tokens: {config.tokens} hold none of the new pieces; prepare text of their language")
    random.Random(config.seed).shuffle(found)
    return found


def _snippets_of(stream: TokenStream, length: int, pieces: Pieces) -> Iterator[list[int]]:
    """The first stretches of each document that hold a new piece with a token behind it."""
    for document in range(stream.documents):
        start, stop, _ = stream.span_of(document)
        ids = stream.read(start, min(stop, start + length * MOST_OF_A_DOCUMENT)).tolist()
        for at in range(0, len(ids) - 1, length):
            snippet = ids[at : at + length]
            if any(pieces.base <= number < pieces.base + pieces.new for number in snippet[:-1]):
                yield snippet


def _in_turn(sources: Iterable[Iterator[list[int]]]) -> Iterator[list[int]]:
    """One of each source after the other, again and again: what one lacks (English has no new pieces) others give."""
    left = deque(sources)
    while left:
        source = left.popleft()
        if (snippet := next(source, None)) is not None:
            yield snippet
            left.append(source)


def _choose(snippets: Sequence[list[int]], config: DistillRowsConfig, step: int, pieces: Pieces) -> list[Snippet]:
    """The batch of a step: a pure function of seed and step, so that a stopped run goes on with the same ones."""
    generator = random.Random(f"{config.seed} {step}")
    batch = []
    for i in range(config.batch_snippets):
        ids = snippets[(step * config.batch_snippets + i) % len(snippets)]
        keep = [generator.random() < REPLACED for _ in ids]
        batch.append(make_snippet(ids, pieces.base, pieces.spellings, keep))
    return batch


def score(learner: RowLearner, batches: Sequence[list[Snippet]]) -> float:
    """The mean distance of the hidden states over some batches."""
    with torch.no_grad():
        return sum(float(learner.losses(batch)[0]) for batch in batches) / len(batches)


def _learn(
    learner: RowLearner, snippets: Sequence[list[int]], config: DistillRowsConfig, pieces: Pieces, state: Path
) -> None:
    sides = [learner.inputs, learner.outputs][: len(learner.parameters())]
    scales = [float(side[: pieces.base].pow(2).mean().sqrt()) for side in sides]
    groups = [
        {"params": [parameter], "lr": config.learning_rate * scale}
        for parameter, scale in zip(learner.parameters(), scales, strict=True)
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
    start = _resume(learner, optimizer, state)
    with progress("distilling rows", total=config.steps) as advance:
        advance(start)
        for step in range(start, config.steps):
            loss = learner.loss(_choose(snippets, config, step, pieces))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            advance(1, f"loss {loss.item():.4f}")
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                _save(learner, optimizer, step + 1, state)


def _resume(learner: RowLearner, optimizer: torch.optim.Optimizer, state: Path) -> int:
    """Take up the state that a stopped run left; give the step to go on with."""
    if not state.is_file():
        return 0
    kept = torch.load(state, weights_only=True)
    for parameter, value in zip(learner.parameters(), kept["rows"], strict=True):
        parameter.data.copy_(value)
    optimizer.load_state_dict(kept["optimizer"])
    say(f"distill-rows: going on at step {kept['step']:,}")
    return kept["step"]


def _save(learner: RowLearner, optimizer: torch.optim.Optimizer, step: int, state: Path) -> None:
    kept = {
        "rows": [parameter.data for parameter in learner.parameters()],
        "optimizer": optimizer.state_dict(),
        "step": step,
    }
    unfinished = state.with_suffix(".new")
    torch.save(kept, unfinished)
    unfinished.replace(state)


def _write(learner: RowLearner, checkpoint: Checkpoint, pieces: Pieces, folder: Path) -> None:
    """The model's files with the learned rows in their places; padding rows stay."""

    def growth(name: str, rows: Tensor) -> Growth:
        shard, tensor = checkpoint.find(name)
        padding = range(pieces.base + pieces.new, tensor.shape[0])

        def new() -> Iterator[Tensor]:
            yield rows.detach()
            if padding:
                yield Rows(shard.path, tensor, tensor.shape[0]).gather(list(padding))

        return Growth(pieces.base, tensor.shape[0], new)

    growths = {checkpoint.input_name: growth(checkpoint.input_name, learner.new_inputs)}
    if checkpoint.output_name is not None:
        growths[checkpoint.output_name] = growth(checkpoint.output_name, learner.new_outputs)
    for shard in checkpoint.shards:
        rewrite(shard, folder / shard.path.name, growths)
    for path in filter(Path.is_file, (checkpoint.folder / name for name in ("config.json", INDEX))):
        shutil.copyfile(path, folder / path.name)
    carry(checkpoint.folder, [checkpoint.folder], folder)
    check_written(folder)
