"""What a tokenizer's ids are: how many, how wide, and the fingerprint of what they mean."""

import hashlib
import json
from typing import Any, Literal

from transformers import PreTrainedTokenizerFast


def count_ids(tokenizer: PreTrainedTokenizerFast) -> int:
    """One more than the highest id. Where ids were left out, that is more than there are pieces."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def token_dtype(pieces: int) -> Literal["uint16", "uint32"]:
    """The smallest type that holds every id below `pieces`."""
    return "uint16" if pieces <= 1 << 16 else "uint32"


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """sha256 over what decides the ids of outside text: pieces, merges, normaliser, splitting.

    Saving a tokenizer again, or changing its chat template or bos, does not change it.
    """
    settings: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    meaning = {key: settings.get(key) for key in ("model", "normalizer", "pre_tokenizer")}
    specials = sorted((token["id"], token["content"]) for token in settings.get("added_tokens", []))
    return hashlib.sha256(json.dumps([meaning, specials], sort_keys=True).encode()).hexdigest()
