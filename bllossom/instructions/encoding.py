"""A rendered conversation to ids and mask, born together. What a message says never becomes a control id.

    parts     <s>[INST] Where is </s>? [/INST]  ·  It is text. </s>
    mask      ---------------------------------  *****************

The ids are those of the rendering as a whole, which is what `apply_chat_template` gives. Where a message holds the text
of a special token, that text alone is encoded as text; `apply_chat_template` would make a control id of it.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

PRIVATE_USE = range(0xE000, 0xF900)
Guards = Mapping[int, str]
"""Code points that stand for a character, as `str.translate` takes them."""
NO_GUARDS: Guards = MappingProxyType({})
FIRST_PREFIX, NO_PREFIX = '"prepend_scheme": "first"', '"prepend_scheme": "never"'


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Finds any of these texts, the longest one where several begin."""
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a rendered conversation, in which special tokens are meant as such."""

    text: str
    supervised: bool = False


@dataclass(frozen=True)
class Encoded:
    """Ids and, for each of them, whether it carries loss."""

    ids: list[int]
    supervised: list[bool]
    straddling: int  # pieces with a prompt's characters and an answer's; they carry no loss


class ChatEncoder:
    """Encodes parts with a tokenizer's own implementation.

    Controls are its special tokens, and those of its other added tokens that a format names, since not everybody marks
    the pieces of a chat as special. Of the rest (Gemma's runs of line ends, Qwen's `<think>`) messages are free to make
    use, as `apply_chat_template` lets them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, named: Collection[str] = ()) -> None:
        added = tokenizer.added_tokens_decoder.items()
        self.controls = {token.content: id_ for id_, token in added if token.special or token.content in named}
        self._control_texts = {id_: text for text, id_ in self.controls.items()}
        self.control = any_of(self.controls)
        settings = json.loads(tokenizer.backend_tokenizer.to_str())
        for token in settings["added_tokens"]:
            token["special"] = token["content"] in self.controls
        # It adds nothing here, but a byte-level one would cut white space from the pieces' offsets.
        settings["post_processor"] = settings["truncation"] = settings["padding"] = None
        self._backend = Tokenizer.from_str(json.dumps(settings))
        # Behind a control piece no space goes before a text where one goes before the first text only.
        self._behind = self._backend
        if FIRST_PREFIX in json.dumps(settings):
            self._behind = Tokenizer.from_str(json.dumps(settings).replace(FIRST_PREFIX, NO_PREFIX))

    def is_control(self, id_: int) -> bool:
        """Whether an id is a control's."""
        return id_ in self._control_texts

    def guarded(self, contents: Sequence[str]) -> tuple[list[str], Guards]:
        """The contents with a stand-in for the first character of each control's text in them, and what the stand-ins,
        which none of them holds, stand for."""
        if not any(self.control.search(content) for content in contents):
            return list(contents), {}
        used = set("".join([*contents, *self.controls]))
        free = (chr(code) for code in PRIVATE_USE if chr(code) not in used)
        stand_ins = dict(zip(sorted({text[0] for text in self.controls if text}), free, strict=False))
        guards = {ord(stand_in): character for character, stand_in in stand_ins.items()}
        return [self._guard(content, stand_ins) for content in contents], guards

    def _guard(self, content: str, stand_ins: Mapping[str, str]) -> str:
        while self.control.search(content):  # again, as one may begin within another
            content = self.control.sub(lambda found: stand_ins[found[0][0]] + found[0][1:], content)
        return content

    def encode(self, parts: Iterable[Part], guards: Guards = NO_GUARDS) -> Encoded:
        """The ids of the parts, put together as one text, what is guarded as text."""
        parts = list(parts)
        text = "".join(part.text for part in parts)
        mask = [part.supervised for part in parts for _ in part.text]
        whole = self._backend.encode(text, add_special_tokens=False)
        plain = text.translate(guards)
        # A control takes white space beside it along where it is made to (lstrip, rstrip); that is none of its text.
        offsets = [self._own(text, id_, span) for id_, span in zip(whole.ids, whole.offsets, strict=True)]
        builder = _Builder()
        if plain == text:
            builder.add(whole.ids, offsets, mask)
            return builder.encoded()
        first = begin = 0
        # A stand-in that a tokenizer has no piece for is its unknown piece here: a control's id, but none of its text.
        own = [text[begin:end] for begin, end in offsets]
        edges = [index for index, id_ in enumerate(whole.ids) if own[index] == self._control_texts.get(id_)]
        for index in [*edges, len(whole.ids)]:
            end, after = whole.offsets[index] if index < len(whole.ids) else (len(text), len(text))
            if plain[begin:end] != text[begin:end]:
                run = self._text(builder, plain[begin:end])
                builder.add(run.ids, run.offsets, mask[begin:end])
                first = index
            builder.add(whole.ids[first : index + 1], offsets[first : index + 1], mask)
            first, begin = index + 1, after
        return builder.encoded()

    def _own(self, text: str, id_: int, span: tuple[int, int]) -> tuple[int, int]:
        control = self._control_texts.get(id_)
        place = -1 if control is None else text.find(control, *span)
        return span if control is None or place < 0 else (place, place + len(control))

    def _text(self, builder: "_Builder", run: str) -> Any:
        """What stands between two controls, encoded as text alone."""
        backend = self._behind if builder.ids else self._backend
        backend.encode_special_tokens = True
        encoding = backend.encode(run, add_special_tokens=False)
        backend.encode_special_tokens = False
        return encoding


class _Builder:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.supervised: list[bool] = []
        self.straddling = 0

    def add(self, ids: Sequence[int], offsets: Sequence[tuple[int, int]], mask: Sequence[bool]) -> None:
        """Append pieces with the characters that they stand for, and what the mask says of these."""
        for id_, (begin, end) in zip(ids, offsets, strict=True):
            # A space that SentencePiece puts before a text stands for nothing: it goes with what follows.
            flags = mask[begin:end] or mask[begin : begin + 1] or mask[-1:]
            self.ids.append(id_)
            self.supervised.append(all(flags))
            self.straddling += any(flags) and not all(flags)

    def encoded(self) -> Encoded:
        return Encoded(self.ids, self.supervised, self.straddling)
