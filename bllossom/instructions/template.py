"""The chat format: how turns become tokens, and which of those tokens carry loss.

    <s>User: What is the capital of Korea?
    Assistant: Seoul.</s>User: And of Italy?
    Assistant: Rome.</s>

One BOS, at the start; an EOS after each answer, supervised, so that the model learns to stop. As in LIMA
(arXiv 2305.11206, section 3) nothing else marks a turn, and no piece is added to the vocabulary: `User:` and
`Assistant:` are ordinary text. `CHAT_TEMPLATE` is the same format for `tokenizer.apply_chat_template`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.tokenizer.encode import encode_text

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) or message['role'] not in ['user', 'assistant'] %}"
    "{{ raise_exception('the turns should be user, assistant, user, …') }}"
    "{% endif %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\nAssistant:' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)


@dataclass
class TokenBuilder:
    """Token ids and, born with each of them, whether it carries loss."""

    ids: list[int] = field(default_factory=list)
    supervised: list[bool] = field(default_factory=list)

    def add(self, ids: Sequence[int], *, supervised: bool) -> None:
        """Append `ids`, all of them supervised or none."""
        self.ids.extend(ids)
        self.supervised.extend([supervised] * len(ids))


def encode_conversation(tokenizer: PreTrainedTokenizerFast, turns: Sequence[tuple[str, str]]) -> TokenBuilder:
    """Encode (question, answer) turns; every answer and the EOS behind it is supervised, nothing else.

    Both sides are text from the outside: a literal `</s>` in them stays text. An answer is encoded on its own, so that
    no token straddles the border of the mask; the space before it is the one SentencePiece puts before any text.
    """
    builder = TokenBuilder()
    builder.add([tokenizer.bos_token_id], supervised=False)
    for question, answer in turns:
        builder.add(encode_text(tokenizer, f"User: {question}\nAssistant:"), supervised=False)
        builder.add(encode_text(tokenizer, answer), supervised=True)
        builder.add([tokenizer.eos_token_id], supervised=True)
    return builder


def as_messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """The turns in the form that chat templates read."""
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for turn in turns for role, text in zip(roles, turn, strict=True)]


def check_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    """Make sure that chatting through `CHAT_TEMPLATE` shows the model the very tokens it is trained on.

    Raises:
        BllossomError: the tokenizer has no BOS or EOS, or puts no space before a text (a byte-level vocabulary).
    """
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise BllossomError("the tokenizer has no BOS or no EOS token; set bos_token and eos_token in its config")
    turns = [("2 + 2?", "Four."), ("어디?", "서울")]
    rendered = tokenizer.apply_chat_template(as_messages(turns), chat_template=CHAT_TEMPLATE, tokenize=False)
    if tokenizer.encode(rendered, add_special_tokens=False) != encode_conversation(tokenizer, turns).ids:
        raise BllossomError(
            "the chat template gives other tokens than training would see; use a tokenizer that puts a space before "
            "each text, as SentencePiece vocabularies do (add_dummy_prefix)"
        )
