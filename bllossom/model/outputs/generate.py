"""Answers of a causal language model, many at a time: greedy or sampled, on CPU or GPU, with or without an adapter.

Prompts are batched by length and padded on the left, and share one key-value cache a batch; a row that has ended leaves
it. The answer to a prompt is a function of its ids, its seed and `Decoding`, whatever else is in the batch, but for
floating point: matrix products of another shape round otherwise (about 1e-6 of a logit in fp32, 1e-2 in bf16), so a
token that is all but tied with another, or a draw that falls on the border of two, can come out differently. Where that
must not be, take `batch_size` 1.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Literal, cast

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from bllossom.errors import BllossomError
from bllossom.model.outputs.draw import draw
from bllossom.model.window import longest_input

Finish = Literal["stop", "length"]
FORGOTTEN = 0.1
"""Of the norm of the logits: rounding in bf16 is a few hundredths, and nothing read about one."""
STOP_TAIL_TOKENS = 4  # decoded besides as many tokens as a stop string has bytes: it begins within these


@dataclass(frozen=True)
class Prompt:
    """What is continued: token ids, and the seed of this prompt's own random numbers."""

    ids: Sequence[int]
    seed: int = 0


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen, and where an answer ends."""

    max_tokens: int
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that hold this share of the probability."""
    stop_ids: frozenset[int] = frozenset()
    stop_strings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generated:
    """One answer. `ids` are without the stop id; `text` is without the stop string and what follows it."""

    index: int  # of its prompt
    ids: list[int]
    text: str
    finish: Finish
    seconds: float  # from the start of its batch to its last token


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that end an answer: the tokenizer's EOS and all that generation_config.json names."""
    return configured_stops(model.generation_config) | ({tokenizer.eos_token_id} - {None})


def configured_stops(config: GenerationConfig | None) -> frozenset[int]:
    """The ids that a generation_config.json names."""
    configured = None if config is None else config.eos_token_id
    named = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in named if token is not None)


def before_stop(text: str, stops: Sequence[str]) -> str | None:
    """The text before the first of these strings; None where none is in it."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else None


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    *,
    batch_size: int,
    on_token: Callable[[int, int], None] | None = None,
) -> Iterator[Generated]:
    """Yield the answer of each prompt as soon as it has ended, in no order of its own.

    An answer ends at a stop id, at a stop string, after `max_tokens` tokens, or where the model's window is full.
    `on_token(index, id)` is called for each token of each answer as it comes, stop ids left out.

    Raises:
        BllossomError: a prompt has no token, or leaves no room in the window; or the model forgets what it read.
    """
    _check_memory(model)
    decoding = replace(decoding, stop_ids=decoding.stop_ids | special_stops(tokenizer, decoding.stop_strings))
    window = longest_input(model.config)
    for number, prompt in enumerate(prompts):
        if not 0 < len(prompt.ids) < window:
            raise BllossomError(
                f"prompt {number} has {len(prompt.ids):,} tokens; the model's window of {window:,} takes 1 to "
                f"{window - 1:,} and an answer behind them: change that prompt"
            )
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index].ids), index))
    for start in range(0, len(order), batch_size):
        rows = [
            _Row(
                index,
                prompts[index],
                min(decoding.max_tokens, window - len(prompts[index].ids)),
                torch.Generator(model.device).manual_seed(prompts[index].seed),
            )
            for index in order[start : start + batch_size]
        ]
        batch = _Batch(model, tokenizer, decoding, rows, on_token)
        while batch.rows:
            yield from batch.step()


def special_stops(tokenizer: PreTrainedTokenizerBase, stop_strings: Collection[str]) -> frozenset[int]:
    """The ids of stop strings that are special tokens: an answer's text is without those, so none is found there."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(number for number, token in added if token.special and token.content in stop_strings)


@torch.inference_mode()
def _check_memory(model: PreTrainedModel) -> None:
    """A model whose cache does not grow keeps a state (Mamba), and may keep it elsewhere: a token would follow nothing.

    Such a one is given a text in two parts, beside a shorter one, and has to make the same of it as of the whole.
    """
    ids = torch.tensor([[0, 1, 2], [0, 1, 2]], device=model.device)
    mask = torch.tensor([[1, 1, 1], [0, 1, 1]], device=model.device)
    cache = DynamicCache(config=model.config)
    model(input_ids=ids[:, :2], attention_mask=mask[:, :2], past_key_values=cache, use_cache=True)
    with contextlib.suppress(ValueError):  # no layer of it grows
        if cache.get_seq_length() == 2:
            return
    found = model(input_ids=ids[:, 2:], attention_mask=mask, past_key_values=cache, use_cache=True).logits[:, -1]
    whole = torch.stack([model(input_ids=ids[:1]).logits[0, -1], model(input_ids=ids[:1, 1:]).logits[0, -1]])
    if torch.dist(found.float(), whole.float()) > FORGOTTEN * whole.float().norm():
        raise BllossomError(
            f"{model.config.model_type}: what this kind of model has read is not kept between its tokens here, so that "
            "its answers would not follow from their prompts; scores of tasks that choose among endings do not need it"
        )


