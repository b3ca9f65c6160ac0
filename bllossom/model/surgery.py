"""The surgery itself: a plan made from headers and tokenizers, and a folder written from it by blocks of rows."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bllossom.console import progress, say, size_text
from bllossom.errors import BllossomError
from bllossom.model.carried import carried_files, carry
from bllossom.model.checkpoint import INDEX, Checkpoint, check_written
from bllossom.model.initializers import Method, OldMatrix, commonest_first, in_another_order, initialize
from bllossom.model.pieces import Pieces
from bllossom.model.safetensors import (
    FLOAT_DTYPES,
    Growth,
    Rows,
    StoredTensor,
    WeightShard,
    output_bytes,
    output_dtype,
    rewrite,
)
from bllossom.provenance.fingerprints import payload
from bllossom.tokenizer.files import tokenizer_files
from bllossom.tokenizer.load import load_tokenizer

HEADER_BYTES = 1 << 20  # more than a shard's header or an index takes


@dataclass(frozen=True)
class SurgeryPlan:
    """What will be written: known, and checked, before a byte is.

    `dtype` is as safetensors names it (F32, F16, BF16), None to keep what is stored.

    Raises:
        BllossomError: the tokenizer and the checkpoint do not fit each other.
    """

    checkpoint: Checkpoint
    tokenizer: Path
    pieces: Pieces
    input_init: Method
    output_init: Method | None  # None for a tied model
    seed: int
    dtype: str | None
    link: bool

    def __post_init__(self) -> None:
        folder, pieces, stated = self.checkpoint.folder, self.pieces, self.checkpoint.config.get("vocab_size")
        for name in self.matrices:
            rows = self.checkpoint.find(name)[1].shape[0]
            if rows != stated:
                message = f"{folder}: {name} has {rows:,} rows, config.json's vocab_size is {stated}"
                raise BllossomError(f"{message}; correct the one that is wrong")
            if pieces.base > rows:
                raise BllossomError(_too_few_rows(folder, pieces.base, name, rows))
            if pieces.rows < rows:
                message = f"{self.tokenizer} has {pieces.rows:,} rows, the model {rows:,}: none may be lost"
                raise BllossomError(f"{message}; make it again with pad_to_multiple_of={rows} in merge-vocab")

    @property
    def matrices(self) -> dict[str, Method]:
        """The tensors that grow, and how. Tied matrices are one matrix, even where both are stored."""
        output = self.checkpoint.output_name
        methods = {self.checkpoint.input_name: self.input_init}
        if output is not None:
            methods[output] = self.output_init or self.input_init
        return methods

    def changes(self, shard: WeightShard) -> bool:
        """Whether any byte of the shard will be another."""
        return any(
            tensor.name in self.matrices or output_dtype(tensor, self.dtype) != tensor.dtype for tensor in shard.tensors
        )

    def tensor_bytes(self, tensor: StoredTensor) -> int:
        """The size of the tensor in the output."""
        return output_bytes(tensor, self.pieces.rows if tensor.name in self.matrices else None, self.dtype)

    def shard_bytes(self, shard: WeightShard) -> int:
        """The size of the shard's data in the output."""
        return sum(self.tensor_bytes(tensor) for tensor in shard.tensors)

    def bytes_to_write(self, linked: frozenset[Path]) -> int:
        """The room the output takes, when the shards at `linked` are links."""
        shards = [shard for shard in self.checkpoint.shards if shard.path not in linked]
        small = sum(path.stat().st_size for path in self.small_files())
        return small + HEADER_BYTES * (len(shards) + 1) + sum(map(self.shard_bytes, shards))

    def small_files(self) -> list[Path]:
        """What is copied as it is, beside the base's chat template."""
        return [*carried_files(self.checkpoint.folder), *tokenizer_files(self.tokenizer)]


def _too_few_rows(folder: Path, pieces: int, name: str, rows: int) -> str:
    """What to do about a tokenizer with more ids than the matrix has rows: added tokens alone may be left out."""
    above = {number: piece for piece, number in load_tokenizer(folder).get_added_vocab().items() if number >= rows}
    if len(above) < pieces - rows:
        message = f"{folder}: its tokenizer has {pieces:,} pieces, {name} only {rows:,} rows"
        return f"{message}; put the tokenizer the model was trained with into its folder"
    named = ", ".join(f"{above[number]!r} (id {number:,})" for number in sorted(above)[:5])
    many = f"{len(above)} tokens, {named}" + (" …" if len(above) > 5 else "")
    return (
        f"{folder}: its tokenizer adds {named if len(above) == 1 else many}, and {name} has {rows:,} rows, none for "
        "that: the model never learned it; take it out of the tokenizer's files there, and make the new tokenizer "
        "from them with merge-vocab"
    )


