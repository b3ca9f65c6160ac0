"""Asking the judge: an endpoint, or a model of one's own. A reply without a tag is asked for once more, no further.

Every reply is appended to a file before anything is made of it, under the content of its request, so that the same
request is never made twice, in this run or in another, whatever was killed in between.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from bllossom.artifacts import fingerprint
from bllossom.config import InputPath, Model, Source
from bllossom.evaluation.judge.prompt import JudgePrompt
from bllossom.evaluation.judge.verdicts import Place, parse
from bllossom.hub import is_hub_id, pin
from bllossom.instructions.formats.choose import FormatName
from bllossom.serving.client import Client, RequestFailedError, RequestRefusedError, gather
from bllossom.serving.endpoint import Endpoint, Message
from bllossom.serving.log import AppendLog

if TYPE_CHECKING:
    from bllossom.evaluation.answers.model import AnswerModel


class LocalJudge(Model):
    """A model of one's own as the judge, greedy, in its own chat form."""

    model: Annotated[Source, Field(description="a model folder, an adapter's folder, or a hub id")]
    template: Annotated[
        FormatName | InputPath | None, Field(description="a chat format by name or a Jinja file; null: the model's own")
    ] = None
    max_tokens: Annotated[int, Field(gt=0, description="tokens of one reply at most")] = 512
    batch_size: Annotated[int, Field(gt=0, description="replies made at once")] = 16
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto: the GPU where there is one")] = "auto"


@dataclass(frozen=True)
class Reply:
    """What came of one question to the judge."""

    place: Place | None  # None: no tag, twice, or no reply
    raw: str  # the last reply
    cost: float  # of both, in the price's currency
    asked: int  # once or twice
    failure: str = ""  # why there is no reply
    refused: bool = False  # so that the same request gets none later either


def ask_endpoint(
    endpoint: Endpoint, replies: Path, prompt: JudgePrompt, questions: Sequence[list[Message]]
) -> list[Reply]:
    """Ask all questions of an endpoint, several at once.

    Raises:
        EndpointError: it is away, refuses the key, is out of money, or max_cost is reached; the same command goes on.
    """
    tags = prompt.tags.by_place()

    async def ask_one(client: Client, question: list[Message]) -> Reply:
        cost, asked, raw = 0.0, 0, ""
        try:
            reply = await client.ask(question)
            place, raw, cost, asked = parse(reply.text, tags), reply.text, reply.cost, 1
            if place is None:
                reply = await client.ask(prompt.messages_again(question, raw))
                place, raw, cost, asked = parse(reply.text, tags), reply.text, cost + reply.cost, 2
        except RequestFailedError as error:
            return Reply(None, raw, cost, asked, str(error), isinstance(error, RequestRefusedError))
        return Reply(place, raw, cost, asked)

    async def ask_all() -> list[Reply]:
        async with Client(endpoint, replies) as client:
            return await gather([ask_one(client, question) for question in questions], "judging")

    return asyncio.run(ask_all())


def ask_local(judge: LocalJudge, replies: Path, prompt: JudgePrompt, questions: Sequence[list[Message]]) -> list[Reply]:
    """Ask all questions of a model of one's own, in batches. A question that does not fit its window has no reply.

    `model` is pinned.

    Raises:
        BllossomError: the model does not load, its chat form cannot be used, or another process writes the replies.
    """
    tags = prompt.tags.by_place()
    with AppendLog(replies) as log:
        asker = _LocalAsker(judge, log)
        firsts = asker.ask(questions)
        again = [index for index, text in enumerate(firsts) if text is not None and parse(text, tags) is None]
        seconds = asker.ask([prompt.messages_again(questions[index], firsts[index] or "") for index in again])
    found = []
    by_index = dict(zip(again, seconds, strict=True))
    for index, first in enumerate(firsts):
        last = by_index.get(index, first)
        failure = "" if last is not None else "it does not fit the judge's window"
        text = last if last is not None else first or ""
        found.append(Reply(parse(text, tags), text, 0.0, 1 + (index in by_index), failure))
    return found


def _identity(model: str) -> str:
    """What a model is by its contents; an adapter together with what it is put on."""
    from bllossom.model.load import base_of  # imports torch, which an endpoint does not need

    base, adapter = base_of(model)
    parts = [base] if adapter is None else [str(adapter), pin(base)]
    return "+".join(part if is_hub_id(part) else fingerprint(Path(part)) for part in parts)


class _LocalAsker:
    """Replies by the content of what is asked; the model is loaded once something is not there yet."""

    def __init__(self, judge: LocalJudge, log: AppendLog) -> None:
        self.judge, self.log = judge, log
        # By their contents: what was changed in the same place is asked again, what was moved is not.
        self.identity = _identity(judge.model)
        self.template = fingerprint(judge.template) if isinstance(judge.template, Path) else judge.template
        self.known = {record["key"]: record["text"] for record in log.records}
        self.model: AnswerModel | None = None

    def ask(self, questions: Sequence[list[Message]]) -> list[str | None]:
        """The replies; None to a question that does not fit."""
        keys = [self._key(question) for question in questions]
        missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in self.known}
        if missing:
            self._answer(missing)
        return [self.known[key] for key in keys]

    def _answer(self, missing: Mapping[str, list[Message]]) -> None:
        # Imports torch, which an endpoint does not need.
        from bllossom.evaluation.answers.model import AnswerModel

        if self.model is None:
            self.model = AnswerModel.load(self.judge.model, self.judge.template, self.judge.device)
        keys = list(missing)
        prompts = [self.model.encode(missing[key]) for key in keys]
        fitting = [index for index, ids in enumerate(prompts) if len(ids) < self.model.window]
        made = self.model.answer(
            [prompts[index] for index in fitting],
            what="judging",
            max_tokens=self.judge.max_tokens,
            batch_size=self.judge.batch_size,
        )
        for answer in made:
            self._keep(keys[fitting[answer.index]], answer.text)
        for index in set(range(len(keys))) - set(fitting):
            self._keep(keys[index], None)

    def _keep(self, key: str, text: str | None) -> None:
        self.log.append({"key": key, "text": text})
        self.known[key] = text

    def _key(self, question: list[Message]) -> str:
        settings: Any = [self.identity, self.template, self.judge.max_tokens, question]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
