"""Our own formats: a few strings around each message, from which both the ids and the Jinja template are made.

| format | a system message, a question, an answer |
|---|---|
| plain | `System: S⏎User: Q⏎Assistant: A</s>` |
| lima | `S⏎⏎Q</s>A</s>` |
| llama2 | `[INST] <<SYS>>⏎S⏎<</SYS>>⏎⏎Q [/INST] A </s>` |
| llama3 | `<|start_header_id|>system<|end_header_id|>⏎⏎S<|eot_id|>` and so on for user and assistant |
| chatml | `<|im_start|>system⏎S<|im_end|>⏎` and so on for user and assistant |

One BOS before all that where the tokenizer has one, in llama2 too, where Meta's own code puts one before each question.
White space at a message's edges is trimmed.
"""

import re
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.instructions.encoding import ChatEncoder, Part
from bllossom.instructions.formats.format import Example
from bllossom.instructions.messages import Conversation

EOS = "\0"
"""Stands for the tokenizer's EOS in a layout."""


@dataclass(frozen=True)
class Layout:
    """What stands before and behind each message."""

    name: str
    system: tuple[str, str]
    user: tuple[str, str]
    header: str  # before an answer; what a generation prompt ends in
    lead: str  # the answer's own first characters, supervised
    trail: str  # what ends an answer, supervised
    after: str = ""  # behind that
    opening: str | None = None  # before the question that a system message came before; None: as before any
    controls: tuple[str, ...] = ()  # special tokens that it needs

    def with_eos(self, text: str) -> "Layout":
        """The layout with this text as EOS."""

        def put(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(put, value))
            return value.replace(EOS, text) if isinstance(value, str) else value

        return Layout(**{field.name: put(getattr(self, field.name)) for field in fields(self)})


