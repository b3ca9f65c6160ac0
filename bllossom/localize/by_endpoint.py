"""Translation by an OpenAI-compatible endpoint: turn by turn, with the dialogue so far as context."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import regex
from pydantic import Field

from bllossom.config import Model
from bllossom.instructions.messages import Conversation
from bllossom.localize.masking import PLACEHOLDER, Masked, mask, unmask
from bllossom.localize.records import Note, spoken, with_turns
from bllossom.serving.client import Client, Estimate, Reply, RequestFailedError, estimate, gather, request_key
from bllossom.serving.endpoint import Endpoint, Message
from bllossom.serving.log import read_log

REPAIR_PROMPT = "That was not usable: {problems}. Translate the message again, with every mark exactly once."
NO_TEXT = regex.compile(r"[^\p{L}]*")


class EndpointTranslation(Model):
    """An endpoint and what it is told."""

    endpoint: Endpoint
    system_prompt: Annotated[
        str,
        Field(
            min_length=1,
            description="what the translator is told before each text, into which language above all",
        ),
    ]
    prompt_version: Annotated[str, Field(description="a name for the prompt, for the data card")] = "1"
    glossary: Annotated[
        dict[str, str],
        Field(default_factory=dict, description="term to translation; told where the term occurs in an example"),
    ]


@dataclass(frozen=True)
class Translated:
    """What came of one example: its translation, or why there is none."""

    example: Conversation | None
    notes: list[Note]
    failure: str = ""
    unanswered: bool = False
    """Whether it failed for want of an answer, so that it is worth asking again."""


def translate(settings: EndpointTranslation, answers: Path, examples: Sequence[Conversation]) -> list[Translated]:
    """Translate all examples; what stands in `answers` is not asked again.

    Raises:
        EndpointError: the endpoint is away, refuses the key, or is out of money.
    """

    async def run() -> list[Translated]:
        async with Client(settings.endpoint, answers) as client:
            return await gather([_translate(client, settings, example) for example in examples], "translating")

    return asyncio.run(run())


def count(settings: EndpointTranslation, answers: Path, examples: Sequence[Conversation]) -> Estimate:
    """What translating would send, with the sources standing for translations that are not there yet."""
    known = {
        record["key"]: Reply(record["text"], record["finish"], 0, 0, False, 0.0)
        for record in read_log(answers)
        if "finish" in record  # not a local model's
    }
    requests = (request for example in examples for request in _requests(settings, example, known))
    return estimate(settings.endpoint, answers, requests)


def _requests(
    settings: EndpointTranslation, example: Conversation, known: Mapping[str, Reply]
) -> Iterator[tuple[list[Message], str]]:
    context = _context(settings, example)
    for message in spoken(example):
        masked = mask(message.content)
        if has_no_text(masked):
            continue
        context.append({"role": "user", "content": masked.text})
        yield list(context), masked.text
        reply = known.get(request_key(settings.endpoint, context))
        if reply is not None and (repair := _repair(settings, context, reply, masked)):
            yield repair, masked.text
            second = known.get(request_key(settings.endpoint, repair))
            reply = second and _better(settings, reply, second, masked)
        context.append({"role": "assistant", "content": reply.text.strip() if reply else masked.text})


async def _translate(client: Client, settings: EndpointTranslation, example: Conversation) -> Translated:
    context = _context(settings, example)
    texts: list[str] = []
    notes: list[Note] = []
    for turn, message in enumerate(spoken(example)):
        masked = mask(message.content)
        if has_no_text(masked):
            texts.append(message.content)
            continue
        context.append({"role": "user", "content": masked.text})
        try:
            reply, asked = await _ask(client, settings, context, masked)
        except RequestFailedError as error:
            return Translated(None, notes, f"turn {turn}: {error}", unanswered=True)
        restored = unmask(reply.text.strip(), masked)
        if not restored.text:
            return Translated(None, notes, f"turn {turn}: the answer is empty, twice; change the prompt")
        problem = "the prompt came back" if _is_echo(settings, reply) else ""
        cut = reply.finish == "length"
        if restored.lost or cut or asked > 1 or problem:
            notes.append(Note(example.id, turn, restored.lost, cut, asked, problem))
        texts.append(restored.text)
        context.append({"role": "assistant", "content": reply.text.strip()})
    return Translated(with_turns(example, texts), notes)


async def _ask(
    client: Client, settings: EndpointTranslation, context: list[Message], masked: Masked
) -> tuple[Reply, int]:
    """The answer to the last message of `context`; once more, with what was wrong named, where something was."""
    first = await client.ask(context)
    repair = _repair(settings, context, first, masked)
    if repair is None:
        return first, 1
    return _better(settings, first, await client.ask(repair), masked), 2


def _repair(
    settings: EndpointTranslation, context: list[Message], first: Reply, masked: Masked
) -> list[Message] | None:
    """What is asked after a first reply that is not usable; None where it is."""
    wrong = _problems(settings, first, masked)
    if not wrong:
        return None
    said = [{"role": "assistant", "content": first.text}] if first.text.strip() else []
    return [*context, *said, {"role": "user", "content": REPAIR_PROMPT.format(problems="; ".join(wrong))}]


def _better(settings: EndpointTranslation, first: Reply, second: Reply, masked: Masked) -> Reply:
    fewer = len(_problems(settings, second, masked)) <= len(_problems(settings, first, masked))
    return second if second.text.strip() and fewer else first


def _problems(settings: EndpointTranslation, reply: Reply, masked: Masked) -> list[str]:
    restored = unmask(reply.text.strip(), masked)
    marks = [f"⟦{number}⟧" for number in range(len(masked.pieces))]
    found = [f"{mark} is missing" for mark in marks if mark not in reply.text]
    found += [f"{text!r} stands twice or was not in the text" for text in restored.repeated]
    if not restored.text:
        found.append("it is empty")
    if reply.finish == "length":
        found.append("it was not finished")
    if _is_echo(settings, reply):
        found.append("it repeats the instructions")
    return found


def _is_echo(settings: EndpointTranslation, reply: Reply) -> bool:
    return any(line in reply.text for line in settings.system_prompt.splitlines() if len(line) >= 30)


def _context(settings: EndpointTranslation, example: Conversation) -> list[Message]:
    text = "\n".join(message.content for message in spoken(example)).lower()
    terms = [f"{term} → {translation}" for term, translation in settings.glossary.items() if term.lower() in text]
    glossary = "\n\nUse these terms:\n" + "\n".join(terms) if terms else ""
    return [{"role": "system", "content": settings.system_prompt.strip() + glossary}]


def has_no_text(masked: Masked) -> bool:
    """Whether nothing is left to translate: code, numbers and marks alone."""
    return NO_TEXT.fullmatch(PLACEHOLDER.sub("", masked.text)) is not None
