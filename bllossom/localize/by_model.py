"""Translation by a local sequence-to-sequence model (Marian, NLLB, M2M100, T5), line by line."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bllossom.config import Model, Source
from bllossom.console import progress
from bllossom.errors import BllossomError
from bllossom.hub import pretrained
from bllossom.instructions.messages import Conversation
from bllossom.localize.by_endpoint import Translated, has_no_text
from bllossom.localize.masking import Masked, mask, unmask
from bllossom.localize.records import Note, spoken, with_turns
from bllossom.serving.log import AppendLog


class ModelTranslation(Model):
    """A translation model and how it is run."""

    path: Annotated[Source, Field(description="a folder or a hub id of a sequence-to-sequence model")]
    prefix: Annotated[str, Field(description="put before each line, as T5 wants it")] = ""
    source_code: Annotated[str | None, Field(description="the model's name for the source language (NLLB, M2M100)")] = (
        None
    )
    target_code: Annotated[str | None, Field(description="the model's name for the target language")] = None
    batch: Annotated[int, Field(ge=1, description="lines at once")] = 16
    max_tokens: Annotated[int, Field(ge=1, description="of one line's translation")] = 512
    beams: Annotated[int, Field(ge=1, description="translations looked at side by side: beam search")] = 4


def translate(settings: ModelTranslation, answers: Path, examples: Sequence[Conversation]) -> list[Translated]:
    """Translate all examples; each line that stands in `answers` is not translated again.

    Raises:
        BllossomError: the model cannot be loaded, or translates no text.
    """
    masked = {message.content: mask(message.content) for example in examples for message in spoken(example)}
    lines = dict.fromkeys(line for text in masked.values() for line in text.text.split("\n") if _has_text(line))
    with AppendLog(answers) as log:
        known = {record["key"]: record["text"] for record in log.records}
        left = [line for line in lines if _key(settings, line) not in known]
        with progress("translating", len(left)) as advance:
            for batch, texts in _generate(settings, left):
                for line, text in zip(batch, texts, strict=True):
                    known[_key(settings, line)] = text
                    log.append({"key": _key(settings, line), "text": text})
                advance(len(batch))
    return [_assemble(settings, example, masked, known) for example in examples]


def _assemble(
    settings: ModelTranslation, example: Conversation, masked: dict[str, Masked], known: dict[str, str]
) -> Translated:
    texts: list[str] = []
    notes: list[Note] = []
    for turn, message in enumerate(spoken(example)):
        cut_out = masked[message.content]
        lines = [known[_key(settings, line)] if _has_text(line) else line for line in cut_out.text.split("\n")]
        restored = unmask("\n".join(lines), cut_out)
        if not restored.text.strip():
            return Translated(None, notes, f"turn {turn}: the translation is empty; choose another model")
        if restored.lost:
            notes.append(Note(example.id, turn, restored.lost))
        texts.append(restored.text)
    return Translated(with_turns(example, texts), notes)


def _has_text(line: str) -> bool:
    return not has_no_text(Masked(line, ()))


def _key(settings: ModelTranslation, line: str) -> str:
    kept = settings.model_dump(exclude={"batch"})
    return hashlib.sha256(json.dumps({"settings": kept, "line": line}, sort_keys=True).encode()).hexdigest()


def _generate(settings: ModelTranslation, lines: list[str]) -> Iterable[tuple[list[str], list[str]]]:
    if not lines:
        return
    model, tokenizer = _load(settings)
    options: dict[str, Any] = {"num_beams": settings.beams, "max_new_tokens": settings.max_tokens, "do_sample": False}
    if settings.target_code:
        options["forced_bos_token_id"] = tokenizer.convert_tokens_to_ids(settings.target_code)
    for start in range(0, len(lines), settings.batch):
        batch = lines[start : start + settings.batch]
        inputs = tokenizer([settings.prefix + line for line in batch], return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        ids = model.generate(**inputs, **options)
        yield batch, tokenizer.batch_decode(ids, skip_special_tokens=True)


def _load(settings: ModelTranslation) -> tuple[Any, Any]:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer  # torch, only where a model runs

    named = {"src_lang": settings.source_code} if settings.source_code else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**pretrained(settings.path), **named)
        return AutoModelForSeq2SeqLM.from_pretrained(**pretrained(settings.path)).eval(), tokenizer
    except (OSError, ValueError) as error:
        raise BllossomError(
            f"{settings.path} is no translation model ({str(error).splitlines()[0]}); name a sequence-to-sequence one"
        ) from error
