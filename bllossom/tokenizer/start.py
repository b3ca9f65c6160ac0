"""How a text begins: one decision for everything that a model is asked about text.

A tokenizer's own post-processor says whether texts begin with BOS (Llama's does; Qwen's, GPT-2's and SmolLM2's do not,
and SmolLM2's BOS is the mark of a chat). Where it adds none, a task's context begins with nothing; an empty one is BOS,
or EOS without one, as in lm-eval; and EOS, which parted the texts of pretraining, stands before a document.
"""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError


@dataclass(frozen=True)
class TextStart:
    """Ids that stand before a text."""

    task: list[int]
    """Before a task's context: BOS or nothing."""
    empty: int
    """What a continuation without a context comes after."""
    document: int
    """What a document's first token comes after, for bits per byte."""


def text_start(tokenizer: PreTrainedTokenizerFast) -> TextStart:
    """How texts begin for this tokenizer.

    Raises:
        BllossomError: it has neither BOS nor EOS.
    """
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    alone = bos if bos is not None else eos
    if alone is None:
        raise BllossomError(
            "the tokenizer has neither BOS nor EOS; set bos_token or eos_token in tokenizer_config.json"
        )
    adds_bos = bos is not None and tokenizer("a", add_special_tokens=True)["input_ids"][:1] == [bos]
    if adds_bos:
        return TextStart([bos], bos, bos)
    return TextStart([], alone, alone if eos is None else eos)


def told(tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    """The decision in pieces, for results: what a task, an empty context and a document begin with."""
    start = text_start(tokenizer)
    pieces = {"task": start.task, "empty_context": [start.empty], "document": [start.document]}
    return {name: "".join(tokenizer.convert_ids_to_tokens(ids)) for name, ids in pieces.items()}
