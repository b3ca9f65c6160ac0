"""A sequence-to-sequence model of transformers that translates lines."""

from collections.abc import Sequence
from typing import Any

from bllossom.errors import BllossomError
from bllossom.hub import pretrained

SHOWN_CODES = 5


class SequenceModel:
    """Weights and tokenizer, ready to translate."""

    def __init__(self, model: Any, tokenizer: Any, first_id: int | None, ends: frozenset[int]) -> None:
        self._model, self._tokenizer, self._first_id, self._ends = model, tokenizer, first_id, ends

    @classmethod
    def load(cls, source: str, source_code: str | None, target_code: str | None) -> "SequenceModel":
        """Load a folder or a hub id; on a GPU where there is one.

        Raises:
            BllossomError: it is no such model, or knows no such language.
        """
        import torch  # here, for these take long: only where a model runs
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        from bllossom.model.outputs.generate import stop_ids

        disable_progress_bar()
        on_gpu: dict[str, Any] = {"device_map": "cuda"} if torch.cuda.is_available() else {}
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(**pretrained(source))
            model: Any = AutoModelForSeq2SeqLM.from_pretrained(**pretrained(source), **on_gpu).eval()
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise BllossomError(
                f"{source} is no translation model ({reason}); name a sequence-to-sequence one"
            ) from error
        if source_code is not None:
            if not hasattr(tokenizer, "src_lang"):
                raise BllossomError(f"{source} has one source language; leave source_code out")
            _language_id(source, tokenizer, "source_code", source_code)
            tokenizer.src_lang = source_code
        first = None if target_code is None else _language_id(source, tokenizer, "target_code", target_code)
        return cls(model, tokenizer, first, stop_ids(model, tokenizer))

    @property
    def window(self) -> int:
        """The longest input, in tokens."""
        # T5's positions have no end; a tokenizer that knows of none has a huge number here.
        places = getattr(self._model.config, "max_position_embeddings", None)
        most = int(self._tokenizer.model_max_length)
        return min(most, places) if places else most

    def count_tokens(self, lines: Sequence[str]) -> list[int]:
        """Tokens of each line, with the special ones; none is cut."""
        return [len(ids) for ids in self._tokenizer(list(lines), truncation=False, verbose=False)["input_ids"]]

    def translate(self, lines: Sequence[str], *, beams: int, max_tokens: int) -> list[tuple[str, bool]]:
        """Each line's translation, and whether it was cut at `max_tokens`."""
        inputs = self._tokenizer(list(lines), return_tensors="pt", padding=True).to(self._model.device)
        inputs.pop("token_type_ids", None)
        first = {} if self._first_id is None else {"forced_bos_token_id": self._first_id}
        ids = self._model.generate(**inputs, num_beams=beams, max_new_tokens=max_tokens, do_sample=False, **first)
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        # The first id is the decoder's start, which is EOS for some.
        return [(text, not self._ends & set(row[1:])) for text, row in zip(texts, ids.tolist(), strict=True)]


def _language_id(source: str, tokenizer: Any, key: str, code: str) -> int:
    """The id that stands for a language: NLLB's and mBART's codes are tokens themselves, M2M100's stand in __."""
    known = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    for token in (code, f"__{code}__"):
        if token in known:
            return int(tokenizer.convert_tokens_to_ids(token))
    codes = sorted(token.strip("_") for token in known if "_" in token.strip("_") or token.startswith("__"))
    shown = f"it has {', '.join(codes[:SHOWN_CODES])}{', …' * (len(codes) > SHOWN_CODES)}" if codes else "it has none"
    raise BllossomError(f"{key}: {source} has no language {code!r}; {shown}")
