"""vLLM in the place of transformers: the same requests, answered by its engine on GPUs.

A sequence is a prompt whose own log-probabilities are asked for (`prompt_logprobs`), as lm-eval's vLLM model does it.
Two things follow from that: vLLM generates one token besides, so that a prompt leaves a place of the window free; and
it computes each prompt whole, since a prefix that is read from its cache has no log-probabilities.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from bllossom.errors import BllossomError
from bllossom.evaluation.scoring.backend import Advance, Scored, numbers
from bllossom.hub import pretrained
from bllossom.model.outputs.generate import Decoding, Prompt, before_stop, configured_stops, special_stops

AT_ONCE = 1024  # prompts in one call: vLLM holds an object for each log-probability until the call ends


def import_vllm() -> Any:
    """The package.

    Raises:
        BllossomError: it is not installed.
    """
    try:
        import vllm
    except ImportError as error:
        raise BllossomError(
            f"backend: vllm is not installed here ({error}); pip install 'bllossom[vllm]' on a machine with GPUs, or "
            "leave backend out"
        ) from error
    return vllm


@dataclass(frozen=True)
class VllmScorer:
    """A model in vLLM's engine (`llm`, a vllm.LLM), its type, its rows, and the ids that end its answers."""

    llm: Any
    dtype: str
    rows: int
    ends: frozenset[int]

    @classmethod
    def load(cls, source: str, gpus: int) -> "VllmScorer":
        """Load a model folder or hub id, spread over `gpus` GPUs, in the type of its weights.

        Raises:
            BllossomError: vLLM is not installed, or does not take the model.
        """
        vllm = import_vllm()
        given = pretrained(source)
        try:
            config = AutoConfig.from_pretrained(**given)
            dtype = str(config.dtype or "auto").removeprefix("torch.")  # vLLM's own "auto" makes fp32 weights fp16
            llm = vllm.LLM(
                model=given["pretrained_model_name_or_path"],
                revision=given.get("revision"),
                tensor_parallel_size=gpus,
                dtype=dtype,
                seed=0,
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BllossomError(f"{source}: vLLM cannot load it ({reason}); leave backend out") from error
        return cls(llm, dtype, int(config.vocab_size), _ends(given))

    @property
    def window(self) -> int:
        """The longest input besides the last token of a sequence, which vLLM reads too, and the one it generates."""
        return int(self.llm.llm_engine.model_config.max_model_len) - 2

    def score(self, sequences: Sequence[tuple[Sequence[int], int]], advance: Advance | None = None) -> list[Scored]:
        """As Scorer.score."""
        vllm = import_vllm()
        params = vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=1, detokenize=False)
        scored = []
        for part in _parts(sequences):
            outputs = self._generate([ids for ids, _ in part], [params] * len(part))
            scored += [_scored(ids, first, out) for (ids, first), out in zip(part, outputs, strict=True)]
            if advance is not None:
                advance(len(part) / len(sequences))
        return numbers(scored)

    def answer(
        self, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], decoding: Decoding, advance: Advance
    ) -> list[str]:
        """As Scorer.answer; sampled answers are other draws than transformers'."""
        vllm = import_vllm()
        ends = decoding.stop_ids | self.ends | ({tokenizer.eos_token_id} - {None})
        ends |= special_stops(tokenizer, decoding.stop_strings)
        settings = {
            "max_tokens": decoding.max_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "stop": list(decoding.stop_strings),
            "stop_token_ids": sorted(ends),
        }
        texts = []
        for part in _parts(prompts):
            params = [vllm.SamplingParams(seed=prompt.seed, **settings) for prompt in part]
            for output in self._generate([prompt.ids for prompt in part], params):
                ids = [token for token in output.outputs[0].token_ids if token not in ends]
                # Not vLLM's text: it is decoded behind the prompt, with the space that a first word may begin with.
                text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                before = before_stop(str(text), decoding.stop_strings)
                texts.append(str(text) if before is None else before)
            advance(len(part) / len(prompts))
        return texts

    def _generate(self, prompts: Sequence[Sequence[int]], params: list[Any]) -> list[Any]:
        vllm = import_vllm()
        given = [vllm.TokensPrompt(prompt_token_ids=list(ids)) for ids in prompts]
        outputs: list[Any] = self.llm.generate(given, sampling_params=params, use_tqdm=False)
        return outputs


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def _scored(ids: Sequence[int], first: int, output: Any) -> Scored:
    """From the log-probabilities by id that vLLM gives for each place: the likeliest token's, and the prompt's own."""
    places = output.prompt_logprobs[first:]
    own = [place[token].logprob for place, token in zip(places, ids[first:], strict=True)]
    best = [max(found.logprob for found in place.values()) for place in places]
    return Scored(math.fsum(own), all(mine == most for mine, most in zip(own, best, strict=True)))


def _ends(given: dict[str, str]) -> frozenset[int]:
    name, revision = given["pretrained_model_name_or_path"], given.get("revision", "main")
    try:
        return configured_stops(GenerationConfig.from_pretrained(name, revision=revision))
    except OSError:  # the model has none
        return frozenset()
