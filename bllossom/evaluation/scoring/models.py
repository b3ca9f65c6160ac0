"""The model that is evaluated, with its tokenizer: in transformers on this rank's device, or in vLLM."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from bllossom.artifacts import read_manifest
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.evaluation.scoring.scorer import Scorer
from bllossom.evaluation.scoring.vllm_backend import VllmScorer
from bllossom.files import FileHashes
from bllossom.model.load import load_causal
from bllossom.ranks.ranks import Ranks
from bllossom.tokenizer.files import PIECE_FILES
from bllossom.tokenizer.load import load_tokenizer

MOST_PADDING = 0.95  # of a model's rows have pieces, at least, in models that pad their vocabulary
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}  # on a CPU more than fit its caches take longer: 8.6 s for 10.6 at 4,096


def load_scorer(source: str, batch_tokens: int | None, ranks: Ranks) -> tuple[Scorer, PreTrainedTokenizerFast]:
    """Load a model folder or hub id onto this rank's device; `batch_tokens` None is what suits the device.

    Raises:
        BllossomError: it is no model, or not whole, or its tokenizer is not its own.
    """
    device = ranks.device
    # A GPU takes the weights as they are; on a CPU bf16 is slower than fp32, and less exact.
    placement: dict[str, Any] = {"dtype": torch.float32}
    if device.type == "cuda":
        placement = {"dtype": "auto", "device_map": {"": device}}
    with _no_bar():
        model = load_causal(source, **placement)
    tokenizer = tokenizer_of(source, int(model.config.vocab_size))
    model.eval()
    return Scorer.of(model, batch_tokens or BATCH_TOKENS[device.type], ranks), tokenizer


def load_vllm(source: str, gpus: int) -> tuple[VllmScorer, PreTrainedTokenizerFast]:
    """Load a model folder or hub id into vLLM, spread over so many GPUs.

    Raises:
        BllossomError: it is no model, vLLM does not take it, or its tokenizer is not its own.
    """
    scorer = VllmScorer.load(source, gpus)
    return scorer, tokenizer_of(source, scorer.rows)


def tokenizer_of(source: str, rows: int) -> PreTrainedTokenizerFast:
    """The tokenizer beside a model of so many rows. Rows without a piece are said, where they are more than padding.

    Raises:
        BllossomError: it has more pieces than that, or is not the one that the model was published with.
    """
    _check_pieces(Path(source))
    tokenizer = load_tokenizer(source)
    sizes = f"{source}: its tokenizer has {len(tokenizer):,} pieces, its model {rows:,} rows"
    if len(tokenizer) > rows:
        raise BllossomError(f"{sizes}; put the tokenizer there that the model was made with")
    if len(tokenizer) < MOST_PADDING * rows:
        say(f"{sizes}: if it is another model's, the scores mean nothing")
    return tokenizer


def _check_pieces(folder: Path) -> None:
    """Compare the pieces in a folder of ours with its manifest, by which the folder goes as an input."""
    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None:
        return
    files = [folder / name for name in PIECE_FILES if (folder / name).is_file()]
    for file, found in zip(files, FileHashes(cached=True).record(files), strict=True):
        published = manifest.files.get(file.name)
        if published is None or published.sha256 != found.sha256:
            raise BllossomError(f"{file} is not what {folder} was published with; put the model's own tokenizer there")


@contextmanager
def _no_bar() -> Iterator[None]:
    """Without transformers' bar of loaded weights: there is one progress line, ours."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
