"""A model as lm-eval sees it, in two ways of turning a context and a continuation into tokens.

paper    as lm-evaluation-harness's polyglot branch did: both encoded apart, each as a text of its own, and no BOS
lm-eval  as lm-eval does today for Llama: encoded as one text behind a BOS, split where the context's tokens end; spaces
         that end the context belong to the continuation

Either way a literal `</s>` in a row stays text. Only log-likelihoods are offered: the tasks are multiple choice.
"""

from typing import Any, Literal

from lm_eval.api.model import TemplateLM
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.evaluation.scoring import score, window
from bllossom.tokenizer.encode import encode_text

Encoding = Literal["paper", "lm-eval"]


class BllossomLM(TemplateLM):
    """Scores continuations with `scoring.score`: half the passes of lm-eval's own HFLM, and no logits of contexts."""

    backend = "causal"

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, encoding: Encoding, batch_size: int
    ) -> None:
        super().__init__()
        self.scored_model = model
        self.tokenizer = tokenizer
        self.encoding = encoding
        self.batch_size = batch_size
        self.truncated = 0  # requests whose context lost its beginning, since they did not fit the window

    @property
    def eot_token_id(self) -> int:
        """EOS."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """BOS: what a continuation is conditioned on where the context is empty."""
        return int(self.tokenizer.bos_token_id)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Ids of `string`; behind a BOS in lm-eval's way, unless told otherwise."""
        with_bos = self.encoding == "lm-eval" and add_special_tokens is not False
        return [self.prefix_token_id] * with_bos + encode_text(self.tokenizer, string)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if self.encoding == "lm-eval":
            pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
            return pair
        return self.tok_encode(context), self.tok_encode(continuation)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """lm-eval's, without its own progress bars."""
        scored: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=disable_tqdm)
        return scored

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        longest = window(self.scored_model) + 1  # the last token is predicted, never an input
        sequences = []
        for texts, context_ids, continuation_ids in requests:
            if len(continuation_ids) >= longest:
                raise BllossomError(
                    f"an answer of {len(continuation_ids)} tokens ({texts[1][:40]!r}…) does not fit the model's "
                    f"window of {longest - 1}; leave that task out"
                )
            ids = context_ids + continuation_ids
            self.truncated += len(ids) > longest
            ids = ids[-longest:]
            sequences.append((ids, len(ids) - len(continuation_ids)))
        results = score(self.scored_model, sequences, self.batch_size, "answers")
        return [(scored.nats, scored.greedy) for scored in results]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Not offered: bits per byte of whole documents are heldout.py's."""
        raise NotImplementedError("use bllossom.evaluation.heldout.bits_per_byte")

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Not offered: no task here generates."""
        raise NotImplementedError("the eight tasks are multiple choice")