PLAIN = Layout("plain", ("System: ", "\n"), ("User: ", "\nAssistant:"), header="", lead=" ", trail=EOS)
LIMA = Layout("lima", ("", "\n\n"), ("", EOS), header="", lead="", trail=EOS)
"""No role words, as in LIMA (arXiv 2305.11206, section 3); its end-of-turn piece is here the tokenizer's EOS."""
LLAMA2 = Layout(
    "llama2",
    ("[INST] <<SYS>>\n", "\n<</SYS>>\n\n"),
    ("[INST] ", " [/INST]"),
    header="",
    lead=" ",
    trail=f" {EOS}",
    opening="",
)
"""github.com/meta-llama/llama, llama/generation.py."""
LLAMA3 = Layout(
    "llama3",
    ("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
    ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
    header="<|start_header_id|>assistant<|end_header_id|>\n\n",
    lead="",
    trail="<|eot_id|>",
    controls=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)
"""github.com/meta-llama/llama3, llama/tokenizer.py, ChatFormat."""
CHATML = Layout(
    "chatml",
    ("<|im_start|>system\n", "<|im_end|>\n"),
    ("<|im_start|>user\n", "<|im_end|>\n"),
    header="<|im_start|>assistant\n",
    lead="",
    trail="<|im_end|>",
    after="\n",
    controls=("<|im_start|>", "<|im_end|>"),
)
"""github.com/openai/openai-python, chatml.md of 2023; the form of Qwen and SmolLM2."""
LAYOUTS: tuple[Layout, ...] = (PLAIN, LIMA, LLAMA2, LLAMA3, CHATML)


class LayoutFormat:
    """See ChatFormat."""

    def __init__(self, layout: Layout, tokenizer: PreTrainedTokenizerFast) -> None:
        """Raises BllossomError where the tokenizer lacks EOS or a piece that the layout needs."""
        self.name = layout.name
        self._encoder = ChatEncoder(tokenizer, layout.controls)
        if not layout.controls and tokenizer.eos_token is None:
            raise BllossomError(f"template: {layout.name} needs an EOS token; set eos_token in tokenizer_config.json")
        for control in layout.controls:
            if control not in self._encoder.controls:  # it would become ordinary text in silence
                fitting = " or ".join(fitting_layouts(tokenizer))
                raise BllossomError(
                    f"template: {layout.name} needs the special token {control}, which the tokenizer does not have; "
                    f"set template to {fitting or 'a Jinja file, or set eos_token in tokenizer_config.json'}"
                )
        self._layout = layout.with_eos(tokenizer.eos_token or "")
        self._bos = tokenizer.bos_token if tokenizer.bos_token not in (None, *layout.controls) else ""
        self.template = jinja_of(layout, bos=bool(self._bos))
        ends = self._encoder.control.findall(self._layout.trail)
        self.end_ids: tuple[int, ...] = (self._encoder.controls[ends[-1]],)

    def encode(self, conversation: Conversation) -> Example:
        """See ChatFormat."""
        contents = [message.content.strip() for message in conversation.messages]
        guarded, guards = self._encoder.guarded(contents)
        encoded = self._encoder.encode(self._parts(conversation, guarded), guards)
        return Example(
            np.array(encoded.ids, np.int64),
            np.array(encoded.supervised, np.bool_),
            conversation.source,
            encoded.straddling,
            contents != [message.content for message in conversation.messages],
            conversation.language,
        )

    def prompt(self, conversation: Conversation) -> list[int]:
        """See ChatFormat."""
        guarded, guards = self._encoder.guarded([message.content.strip() for message in conversation.messages])
        return self._encoder.encode([*self._parts(conversation, guarded), Part(self._layout.header)], guards).ids

    def _parts(self, conversation: Conversation, contents: list[str]) -> list[Part]:
        layout, parts, opening = self._layout, [Part(self._bos)], None
        for message, content in zip(conversation.messages, contents, strict=True):
            if message.role == "system":
                parts.append(Part(content.join(layout.system)))
                opening = layout.opening
            elif message.role == "user":
                before = layout.user[0] if opening is None else opening
                parts.append(Part(before + content + layout.user[1]))
                opening = None
            else:
                answer = Part(layout.lead + content + layout.trail, supervised=True)
                parts += [Part(layout.header), answer, Part(layout.after)]
        return parts


def fitting_layouts(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The layouts whose pieces are all there."""
    controls = {token.content for token in tokenizer.added_tokens_decoder.values()}
    return [
        layout.name
        for layout in LAYOUTS
        if set(layout.controls) <= controls and (layout.controls or tokenizer.eos_token)
    ]


def jinja_of(layout: Layout, *, bos: bool) -> str:
    """The layout as a template for `apply_chat_template`."""
    content = "(message['content'] | trim)"
    question = _sum(_quoted(layout.user[0]), content, _quoted(layout.user[1]))
    if layout.opening is not None:
        opening = _sum(_quoted(layout.opening), content, _quoted(layout.user[1]))
        question = f"{opening} if system and loop.first else {question}"
    return "".join(
        [
            "{% set system = (messages[0]['content'] | trim) if messages[0]['role'] == 'system' else '' %}",
            "{% set turns = messages[1:] if messages[0]['role'] == 'system' else messages %}",
            "{{ bos_token }}" if bos else "",
            "{% if system %}",
            f"{{{{ {_sum(_quoted(layout.system[0]), 'system', _quoted(layout.system[1]))} }}}}",
            "{% endif %}",
            "{% for message in turns %}",
            "{% if message['role'] != ['user', 'assistant'][loop.index0 % 2] %}",
            "{{ raise_exception('the turns should be user, assistant, user, …') }}",
            "{% endif %}",
            "{% if message['role'] == 'user' %}",
            f"{{{{ {question} }}}}",
            "{% else %}",
            f"{{{{ {_sum(_quoted(layout.header + layout.lead), content, _quoted(layout.trail + layout.after))} }}}}",
            "{% endif %}",
            "{% endfor %}",
            f"{{% if add_generation_prompt %}}{{{{ {_quoted(layout.header)} }}}}{{% endif %}}" if layout.header else "",
        ]
    )


def _sum(*terms: str) -> str:
    return " + ".join(term for term in terms if term)


def _quoted(text: str) -> str:
    """A text as a Jinja expression, EOS by its name; nothing where it is empty."""
    parts = re.split(f"({EOS})", text)
    escaped = [part.replace("\n", "\\n") for part in parts]
    return _sum(*("eos_token" if part == EOS else part and f"'{part}'" for part in escaped))
