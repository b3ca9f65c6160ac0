"""What a judge is asked: a YAML file, one of prompts/*.yaml or one's own.

version: mine-1                  goes into every verdict
system: …                        optional
user: … {question} … {first} … {second} …
again: …                         asked once more where a reply holds no tag
roles: {system: …, user: …, assistant: …}   how a question of several messages is written down
tags: {first: "[[A]]", second: "[[B]]", tie: "[[C]]"}
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from bllossom.config import Model, load_config
from bllossom.errors import ConfigError
from bllossom.evaluation.judge.pairs import Item
from bllossom.evaluation.judge.verdicts import Order, Place
from bllossom.instructions.messages import is_blank
from bllossom.serving.endpoint import Message

PLACES = re.compile(r"\{(question|first|second)\}")
FOLDER = Path(__file__).parent / "prompts"


class Roles(Model):
    """What a message's role is called in a question of several messages."""

    system: str = "System"
    user: str = "User"
    assistant: str = "Assistant"


class Tags(Model):
    """What a judge writes for its verdict."""

    first: Annotated[str, Field(min_length=1)]
    second: Annotated[str, Field(min_length=1)]
    tie: Annotated[str, Field(min_length=1)]

    def by_place(self) -> dict[Place, str]:
        """The tag of each verdict."""
        return {"first": self.first, "second": self.second, "tie": self.tie}


class JudgePrompt(Model):
    """See the module."""

    version: Annotated[str, Field(min_length=1, description="a name for this wording")]
    system: str = ""
    user: Annotated[str, Field(description="holds {question}, {first} and {second}")]
    again: Annotated[str, Field(min_length=1)]
    roles: Roles = Roles()
    tags: Tags

    @model_validator(mode="after")
    def _complete(self) -> "JudgePrompt":
        missing = {"question", "first", "second"} - set(PLACES.findall(self.user))
        if missing:
            raise ValueError(f"user: has no {{{sorted(missing)[0]}}}; put it where that text belongs")
        tags = list(self.tags.by_place().values())
        if len({tag.casefold() for tag in tags}) < len(tags):
            raise ValueError("tags: two are the same; a verdict could not be told from another")
        for tag in tags:
            if tag not in self.system + self.user:
                raise ValueError(f"tags: {tag} stands nowhere in system or user: the judge would not know to write it")
        return self

    def messages(self, item: Item, order: Order) -> list[Message]:
        """What is asked about two answers in this order; the models' names appear nowhere."""
        answers = (item.answer_a, item.answer_b) if order == "ab" else (item.answer_b, item.answer_a)
        texts = {"question": self._question(item.messages), "first": answers[0], "second": answers[1]}
        # In one pass: an answer that holds {second} stays as it is.
        user = PLACES.sub(lambda place: texts[place[1]], self.user)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": user}]

    def messages_again(self, asked: Sequence[Message], reply: str) -> list[Message]:
        """What is asked after a reply without a tag."""
        if is_blank(reply):
            # Neither chat forms nor all endpoints take a message in which nothing stands.
            *before, question = asked
            return [*before, question | {"content": f"{question['content']}\n\n{self.again}"}]
        return [*asked, {"role": "assistant", "content": reply}, {"role": "user", "content": self.again}]

    def _question(self, messages: Sequence[Message]) -> str:
        if len(messages) == 1:
            return messages[0]["content"]
        names = self.roles.model_dump()
        return "\n\n".join(f"{names.get(said['role'], said['role'])}: {said['content']}" for said in messages)


def load_prompt(choice: str | Path) -> JudgePrompt:
    """The prompt of that name, or of that file.

    Raises:
        ConfigError: there is none, or a judge could not answer it.
    """
    named = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    path = named.get(str(choice), Path(choice))
    if not path.is_file():
        raise ConfigError(f"prompt: there is no {choice}; name {' or '.join(named)}, or a YAML file of your own")
    return load_config(JudgePrompt, path).config
