"""A rendered conversation to ids and mask, born together. What a message says never becomes a control id.

    parts     <s>[INST] Where is </s>? [/INST]  ·  It is text. </s>
    mask      ---------------------------------  *****************

The ids are those of the rendering as a whole, which is what `apply_chat_template` gives. Where a message holds the text
of a special token, that text alone is encoded as text; `apply_chat_template` would make a control id of it.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

PRIVATE_USE = range(0xE000, 0xF900)
FIRST_PREFIX, NO_PREFIX = '"prepend_scheme": "first"', '"prepend_scheme": "never"'


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
    """Encodes parts with a tokenizer's own implementation."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.controls = {token.content: id_ for id_, token in tokenizer.added_tokens_decoder.items()}
        self._control_ids = frozenset(self.controls.values())
        texts = sorted(filter(None, self.controls), key=len, reverse=True)
        self.control = re.compile("|".join(map(re.escape, texts)) or r"(?!)")
        settings = json.loads(tokenizer.backend_tokenizer.to_str())
        # It adds nothing here, but a byte-level one would cut white space from the pieces' offsets.
        settings["post_processor"] = settings["truncation"] = settings["padding"] = None
        self._backend = Tokenizer.from_str(json.dumps(settings))
        # Behind a control piece no space goes before a text where one goes before the first text only.
        self._behind = self._backend
        if FIRST_PREFIX in json.dumps(settings):
            self._behind = Tokenizer.from_str(json.dumps(settings).replace(FIRST_PREFIX, NO_PREFIX))

    def is_control(self, id_: int) -> bool:
        """Whether an id is one of the tokenizer's added tokens."""
        return id_ in self._control_ids

    def guarded(self, contents: Sequence[str]) -> tuple[list[str], str]:
        """The contents with a guard, a character that none of them holds, within each special token's text, and the
        guard; it is empty where there was nothing to guard."""
        if not any(self.control.search(content) for content in contents):
            return list(contents), ""
        used = set("".join(contents))
        guard = next(chr(code) for code in PRIVATE_USE if chr(code) not in used)
        return [self._guard(content, guard) for content in contents], guard

    def _guard(self, content: str, guard: str) -> str:
        while self.control.search(content):  # again, as one may begin within another
            content = self.control.sub(lambda found: found[0][:1] + guard + found[0][1:], content)
        return content

    def encode(self, parts: Iterable[Part], guard: str = "") -> Encoded:
        """The ids of the parts, put together as one text without the guard."""
        parts = list(parts)
        text = "".join(part.text for part in parts)
        mask = [part.supervised for part in parts for _ in part.text]
        whole = self._backend.encode(text, add_special_tokens=False)
        builder = _Builder()
        if not guard or guard not in text:
            builder.add(whole.ids, whole.offsets, mask)
            return builder.encoded()
        first = begin = 0
        edges = [index for index, id_ in enumerate(whole.ids) if id_ in self._control_ids]
        for index in [*edges, len(whole.ids)]:
            end, after = whole.offsets[index] if index < len(whole.ids) else (len(text), len(text))
            if guard in text[begin:end]:
                flags = [mask[place] for place in range(begin, end) if text[place] != guard]
                run = self._text(builder, text[begin:end].replace(guard, ""))
                builder.add(run.ids, run.offsets, flags)
                first = index
            builder.add(whole.ids[first : index + 1], whole.offsets[first : index + 1], mask)
            first, begin = index + 1, after
        return builder.encoded()

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
