"""Whoever opens the tokenizer gets the same ids: tokenizers itself, AutoTokenizer, PreTrainedTokenizerFast."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bllossom.errors import BllossomError

COMPARED = ("normalizer", "pre_tokenizer", "decoder", "added_tokens", "model")
# The post-processor puts the same tokens around every text: transformers writes an empty one where there is none, and
# the texts show whether it does what the file's does.


def check_readers(folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Compare what each of them loads, part by part, and their ids on `texts`.

    Equal parts give equal ids on every text; the texts show that nothing is done to them around it.

    Raises:
        BllossomError: names the part that was replaced, or shows the text.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    alone = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected = json.loads(alone.to_str())
    alone.no_truncation()  # transformers cuts and pads only when told to, whatever the file says
    alone.no_padding()
    readers = {
        "AutoTokenizer": AutoTokenizer.from_pretrained(folder),
        "PreTrainedTokenizerFast": PreTrainedTokenizerFast.from_pretrained(folder),
    }
    for name, reader in readers.items():
        found = json.loads(reader.backend_tokenizer.to_str())
        if replaced := next((part for part in COMPARED if found.get(part) != expected.get(part)), None):
            raise BllossomError(f"{name} replaces the {replaced} of tokenizer.json; nothing is published")
        for text in texts:
            if reader(text, verbose=False)["input_ids"] != alone.encode(text).ids:
                raise BllossomError(f"{name} and tokenizers give other ids for {text[:60]!r}; nothing is published")
    return {"compared": ["tokenizers", *readers], "parts_equal": list(COMPARED), "texts": len(texts)}
