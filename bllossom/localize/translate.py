"""`bllossom localize translate`: an instruction set in another language, by an endpoint, a model or a file.

Publishes source.jsonl and target.jsonl (`{"id", "messages"}` a line, joined on id) and notes.jsonl. What was answered
stands in `<output>.answers.jsonl` beside the output: other settings ask only what is new, and a kill loses nothing.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from bllossom.artifacts import FAILED_REQUESTS, Manifest, publish
from bllossom.config import StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.hub import pin
from bllossom.instructions.messages import Conversation
from bllossom.instructions.reading import InstructionSource
from bllossom.localize import by_endpoint, by_model
from bllossom.localize.by_endpoint import EndpointTranslation, Translated
from bllossom.localize.by_model import ModelTranslation
from bllossom.localize.records import (
    NOTES,
    SOURCE,
    TARGET,
    Ends,
    Note,
    Pair,
    join,
    note_figures,
    read_examples,
    spoken,
    system_of,
    write_examples,
    write_notes,
)
from bllossom.paths import there
from bllossom.text.rows import locate_rows


class TranslateConfig(StageConfig):
    """What is translated, and by whom: one of `by_endpoint`, `by_model` and `from_file`."""

    source: Annotated[list[InstructionSource], Field(min_length=1, description="the set to translate")]
    ends: Annotated[Ends, Field(description="what an example ends in; user for a set of prompts")] = "assistant"
    by_endpoint: EndpointTranslation | None = None
    by_model: ModelTranslation | None = None
    from_file: Annotated[
        list[InstructionSource] | None, Field(min_length=1, description="translations that exist, joined on id")
    ] = None
    keep_going: Annotated[
        bool,
        Field(description="leave out examples whose requests fail in every attempt, counted, and publish the rest"),
    ] = False

    @model_validator(mode="after")
    def _one_translator(self) -> "TranslateConfig":
        if sum(way is not None for way in (self.by_endpoint, self.by_model, self.from_file)) != 1:
            raise ValueError("should have one of by_endpoint, by_model and from_file")
        return self

    @property
    def answers(self) -> Path:
        """The file of answers beside the output."""
        return self.output.with_name(f"{self.output.name}.answers.jsonl")


def translate(config: TranslateConfig, *, force: bool = False) -> Manifest:
    """Translate and publish.

    Raises:
        BllossomError: the source cannot be read, ids repeat, the endpoint cannot be used, or a translation is missing.
    """
    inputs: dict[str, Path | str] = {
        f"{name}.{index}/{number:05d} {path.name}": path
        for name, sources in (("source", config.source), ("from_file", config.from_file or []))
        for index, source in enumerate(sources)
        for number, path in enumerate(locate_rows(source.path))
    }
    if (run := config.by_model) is not None:
        run = run.model_copy(update={"path": pin(run.path)})
        config = config.model_copy(update={"by_model": run})
        inputs["model"] = run.path

    def build(folder: Path) -> dict[str, Any]:
        return _build(config, folder)

    return publish(config, stage="localize translate", inputs=inputs, build=build, force=force)


def dry_run(config: TranslateConfig) -> list[str]:
    """How many requests, tokens and how much money it would take."""
    if absent := [source.path for source in config.source if not there(source.path)]:
        return [f"{path} is not here yet" for path in absent]
    examples = read_examples(config.source, config.ends)
    messages = sum(len(spoken(example)) for example in examples)
    lines = [f"{len(examples):,} examples, {messages:,} messages"]
    if config.by_endpoint is not None:
        lines.append(by_endpoint.count(config.by_endpoint, config.answers, examples).line())
    return lines


def _build(config: TranslateConfig, folder: Path) -> dict[str, Any]:
    sources = read_examples(config.source, config.ends)
    targets, notes, left_out, unanswered = _targets(config, sources)
    kept = {target.id for target in targets}
    pairs = join([source for source in sources if source.id in kept], targets)
    write_examples(folder / SOURCE, (pair.source for pair in pairs))
    write_examples(folder / TARGET, (pair.target for pair in pairs))
    write_notes(folder / NOTES, notes)
    figures: dict[str, Any] = {
        "examples": len(pairs),
        "left_out": left_out,
        "messages": sum(len(spoken(pair.source)) for pair in pairs),
        "examples_with_untranslated_system": sum(_keeps_system(pair) for pair in pairs),
    }
    if kept_systems := figures["examples_with_untranslated_system"]:
        say(f"{kept_systems:,} of {len(pairs):,} examples keep their system message untranslated")
    if config.by_endpoint is not None:
        figures[FAILED_REQUESTS] = unanswered
    return figures | note_figures(notes)


def _keeps_system(pair: Pair) -> bool:
    """Whether the translation has a system message, and it is the source's to the letter."""
    return bool(system_of(pair.source)) and system_of(pair.target) == system_of(pair.source)


def _targets(
    config: TranslateConfig, sources: list[Conversation]
) -> tuple[list[Conversation], list[Note], list[str], int]:
    """The translations, what is to be told of them, the examples left out, and for how many an answer was wanting."""
    if config.from_file is not None:
        targets = read_examples(config.from_file, config.ends)
        join(sources, targets)
        return targets, [], [], 0
    if config.by_endpoint is not None:
        made = by_endpoint.translate(config.by_endpoint, config.answers, sources)
    elif config.by_model is not None:
        made = by_model.translate(config.by_model, config.answers, sources)
    else:
        raise AssertionError("the config has one translator")
    _tell_failures(config, sources, made)
    targets = [translated.example for translated in made if translated.example is not None]
    notes = [note for translated in made if translated.example is not None for note in translated.notes]
    left_out = [source.id for source, translated in zip(sources, made, strict=True) if translated.example is None]
    return targets, notes, left_out, sum(translated.unanswered for translated in made)


def _tell_failures(config: TranslateConfig, sources: list[Conversation], made: list[Translated]) -> None:
    failed = [(source, translated) for source, translated in zip(sources, made, strict=True) if not translated.example]
    if not failed:
        return
    source, translated = failed[0]
    told = (
        f"{len(failed):,} of {len(made):,} examples have no translation, the first {source.id!r}: {translated.failure}"
    )
    if not config.keep_going or len(failed) == len(made):
        raise BllossomError(f"{told}. The same command asks these alone; keep_going=true publishes without them")
    unanswered = sum(translated.unanswered for _, translated in failed)
    again = f"; --force asks {unanswered:,} of them again" if unanswered else ""
    say(f"{told}; they are left out{again}")
