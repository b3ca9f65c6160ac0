"""A model as lm-eval sees it, in two ways of turning a context and a continuation into tokens.

lm-eval  as lm-eval does today: encoded as one text behind a BOS where the tokenizer's own post-processor adds one,
         split where the context's tokens end; spaces that end the context belong to the continuation
paper    as lm-evaluation-harness's polyglot branch did: both encoded apart, each as a text of its own, and no BOS

Either way a literal `</s>` in a row stays text. In the chat form (`chat`) the context comes rendered by the model's own
template: its special tokens are active, and it begins as the template says.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from jinja2 import TemplateError
from lm_eval.api.model import TemplateLM
from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.evaluation.heldout import document_nats
from bllossom.evaluation.scoring.backend import Advance, Backend
from bllossom.model.outputs.generate import Decoding, Prompt
from bllossom.tokenizer.chat_template import with_fixed_date
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.start import text_start

Encoding = Literal["paper", "lm-eval"]
Request = tuple[tuple[str, str], list[int], list[int]]  # context and continuation, as texts and as ids
Settings = tuple[tuple[str, ...], int, float, float]  # stop strings, tokens at most, temperature, top_p

MAX_GENERATED_TOKENS = 256  # lm-eval's own default


class BllossomLM(TemplateLM):
    """Scores continuations and generates with a `Backend`.

    `advance(share)` is called as requests are done, with their share of the call's requests. `truncated` counts the
    requests whose context lost its beginning, since they did not fit the window; `chat_specials` the messages that hold
    a special token's text, which the chat form turns into that token; `chat_without_system` the questions whose system
    message the template refuses.
    """

    backend = "causal"

    def __init__(
        self,
        scorer: Backend,
        tokenizer: PreTrainedTokenizerFast,
        encoding: Encoding,
        *,
        chat: bool = False,
        advance: Advance | None = None,
    ) -> None:
        super().__init__()
        self.scorer = scorer
        self.tokenizer = tokenizer
        self.encoding = encoding
        self.chat = chat
        self.start = text_start(tokenizer)
        self.advance = advance or (lambda share: None)
        self.truncated = 0
        self.chat_specials = 0
        self.chat_without_system = 0

    @property
    def eot_token_id(self) -> int:
        """What ends a text: EOS, or what stands for it."""
        eos = self.tokenizer.eos_token_id
        return self.start.empty if eos is None else int(eos)

    @property
    def prefix_token_id(self) -> int:
        """What a continuation is conditioned on where the context is empty."""
        return self.start.empty

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in lm-eval's request caches, which are not used."""
        return str(self.tokenizer.name_or_path)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages in the model's own form; open at its end where the answer is to follow in the last message.

        As in lm-eval, a template that refuses the messages is given them without the system's.

        Raises:
            BllossomError: it refuses the others, too.
        """
        specials = self.tokenizer.all_special_tokens
        self.chat_specials += sum(any(piece in turn["content"] for piece in specials) for turn in chat_history)
        others = [turn for turn in chat_history if turn["role"] != "system"]
        try:
            return self._rendered(chat_history, add_generation_prompt)
        except TemplateError as error:
            refused = error
        try:
            rendered = self._rendered(others, add_generation_prompt)
        except TemplateError:
            raise BllossomError(
                f"the model's chat template refuses a question ({refused}); leave chat_template out"
            ) from refused
        self.chat_without_system += 1
        return rendered

    def _rendered(self, chat_history: list[dict[str, str]], add_generation_prompt: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                chat_template=with_fixed_date(self.tokenizer.get_chat_template()),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids of a context, begun as the encoding says; `add_special_tokens=False`: of what follows one."""
        if self.chat:
            rendered: list[int] = self.tokenizer(string, add_special_tokens=False, verbose=False)["input_ids"]
            return rendered
        ids = encode_text(self.tokenizer, string)
        return ids if self.encoding == "paper" or add_special_tokens is False else self.start.task + ids

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if self.encoding == "lm-eval":
            pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
            return pair
        return self.tok_encode(context), encode_text(self.tokenizer, continuation)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """lm-eval's, without its own progress bars."""
        scored: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scored

    def _loglikelihood_tokens(self, requests: list[Request], **_: Any) -> list[tuple[float, bool]]:
        longest = self.scorer.window + 1  # the last token is predicted, never an input
        sequences = []
        for texts, context_ids, continuation_ids in requests:
            if not continuation_ids or len(continuation_ids) >= longest:
                raise BllossomError(
                    f"an answer of {len(continuation_ids)} tokens ({texts[1][:40]!r}…) cannot be scored in the model's "
                    f"window of {longest - 1}; leave that task out"
                )
            ids = context_ids + continuation_ids
            self.truncated += len(ids) > longest
            ids = ids[-longest:]
            sequences.append((ids, len(ids) - len(continuation_ids)))
        results = self.scorer.score(sequences, self.advance)
        return [(scored.nats, scored.greedy) for scored in results]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """The log-likelihood of whole documents, by the project's one definition (heldout.py)."""
        texts = [request.args[0] for request in requests]
        nats, _ = document_nats(self.scorer, self.tokenizer, texts, self.advance)
        return nats

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Texts that go on from each context up to the first of its stop strings, EOS or its number of tokens."""
        answers = [""] * len(requests)
        by_settings: dict[Settings, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            by_settings[_settings(request.args[1])].append(index)
        for (stops, max_tokens, temperature, top_p), indices in by_settings.items():
            part = len(indices) / len(requests)
            contexts = [requests[index].args[0] for index in indices]
            advance = partial(self._advance_by, part)
            texts = self._generate(contexts, stops, max_tokens, temperature, top_p, advance)
            for index, text in zip(indices, texts, strict=True):
                answers[index] = text
        return answers

    def _advance_by(self, part: float, share: float) -> None:
        self.advance(share * part)

    def _generate(
        self,
        contexts: Sequence[str],
        stops: tuple[str, ...],
        max_tokens: int,
        temperature: float,
        top_p: float,
        advance: Advance,
    ) -> list[str]:
        room = self.scorer.window - max_tokens
        if room < 1:
            raise BllossomError(
                f"answers of {max_tokens} tokens leave no room for a question in the model's window of "
                f"{self.scorer.window}; leave that task out"
            )
        prompts = []
        for number, context in enumerate(contexts):
            ids = self.tok_encode(context) or [self.start.empty]
            self.truncated += len(ids) > room
            prompts.append(Prompt(ids[-room:], seed=number))
        decoding = Decoding(max_tokens, temperature, top_p, stop_strings=stops)
        return self.scorer.answer(self.tokenizer, prompts, decoding, advance)


def _settings(given: dict[str, Any]) -> Settings:
    """Stop strings, tokens at most, temperature and top_p of a request's `generation_kwargs`."""
    until = given.get("until") or ()
    stops = (until,) if isinstance(until, str) else tuple(until)
    names = ("max_gen_toks", "max_new_tokens", "max_tokens")
    tokens = next((given[name] for name in names if given.get(name) is not None), MAX_GENERATED_TOKENS)
    temperature = float(given.get("temperature", 0.0)) if given.get("do_sample", False) else 0.0
    return tuple(stop for stop in stops if stop), int(tokens), temperature, float(given.get("top_p", 1.0))
