"""A conversation as every part of the house holds it: messages, whose they are, and where they were read.

    {"messages": [{"role": "user", "content": "어디?"}, {"role": "assistant", "content": "서울."}]}

An optional system message first, then user and assistant in turn. An example ends in an answer, a prompt in a question.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import regex

from bllossom.text.fields import kind_of
from bllossom.text.normalise import normalise

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)

# White space, control and format characters, and what Unicode says to show nothing for; the blank of braille, too, and
# what normalising takes out beside these: the stand-in for an object, and code points that are no characters.
INVISIBLE = regex.compile(r"[\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800\ufffc\ufffe\uffff]*")


class UnusableError(ValueError):
    """A record that is no conversation to learn from; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one side says."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order. Two are equal where their messages are, wherever they were read."""

    messages: tuple[Message, ...]
    source: str = ""  # "file:line"
    id: str = ""  # the record's own, where it has one
    language: str = ""  # as the config names that of its file

    def as_dicts(self) -> list[dict[str, str]]:
        """The messages in the form that chat templates and OpenAI's endpoints read."""
        return [{"role": message.role, "content": message.content} for message in self.messages]

    def prompt(self) -> "Conversation":
        """Everything up to the last question: what a model is given to answer."""
        last = max(index for index, message in enumerate(self.messages) if message.role == "user")
        return replace(self, messages=self.messages[: last + 1])


def is_blank(text: str) -> bool:
    """Whether nobody would see anything of the text: empty, white space, or zero-width characters."""
    return INVISIBLE.fullmatch(text) is not None


def conversation(messages: Sequence[tuple[str, Any]], *, ends: Role = "assistant", source: str = "") -> Conversation:
    """Check (role, content) pairs and make a conversation of them, its text normalised as prepare does.

    A system message that is null or blank is none.

    Raises:
        UnusableError: an unknown role, no text, half of a surrogate pair, roles out of turn, another end than `ends`.
    """
    made: list[Message] = []
    for number, (role, content) in enumerate(messages, 1):
        if role not in ROLES:
            raise UnusableError(f"message {number}: unknown role {role!r}; a role is {', '.join(ROLES)}")
        if role == "system" and (content is None or (isinstance(content, str) and is_blank(content))):
            continue
        made.append(Message(role, _text(content, f"message {number}, the {role}'s,")))
    _check_turns([message.role for message in made], ends)
    return Conversation(tuple(made), source)


def _text(content: Any, what: str) -> str:
    if not isinstance(content, str):
        raise UnusableError(f"{what} is {kind_of(content)}, not text; fill it in, or remove the record")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise UnusableError(f"{what} holds half of a surrogate pair, which is no character; repair it") from None
    if is_blank(content):
        raise UnusableError(f"{what} is empty, or nothing in it can be seen; fill it in, or remove the record")
    return normalise(content)


def _check_turns(roles: list[Role], ends: Role) -> None:
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if "system" in turns:
        raise UnusableError("a system message stands after another message; put it first")
    for number, role in enumerate(turns):
        expected = ROLES[1 + number % 2]
        if role != expected:
            where = f"two {role} messages in a row" if number else f"the first turn is the {role}'s"
            raise UnusableError(f"{where}; turns go user, assistant, user, …: join them, or remove the record")
    if not turns or turns[-1] != ends:
        missing = "no answer" if ends == "assistant" else "no question"
        raise UnusableError(f"{missing} at its end; it should end in a message of the {ends}: add it, or cut the rest")
