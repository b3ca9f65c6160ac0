"""A model that answers in its own chat form: a folder, a LoRA adapter's folder, or a hub id."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from bllossom.config import named_path
from bllossom.console import progress, say
from bllossom.errors import BllossomError, ConfigError
from bllossom.hub import is_hub_id
from bllossom.instructions.formats.choose import FormatName, chat_format
from bllossom.instructions.formats.format import ChatFormat
from bllossom.instructions.messages import UnusableError, conversation
from bllossom.model.load import base_of, clear_failures, import_peft, load_causal
from bllossom.model.outputs.generate import Decoding, Generated, Prompt, generate, stop_ids
from bllossom.model.window import longest_input
from bllossom.tokenizer.chat_template import told_date
from bllossom.tokenizer.files import TOKENIZER_FILES
from bllossom.tokenizer.load import load_tokenizer

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class AnswerModel:
    """Weights, tokenizer and chat form, ready to answer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    form: ChatFormat

    @classmethod
    def load(cls, source: str, template: FormatName | Path | None, device: Device) -> "AnswerModel":
        """Load a model folder, an adapter's folder or a hub id; `template` as in sft, null for the model's own.

        Raises:
            BllossomError: no model loads, it is not whole, has fewer rows than its tokenizer pieces or no chat form,
                or there is no GPU.
        """
        base, adapter = base_of(source)
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device: cuda: there is no GPU here; set device to auto")
        placed = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        # Before the weights: a missing chat form is told at once.
        tokenizer = load_tokenizer(_tokenizer_of(source, base))
        form = chat_format(template, tokenizer)
        if line := told_date(form.template):
            say(line)
        disable_progress_bar()
        # A GPU takes the weights as they are; on a CPU bf16 is slower than fp32, and less exact.
        placement: dict[str, Any] = (
            {"dtype": "auto", "device_map": "cuda"} if placed == "cuda" else {"dtype": torch.float32}
        )
        model: Any = load_causal(base, **placement)
        if adapter is not None:
            model = _with_adapter(model, adapter)
        rows = int(model.config.vocab_size)
        if len(tokenizer) > rows:
            raise BllossomError(
                f"{source}: its tokenizer has {len(tokenizer):,} pieces, its model {rows:,} rows; "
                "put the tokenizer there that the model was made with"
            )
        return cls(model.eval(), tokenizer, form)

    @property
    def window(self) -> int:
        """The longest input, in tokens; a prompt has to be shorter."""
        return longest_input(self.model.config)

    def encode(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The ids of a conversation that ends in a question, up to where the answer begins.

        Raises:
            BllossomError: the chat form has no place for one of the messages.
        """
        try:
            said = conversation([(message["role"], message["content"]) for message in messages], ends="user")
            return self.form.prompt(said)
        except UnusableError as error:
            raise BllossomError(str(error)) from error

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        what: str,
        max_tokens: int,
        batch_size: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seeds: Sequence[int] | None = None,
        stop: Sequence[str] = (),
    ) -> Iterator[Generated]:
        """Yield the answers as they end (see generate), with a progress line named `what`."""
        stops = stop_ids(self.model, self.tokenizer) | set(self.form.end_ids)
        decoding = Decoding(max_tokens, temperature, top_p, stops, tuple(stop))
        numbered = [Prompt(ids, seed) for ids, seed in zip(prompts, seeds or [0] * len(prompts), strict=True)]
        with progress(what, total=len(prompts)) as advance:
            for made in generate(self.model, self.tokenizer, numbered, decoding, batch_size=batch_size):
                yield made
                advance(1)


def format_choice(text: str | None) -> FormatName | Path | None:
    """A chat format as somebody types it: a name that there is, or else a Jinja file."""
    if text is None:
        return None
    return next((name for name in get_args(FormatName) if name == text), named_path(text))


def _tokenizer_of(source: str, base: str) -> str:
    has_own = any((Path(source) / name).is_file() for name in TOKENIZER_FILES)
    return source if has_own or is_hub_id(source) else base


def _with_adapter(model: PreTrainedModel, adapter: Path) -> Any:
    peft = import_peft(adapter)
    with clear_failures(str(adapter)):
        return peft.PeftModel.from_pretrained(model, str(adapter))