@dataclass
class _Row:
    """One answer that is being made."""

    index: int
    prompt: Prompt
    limit: int  # tokens
    random: torch.Generator
    ids: list[int] = field(default_factory=list)


class _Batch:
    """Rows that are continued together, one token a step. `mask` is bool [rows, tokens so far], False at padding."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        decoding: Decoding,
        rows: list[_Row],
        on_token: Callable[[int, int], None] | None,
    ) -> None:
        self.model, self.tokenizer, self.decoding, self.rows, self.on_token = model, tokenizer, decoding, rows, on_token
        self.cache = DynamicCache(config=model.config)
        self.started = perf_counter()
        longest = max(len(row.prompt.ids) for row in rows)
        pads = [longest - len(row.prompt.ids) for row in rows]
        ids = [[0] * pad + list(row.prompt.ids) for pad, row in zip(pads, rows, strict=True)]
        self.input_ids = torch.tensor(ids, device=model.device)
        self.mask = torch.arange(longest)[None] >= torch.tensor(pads)[:, None]
        self.mask = self.mask.to(model.device)
        self.positions = (self.mask.cumsum(1) - 1).clamp(min=0)

    def step(self) -> list[Generated]:
        """Give every row its next token; the rows that end with it leave the batch."""
        chosen = self._next_tokens()
        ended, kept = [], []
        for place, (row, token) in enumerate(zip(self.rows, chosen, strict=True)):
            finished = self._append(row, token)
            if finished is None:
                kept.append(place)
            else:
                ended.append(finished)
        self._keep(kept, chosen)
        return ended

    @torch.inference_mode()
    def _next_tokens(self) -> list[int]:
        padded = not bool(self.mask[:, 0].all())
        logits = self.model(
            input_ids=self.input_ids,
            attention_mask=self.mask.long() if padded else None,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if self.decoding.temperature == 0:
            return logits.argmax(-1).tolist()
        noise = torch.empty(logits.shape, device=logits.device)
        for values, row in zip(noise, self.rows, strict=True):
            values.exponential_(generator=row.random)
        return draw(logits, noise, self.decoding.temperature, self.decoding.top_p).tolist()

    def _append(self, row: _Row, token: int) -> Generated | None:
        """Add a token to an answer; the answer, if it ends here."""
        if token in self.decoding.stop_ids:
            return self._ended(row, self._decode(row.ids), "stop")
        row.ids.append(token)
        if self.on_token is not None:
            self.on_token(row.index, token)
        before = self._before_stop(row.ids)
        if before is not None:
            return self._ended(row, before, "stop")
        return self._ended(row, self._decode(row.ids), "length") if len(row.ids) == row.limit else None

    def _ended(self, row: _Row, text: str, finish: Finish) -> Generated:
        return Generated(row.index, row.ids, text, finish, perf_counter() - self.started)

    def _before_stop(self, ids: list[int]) -> str | None:
        """The text before the first stop string, if there is one. Only the end is decoded for a first look."""
        if not self.decoding.stop_strings:
            return None
        longest = max(len(stop.encode()) for stop in self.decoding.stop_strings)
        tail = self._decode(ids[-longest - STOP_TAIL_TOKENS :])
        if not any(stop in tail for stop in self.decoding.stop_strings):
            return None
        return before_stop(self._decode(ids), self.decoding.stop_strings)

    def _decode(self, ids: list[int]) -> str:
        text: Any = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    @torch.inference_mode()
    def _keep(self, kept: list[int], chosen: list[int]) -> None:
        """Go on with the rows at these places, each with the token that was chosen for it."""
        if len(kept) < len(self.rows) and kept:
            places = torch.tensor(kept, device=self.mask.device)
            # batch_select_indices knows no layers but attention; transformers takes any integers for a LongTensor here
            self.cache.reorder_cache(cast(torch.LongTensor, places))
            self.mask, self.positions = self.mask[places], self.positions[places]
        self.rows = [self.rows[place] for place in kept]
        if kept:
            self.input_ids = torch.tensor([[chosen[place]] for place in kept], device=self.mask.device)
            self.positions = self.positions[:, -1:] + 1
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(kept), 1)], 1)
