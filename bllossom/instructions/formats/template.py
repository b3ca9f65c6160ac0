"""Somebody's Jinja template as a format: the model's own, or a file. The rendering rules; the mask is read off it.

Where the template marks answers with `{% generation %}`, that is the mask. Else the conversation is rendered message by
message:

    render(up to the question, with the generation prompt)   <|user|>Q<|end|><|assistant|>
    render(up to the answer)                                  <|user|>Q<|end|><|assistant|>A<|end|>⏎
    what is new, up to its last special token, is supervised                              ********
"""

import re
from typing import Any

import numpy as np
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from bllossom.errors import BllossomError
from bllossom.instructions.encoding import ChatEncoder, Part
from bllossom.instructions.formats.format import Example
from bllossom.instructions.messages import Conversation, Message, UnusableError

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
REMEDY = "mark answers with {% generation %} in it, or set template to another format"


class TemplateFormat:
    """See ChatFormat."""

    def __init__(self, template: str, tokenizer: PreTrainedTokenizerFast, name: str) -> None:
        """Raises BllossomError where the template ends an answer with no special token: no generation would stop."""
        self.name = name
        self.template = template
        self._tokenizer = tokenizer
        self._encoder = ChatEncoder(tokenizer)
        self.end_ids: tuple[int, ...] = self._ends()

    def encode(self, conversation: Conversation) -> Example:
        """See ChatFormat. UnusableError also where the rendering of a prefix is no prefix of the rendering."""
        guarded, guard = self._guarded(conversation)
        encoded = self._encoder.encode(self._parts(guarded), guard)
        return Example(
            np.array(encoded.ids, np.int64),
            np.array(encoded.supervised, np.bool_),
            conversation.source,
            encoded.straddling,
            language=conversation.language,
        )

    def prompt(self, conversation: Conversation) -> list[int]:
        """See ChatFormat."""
        guarded, guard = self._guarded(conversation)
        return self._encoder.encode([Part(self._render(guarded, prompt=True))], guard).ids

    def _guarded(self, conversation: Conversation) -> tuple[list[dict[str, str]], str]:
        contents, guard = self._encoder.guarded([message.content for message in conversation.messages])
        messages = conversation.as_dicts()
        return [message | {"content": text} for message, text in zip(messages, contents, strict=True)], guard

    def _parts(self, messages: list[dict[str, str]]) -> list[Part]:
        if GENERATION.search(self.template):
            return self._marked(messages)
        whole, done = self._render(messages), 0
        parts: list[Part] = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before, after = self._render(messages[:number], prompt=True), self._render(messages[: number + 1])
            if not (after.startswith(before) and whole.startswith(after)):
                raise UnusableError(
                    f"template {self.name}: it renders the conversation up to message {number + 1} otherwise than "
                    f"within the whole, so that no mask can be read off it; {REMEDY}"
                )
            end = len(before) + self._last_control(after[len(before) :])
            parts += [Part(whole[done : len(before)]), Part(whole[len(before) : end], supervised=True)]
            done = end
        return [*parts, Part(whole[done:])]

    def _marked(self, messages: list[dict[str, str]]) -> list[Part]:
        try:
            rendered: Any = render_jinja_template(
                [messages],
                chat_template=self.template,
                return_assistant_tokens_mask=True,
                **dict[str, Any](self._tokenizer.special_tokens_map),
            )
        except TemplateError as error:
            raise UnusableError(f"template {self.name} refuses it ({error}); {REMEDY}") from error
        [whole], [spans] = rendered
        parts: list[Part] = []
        done = 0
        for begin, end in spans:
            parts += [Part(whole[done:begin]), Part(whole[begin:end], supervised=True)]
            done = end
        return [*parts, Part(whole[done:])]

    def _render(self, messages: list[dict[str, str]], *, prompt: bool = False) -> str:
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=prompt
            )
        except TemplateError as error:
            raise UnusableError(f"template {self.name} refuses it ({error}); set template to another format") from error
        return str(rendered)

    def _last_control(self, said: str) -> int:
        """Where an answer's last special token ends; what is behind it nobody has to generate."""
        found = list(self._encoder.control.finditer(said))
        if not found:
            raise UnusableError(f"template {self.name}: an answer ends with no special token; {REMEDY}")
        return found[-1].end()

    def _ends(self) -> tuple[int, ...]:
        probe = Conversation((Message("user", "a"), Message("assistant", "b")))
        try:
            example = self.encode(probe)
        except UnusableError as error:
            raise BllossomError(str(error)) from error
        last = int(example.ids[example.supervised][-1]) if example.supervised.any() else -1
        if not self._encoder.is_control(last):
            raise BllossomError(f"template {self.name}: no special token behind an answer is supervised; {REMEDY}")
        return (last,)