def write_model(plan: SurgeryPlan, folder: Path) -> dict[str, Any]:
    """Write the expanded model into `folder`, and give the stage's figures.

    Raises:
        BllossomError: the disk has no room for what cannot be linked; nothing was written then.
    """
    for left in payload(folder):  # by a kill: all of it is made again at the speed of copying
        (folder / left).unlink()
    unchanged = [shard.path for shard in plan.checkpoint.shards if not plan.changes(shard)]
    linked = frozenset(path for path in unchanged if plan.link and _link(path, folder / path.name))
    _check_room(plan.bytes_to_write(linked), folder)
    growths = {name: _growth(plan, name, method) for name, method in plan.matrices.items()}
    shards = [shard for shard in plan.checkpoint.shards if shard.path not in linked]

    def write(shard: WeightShard) -> None:
        if plan.changes(shard):
            rewrite(shard, folder / shard.path.name, growths, plan.dtype)
        else:
            shutil.copyfile(shard.path, folder / shard.path.name)

    with (
        _workers(plan) as pool,
        progress("writing shards", total=len(shards)) as advance,
    ):
        for _ in pool.map(write, shards):
            advance(1)
    _write_json(folder / "config.json", _new_config(plan))
    if plan.checkpoint.index is not None:
        _write_json(folder / INDEX, _new_index(plan))
    # The base's ids mean what they did, so its template does; the rest of its tokenizer would contradict the new one.
    carry(plan.checkpoint.folder, [plan.tokenizer, plan.checkpoint.folder], folder)
    check_written(folder)
    return _figures(plan, linked=len(linked), copied=len(unchanged) - len(linked))


@contextlib.contextmanager
def _workers(plan: SurgeryPlan) -> Iterator[ThreadPoolExecutor]:
    """Two shards at a time, one thread each, because the matrices mostly lie in two shards: one is computed while the
    other is copied. `normal`, a large matrix product, has all threads and the memory to itself.

    Elsewhere the blocks are so small that torch's threads would wait for each other: on a busy machine ten times
    longer than one thread needs.
    """
    alone = "normal" in plan.matrices.values()
    before = torch.get_num_threads()
    torch.set_num_threads(before if alone else 1)
    try:
        with ThreadPoolExecutor(max_workers=1 if alone else 2) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _growth(plan: SurgeryPlan, name: str, method: Method) -> Growth:
    shard, tensor = plan.checkpoint.find(name)
    pieces = plan.pieces
    side = "input" if name == plan.checkpoint.input_name or plan.checkpoint.tied else "output"
    spread = plan.checkpoint.config.get("initializer_range", 0.02)
    old = OldMatrix(Rows(shard.path, tensor, pieces.base), spread, pieces.byte_lengths, pieces.alike)

    def new() -> Iterator[Tensor]:
        if pieces.new:
            yield from initialize(method, old, pieces.spellings, seed=plan.seed, side=side)
        # No id leads to a padding row; as an output the mean takes no more probability than an average piece,
        # where zeros would take much: real logits are often below 0.
        if pieces.padding:
            yield old.mean.expand(pieces.padding, -1)

    if method == "subword-weighted" and side == "input":
        told = f"{side}: new rows get the mean norm of {pieces.alike_told}"
        if same := in_another_order(pieces.spellings):
            told += f"; {same:,} of {pieces.new:,} begin as another one does, of the same pieces in another order"
        say(told)
    if method == "subword-first" and pieces.new:
        first, share = commonest_first(pieces.spellings)
        if share > 0.5:
            message = f"{side}: the base's id {first} begins {share:.0%} of the new pieces, and subword-first gives all"
            say(f"{message} of them its row: the model starts without telling them apart; subword-mean does not")
    return Growth(pieces.base, pieces.rows, new)


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)  # resolved, because a hub snapshot's files are symbolic links
    except OSError:  # another file system, one without hard links, or somebody else's file
        return False
    return True


def _check_room(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        message = f"{folder.parent} has {size_text(free)} free, the expanded model needs {size_text(needed)}"
        raise BllossomError(f"{message}; free some room, or choose an output on the base model's own file system")


def _new_config(plan: SurgeryPlan) -> dict[str, Any]:
    config = dict(plan.checkpoint.config) | {"vocab_size": plan.pieces.rows}
    if plan.checkpoint.states_tied != plan.checkpoint.tied:
        config["tie_word_embeddings"] = plan.checkpoint.tied
    if plan.dtype is not None:
        # transformers before 5 knows only torch_dtype; later ones read both.
        name = str(FLOAT_DTYPES[plan.dtype]).removeprefix("torch.")
        config |= dict.fromkeys({"dtype", "torch_dtype"} & config.keys() or {"torch_dtype"}, name)
    return config


def _new_index(plan: SurgeryPlan) -> dict[str, Any]:
    index = dict(plan.checkpoint.index or {})
    metadata = dict(index.get("metadata") or {})
    metadata["total_size"] = sum(map(plan.shard_bytes, plan.checkpoint.shards))
    if "total_parameters" in metadata:
        for name in plan.matrices:
            rows, width = plan.checkpoint.find(name)[1].shape
            metadata["total_parameters"] += (plan.pieces.rows - rows) * width
    return index | {"metadata": metadata}


def _figures(plan: SurgeryPlan, *, linked: int, copied: int) -> dict[str, Any]:
    pieces, shards = plan.pieces, plan.checkpoint.shards
    return {
        "rows": pieces.rows,
        "old_rows": pieces.base,
        "new_pieces": pieces.new,
        "padding_rows": pieces.padding,
        "tied": plan.checkpoint.tied,
        "init": plan.matrices | {"padding": "mean"},
        "shards": {"rewritten": len(shards) - linked - copied, "linked": linked, "copied": copied},
        "bytes_written": sum(plan.shard_bytes(shard) for shard in shards if plan.changes(shard)),
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf8")
