"""The answers stage: what each of some models answers to the prompts of a file.

    NAME.jsonl   one a model, named as its folder: {"id", "language", "category", "messages", "answer",
                 "finish": "stop" | "length", "tokens", "seconds"}, in the order of the prompts

An answer is on the disk as soon as it has ended: after a kill the same command makes those that are missing, and none
twice. Greedy answers do not depend on `seed`; sampled ones follow from `seed` and the prompt's id (see generate.py on
what floating point does besides).
"""

import gc
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from bllossom.artifacts import Manifest, publish
from bllossom.config import InputPath, Source, StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.evaluation.answers.model import AnswerModel, Device
from bllossom.evaluation.answers.prompts import PromptRecord, read_prompts
from bllossom.hub import is_hub_id, pin
from bllossom.instructions.formats.choose import FormatName
from bllossom.model.load import base_input
from bllossom.model.outputs.generate import Generated
from bllossom.serving.log import AppendLog, write_records

SHOWN_IDS = 3


class AnswersConfig(StageConfig):
    """What `bllossom answers` reads."""

    mending_keys: ClassVar[frozenset[str]] = frozenset({"batch_size", "device"})

    models: Annotated[
        list[Source],
        Field(min_length=1, description="model folders, adapters' folders or hub ids; each names its file"),
    ]
    prompts: Annotated[InputPath, Field(description="JSONL (see answers/prompts.py)")]
    template: Annotated[
        FormatName | InputPath | None,
        Field(description="a chat format by name or a Jinja file, for all models; null: each model's own"),
    ] = None
    language: Annotated[str | None, Field(description="of prompts that name none, ISO 639-1")] = None
    max_tokens: Annotated[int, Field(gt=0, description="tokens of one answer at most")] = 1024
    temperature: Annotated[float, Field(ge=0, description="0: the likeliest token each time")] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1, description="draw from the likeliest with this share")] = 1.0
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(description="texts that end an answer")] = []
    seed: Annotated[int, Field(description="of sampled answers")] = 0
    batch_size: Annotated[int, Field(gt=0, description="answers made at once; less takes less memory")] = 16
    device: Annotated[Device, Field(description="auto: the GPU where there is one")] = "auto"

    @model_validator(mode="after")
    def _named_once(self) -> "AnswersConfig":
        names = [name_of(model) for model in self.models]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"models: two are called {twice[0]}, and each names its file; use two outputs, or rename one"
            )
        return self


def name_of(model: str) -> str:
    """What a model's file is called: the last part of its path or hub id."""
    return Path(model).resolve().name if not is_hub_id(model) else model.rpartition("/")[2]


def answers(config: AnswersConfig, *, force: bool = False) -> Manifest:
    """Let every model of `config` answer every prompt, and publish a file a model.

    Raises:
        BllossomError: the prompts are no prompts or do not fit a model, or a model does not load or has no chat form.
    """
    models = {model: pin(model) for model in config.models}
    inputs: dict[str, Path | str] = {f"models.{name_of(model)}": pinned for model, pinned in models.items()}
    bases = {name: base for model, source in inputs.items() for name, base in base_input(model, str(source)).items()}
    if isinstance(config.template, Path):
        inputs["template"] = config.template
    build = lambda folder: _build(config, models, folder)  # noqa: E731
    inputs |= bases | {"prompts": config.prompts}
    return publish(config, stage="answers", inputs=inputs, build=build, force=force, added_inputs=bases)


def dry_run(config: AnswersConfig) -> list[str]:
    """How many prompts there are, and how they would be answered."""
    how = "greedy" if config.temperature == 0 else f"sampled at {config.temperature:g}, seed {config.seed}"
    count = f"{len(read_prompts(config.prompts)):,}" if config.prompts.exists() else "all"
    return [f"{count} prompts × {len(config.models)} models, {how}, {config.max_tokens:,} tokens each at most"]


def _build(config: AnswersConfig, models: Mapping[str, str], folder: Path) -> dict[str, Any]:
    prompts = read_prompts(config.prompts)
    if cut := sum(prompt.cut for prompt in prompts):
        say(f"{config.prompts}: {cut:,} prompts went on behind their last question, and are asked up to there")
    return {
        name_of(model): _answer_all(config, pinned, prompts, folder / f"{name_of(model)}.jsonl")
        for model, pinned in models.items()
    }


def _answer_all(config: AnswersConfig, source: str, prompts: Sequence[PromptRecord], path: Path) -> dict[str, Any]:
    """Make what is missing of one model's answers, and leave its file in the order of the prompts."""
    with AppendLog(path) as log:
        done = {record["id"]: record for record in log.records}
        missing = [prompt for prompt in prompts if prompt.id not in done]
        if done:
            say(f"{path.stem}: {len(done):,} answers are there already, {len(missing):,} are missing")
        if missing:
            model = AnswerModel.load(source, config.template, config.device)
            for record in _records(config, source, model, missing):
                log.append(record)
                done[record["id"]] = record
            del model
            gc.collect()  # the next model needs the room
    write_records(path, [done[prompt.id] for prompt in prompts])
    return _figures([done[prompt.id] for prompt in prompts])


def _records(config: AnswersConfig, source: str, model: AnswerModel, prompts: Sequence[PromptRecord]) -> Any:
    ids = [model.encode(prompt.messages) for prompt in prompts]
    if long := [prompt.id for prompt, tokens in zip(prompts, ids, strict=True) if len(tokens) >= model.window]:
        more = ", …" if len(long) > SHOWN_IDS else ""
        raise BllossomError(
            f"{source}: {len(long):,} prompts ({', '.join(long[:SHOWN_IDS])}{more}) leave no room for an answer in its "
            f"window of {model.window:,} tokens; take them out of {config.prompts}"
        )
    made = model.answer(
        ids,
        what=name_of(source),
        max_tokens=config.max_tokens,
        batch_size=config.batch_size,
        temperature=config.temperature,
        top_p=config.top_p,
        seeds=[seed_of(config.seed, prompt.id) for prompt in prompts],
        stop=config.stop,
    )
    for answer in made:
        yield _record(prompts[answer.index], answer, config.language)


def seed_of(seed: int, id_: str) -> int:
    """The seed of one prompt's answer: 63 bits, the same whatever other prompts there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{id_}".encode()).digest()[:8], "big") >> 1


def _record(prompt: PromptRecord, answer: Generated, language: str | None) -> dict[str, Any]:
    return {
        "id": prompt.id,
        "language": prompt.language or language,
        "category": prompt.category,
        "messages": prompt.messages,
        "answer": answer.text.strip(),
        "finish": answer.finish,
        "tokens": len(answer.ids),
        "seconds": round(answer.seconds, 3),
    }


def _figures(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "answers": len(records),
        "stopped": sum(record["finish"] == "stop" for record in records),
        "cut_at_max_tokens": sum(record["finish"] == "length" for record in records),
        "empty": sum(not record["answer"] for record in records),
        "tokens": sum(record["tokens"] for record in records),
    }
