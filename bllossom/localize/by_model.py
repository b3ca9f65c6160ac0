"""Translation by a local sequence-to-sequence model (Marian, NLLB, M2M100, T5), line by line.

Few of these models know the marks that stand for code and markup (`⟦0⟧`). A line that comes back without one of them,
or with one twice, is translated once more in the parts between its marks: nothing is lost, and a note tells of it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import regex
from pydantic import Field

from bllossom.config import Model, Source
from bllossom.console import progress
from bllossom.hub import is_hub_id
from bllossom.instructions.messages import Conversation
from bllossom.localize.by_endpoint import Translated, has_no_text
from bllossom.localize.masking import Masked, mask, unmask
from bllossom.localize.records import Note, spoken, with_turns
from bllossom.localize.sequence_model import SequenceModel
from bllossom.provenance.fingerprints import fingerprint
from bllossom.serving.log import AppendLog

MARKS = regex.compile(r"(⟦\d+⟧)")  # split keeps them


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


@dataclass(frozen=True)
class Line:
    """What became of one line, or of the part of one between two marks."""

    text: str
    cut: bool = False  # the model ended at max_tokens
    too_long: int = 0  # tokens, where these are more than the model reads; then there is no text
    asked: int = 1
    empty: int = 0  # 1 where no text came back; of a line in parts, how many of them


def translate(settings: ModelTranslation, answers: Path, examples: Sequence[Conversation]) -> list[Translated]:
    """Translate all examples; each line that stands in `answers` is not translated again. `path` is pinned.

    Raises:
        BllossomError: the model cannot be loaded, or knows no such language.
    """
    masked = {message.content: mask(message.content) for example in examples for message in spoken(example)}
    lines = list(dict.fromkeys(line for text in masked.values() for line in text.text.split("\n") if _has_text(line)))
    with AppendLog(answers) as log:
        translator = _Translator(settings, log)
        whole = translator.run(lines, "translating")
        broken = [line for line in lines if not whole[line].too_long and _marks(whole[line].text) != _marks(line)]
        parts = dict.fromkeys(part.strip() for line in broken for part in MARKS.split(line) if _has_text(part))
        known = translator.run(list(parts), "translating between marks")
    known |= whole | {line: _joined(line, known) for line in broken}
    return [_assemble(example, masked, known) for example in examples]


class _Translator:
    """Translates what has no answer yet; the model is loaded where that is anything."""

    def __init__(self, settings: ModelTranslation, log: AppendLog) -> None:
        self._settings, self._log = settings, log
        self._known = {record["key"]: record for record in log.records}
        self._model: SequenceModel | None = None
        kept = settings.model_dump(exclude={"batch", "path"})
        # By its contents: a model that was trained on in the same folder is asked again, a moved one is not.
        kept["model"] = settings.path if is_hub_id(settings.path) else fingerprint(Path(settings.path))
        self._kept = json.dumps(kept, sort_keys=True)

    def run(self, lines: Sequence[str], what: str) -> dict[str, Line]:
        """Each line's translation."""
        left = [line for line in lines if self._key(line) not in self._known]
        if left:
            with progress(what, len(left)) as advance:
                for line, made in self._make(left):
                    record = {"key": self._key(line), "text": made.text, "cut": made.cut, "too_long": made.too_long}
                    self._known[record["key"]] = record
                    self._log.append(record)
                    advance(1)
        records = {line: self._known[self._key(line)] for line in lines}
        return {line: _line(record) for line, record in records.items()}

    def _make(self, lines: Sequence[str]) -> Iterator[tuple[str, Line]]:
        settings = self._settings
        if self._model is None:
            self._model = SequenceModel.load(settings.path, settings.source_code, settings.target_code)
        tokens = self._model.count_tokens([settings.prefix + line for line in lines])
        for line, count in zip(lines, tokens, strict=True):
            if count > self._model.window:
                yield line, Line("", too_long=count)
        fitting = [line for line, count in zip(lines, tokens, strict=True) if count <= self._model.window]
        for start in range(0, len(fitting), settings.batch):
            batch = fitting[start : start + settings.batch]
            made = self._model.translate(
                [settings.prefix + line for line in batch], beams=settings.beams, max_tokens=settings.max_tokens
            )
            yield from ((line, Line(text, cut)) for line, (text, cut) in zip(batch, made, strict=True))

    def _key(self, line: str) -> str:
        return hashlib.sha256(json.dumps([self._kept, line]).encode()).hexdigest()


def _joined(line: str, known: dict[str, Line]) -> Line:
    """A line put together of its parts' translations, with its marks and the space around them as they stood."""
    texts: list[str] = []
    used: list[Line] = []
    for part in MARKS.split(line):
        if not _has_text(part):
            texts.append(part)
            continue
        used.append(known[part.strip()])
        texts.append(part.replace(part.strip(), MARKS.sub("", used[-1].text).strip()))
    cut, too_long = any(part.cut for part in used), max(part.too_long for part in used)
    return Line("".join(texts), cut, too_long, 2, sum(part.empty for part in used))


def _line(record: Mapping[str, Any]) -> Line:
    empty = not record["text"].strip() and not record["too_long"]
    return Line(record["text"], record["cut"], record["too_long"], empty=int(empty))


def _assemble(example: Conversation, masked: dict[str, Masked], known: dict[str, Line]) -> Translated:
    texts: list[str] = []
    notes: list[Note] = []
    for turn, message in enumerate(spoken(example)):
        cut_out = masked[message.content]
        lines = [known[line] if _has_text(line) else Line(line) for line in cut_out.text.split("\n")]
        if most := max(line.too_long for line in lines):
            why = (
                f"turn {turn}: a line of {most:,} tokens is longer than the model reads; part it, or take another model"
            )
            return Translated(None, notes, why)
        restored = unmask("\n".join(line.text for line in lines), cut_out)
        if not restored.text.strip():
            return Translated(None, notes, f"turn {turn}: the translation is empty; choose another model")
        empty = sum(line.empty for line in lines)
        note = Note(
            example.id,
            turn,
            restored.lost,
            any(line.cut for line in lines),
            max(line.asked for line in lines),
            f"{empty} lines or parts of them came back empty" if empty else "",
        )
        if note.lost or note.cut or note.asked > 1 or note.problem:
            notes.append(note)
        texts.append(restored.text)
    return Translated(with_turns(example, texts), notes)


def _has_text(line: str) -> bool:
    return not has_no_text(Masked(line, ()))


def _marks(text: str) -> Counter[str]:
    return Counter(MARKS.findall(text))
