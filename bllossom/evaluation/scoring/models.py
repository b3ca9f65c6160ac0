"""The model that is evaluated, with its tokenizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from bllossom.errors import BllossomError
from bllossom.evaluation.scoring.scorer import Scorer
from bllossom.hub import pretrained
from bllossom.tokenizer.load import load_tokenizer

BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}  # on a CPU more than fit its caches take longer: 8.6 s for 10.6 at 4,096


def load_scorer(
    source: str, device: Literal["auto", "cpu", "cuda"], batch_tokens: int | None
) -> tuple[Scorer, PreTrainedTokenizerFast]:
    """Load a model folder or hub id; `batch_tokens` None is what suits the device.

    Raises:
        BllossomError: it is no model, or its tokenizer is not its own.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # A GPU takes the weights as they are; on a CPU bf16 is slower than fp32, and less exact.
        placement = {"dtype": "auto", "device_map": "cuda"} if device == "cuda" else {"dtype": torch.float32}
        with _no_bar():
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(**pretrained(source), **placement)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BllossomError(f"{source}: no model can be loaded ({reason}); name a model folder or a hub id") from error
    tokenizer = load_tokenizer(source)
    rows = int(model.config.vocab_size)
    if len(tokenizer) > rows:
        raise BllossomError(
            f"{source}: its tokenizer has {len(tokenizer):,} pieces, its model {rows:,} rows; "
            "put the tokenizer there that the model was made with"
        )
    model.eval()
    return Scorer.of(model, batch_tokens or BATCH_TOKENS[device]), tokenizer


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
