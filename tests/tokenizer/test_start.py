"""How a text begins, for tokenizers that add BOS, have one and do not add it, have none, or have nothing."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.tokenizer.start import TextStart, text_start, told

IDS = {"a": 0, "b": 1, "<s>": 2, "</s>": 3}


def tokenizer(*, adds: bool = False, **special: str) -> PreTrainedTokenizerFast:
    fast = Tokenizer(models.WordLevel(IDS, unk_token="b"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    if adds:
        fast.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=fast, **special)


def test_the_post_processor_decides() -> None:
    both = {"bos_token": "<s>", "eos_token": "</s>"}
    assert text_start(tokenizer(adds=True, **both)) == TextStart([2], 2, 2)
    # SmolLM2's: BOS is the mark of a chat, and no text begins with it.
    assert text_start(tokenizer(**both)) == TextStart([], 2, 3)
    # Qwen's and GPT-2's.
    assert text_start(tokenizer(eos_token="</s>")) == TextStart([], 3, 3)
    assert text_start(tokenizer(bos_token="<s>")) == TextStart([], 2, 2)


def test_results_tell_it_in_pieces() -> None:
    assert told(tokenizer(eos_token="</s>")) == {"task": "", "empty_context": "</s>", "document": "</s>"}


def test_without_either_there_is_nothing_to_begin_with() -> None:
    with pytest.raises(BllossomError, match=r"set bos_token or eos_token in tokenizer_config\.json"):
        text_start(tokenizer())
