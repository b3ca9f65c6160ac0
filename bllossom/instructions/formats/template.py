"""Somebody's Jinja template as a format: the model's own, or a file. The rendering rules; the mask is read off it.

Where the template marks answers with `{% generation %}`, that is the mask. Else the conversation is rendered message by
message:

    render(up to the question, with the generation prompt)   <|user|>Q<|end|><|assistant|>
    render(up to the answer)                                  <|user|>Q<|end|><|assistant|>A<|end|>⏎
    what is new, up to its last special token, is supervised                              ********

A template that asks for today's date is given a fixed one (see tokenizer/chat_template.py).
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from bllossom.errors import BllossomError
from bllossom.instructions.encoding import ChatEncoder, Guards, Part, any_of
from bllossom.instructions.formats.format import Example
from bllossom.instructions.messages import Conversation, Message, UnusableError
from bllossom.tokenizer.chat_template import with_fixed_date

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
WORD = re.compile(r"\w+")
REMEDY = "mark answers with {% generation %} in it, or set template to another format"
ASKED, ANSWERED = "What is asked?", "What is answered."  # to try a template with


class TemplateFormat:
    """See ChatFormat."""

    def __init__(self, template: str, tokenizer: PreTrainedTokenizerFast, name: str) -> None:
        """Raises BllossomError where the template ends an answer with no special token, so that no generation would
        stop, or has no place for what a message says."""
        self.name = name
        self.template = template
        self._rendering = with_fixed_date(template)
        self._tokenizer = tokenizer
        try:
            self._encoder = ChatEncoder(tokenizer, self._marks())
            self.end_ids: tuple[int, ...] = self._ends()
        except UnusableError as error:
            raise BllossomError(str(error)) from error

    def encode(self, conversation: Conversation) -> Example:
        """See ChatFormat. UnusableError also where the rendering of a prefix is no prefix of the rendering."""
        guarded, guards = self._guarded(conversation)
        parts = self._parts(guarded)
        self._check_said("".join(part.text for part in parts), guarded)
        encoded = self._encoder.encode(parts, guards)
        return Example(
            np.array(encoded.ids, np.int64),
            np.array(encoded.supervised, np.bool_),
            conversation.source,
            encoded.straddling,
            language=conversation.language,
        )

    def prompt(self, conversation: Conversation) -> list[int]:
        """See ChatFormat."""
        guarded, guards = self._guarded(conversation)
        rendered = self._render(guarded, prompt=True)
        # Of earlier answers a template may cut what nobody is to read again, as reasoning; none of them is learned.
        self._check_said(rendered, [message for message in guarded if message["role"] != "assistant"])
        return self._encoder.encode([Part(rendered)], guards).ids

    def _guarded(self, conversation: Conversation) -> tuple[list[dict[str, str]], Guards]:
        contents, guards = self._encoder.guarded([message.content for message in conversation.messages])
        messages = conversation.as_dicts()
        return [message | {"content": text} for message, text in zip(messages, contents, strict=True)], guards

    def _check_said(self, rendered: str, messages: list[dict[str, str]]) -> None:
        """Raises UnusableError where the rendering does not hold what the messages say, in their order. A system
        message may stand anywhere: some templates put it before the last question."""
        done = 0
        for message in messages:
            system = message["role"] == "system"
            end = end_of(message["content"], rendered, 0 if system else done)
            if end is None:
                raise UnusableError(
                    f"template {self.name} leaves out what the {message['role']} says ({message['content']!r:.40}…), "
                    "or a part of it; take that out of the record, or set template to another format"
                )
            done = done if system else end

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
        rendered = self._tried(
            lambda: render_jinja_template(
                [messages],
                chat_template=self._rendering,
                return_assistant_tokens_mask=True,
                **dict[str, Any](self._tokenizer.special_tokens_map),
            )
        )
        [whole], [spans] = rendered
        parts: list[Part] = []
        done = 0
        for begin, end in spans:
            parts += [Part(whole[done:begin]), Part(whole[begin:end], supervised=True)]
            done = end
        return [*parts, Part(whole[done:])]

    def _render(self, messages: list[dict[str, str]], *, prompt: bool = False) -> str:
        rendered = self._tried(
            lambda: self._tokenizer.apply_chat_template(
                messages, chat_template=self._rendering, tokenize=False, add_generation_prompt=prompt
            )
        )
        return str(rendered)

    def _tried(self, render: Callable[[], Any]) -> Any:
        try:
            return render()
        except Exception as error:  # somebody else's program: it may divide by zero, or take a text for a list
            raise UnusableError(f"template {self.name} refuses it ({error}); set template to another format") from error

    def _last_control(self, said: str) -> int:
        """Where an answer's last special token ends; what is behind it nobody has to generate."""
        found = list(self._encoder.control.finditer(said))
        if not found:
            raise UnusableError(f"template {self.name}: an answer ends with no special token; {REMEDY}")
        return found[-1].end()

    def _marks(self) -> list[str]:
        """The added tokens that the template puts around messages, whether the tokenizer calls them special or not."""
        turns = (Message("user", ASKED), Message("assistant", ANSWERED), Message("user", ASKED))
        added = any_of(token.content for token in self._tokenizer.added_tokens_decoder.values())
        return added.findall(self._render(Conversation(turns).as_dicts(), prompt=True))

    def _ends(self) -> tuple[int, ...]:
        probe = Conversation((Message("user", ASKED), Message("assistant", ANSWERED)))
        parts = self._parts(probe.as_dicts())
        learned, rest = ("".join(part.text for part in parts if part.supervised is kind) for kind in (True, False))
        if ANSWERED not in learned or ASKED not in rest or ASKED in learned:
            raise UnusableError(
                f"template {self.name}: it does not give a question to read and its answer to learn, but {learned!r} "
                "to learn; set template to another format"
            )
        example = self.encode(probe)
        last = int(example.ids[example.supervised][-1]) if example.supervised.any() else -1
        if not self._encoder.is_control(last):
            raise UnusableError(f"template {self.name}: no special token behind an answer is supervised; {REMEDY}")
        return (last,)


def end_of(said: str, rendered: str, start: int = 0) -> int | None:
    """Where the text of a message ends in a rendering, from `start` on; None where it is not there whole.

    A template may trim a text, and escape characters or set white space otherwise: then its words are there in order.
    """
    text = said.strip()
    place = rendered.find(text, start)
    if place >= 0:
        return place + len(text)
    words = WORD.findall(text)
    for word in words:
        place = rendered.find(word, start)
        if place < 0:
            return None
        start = place + len(word)
    return start if words else None
