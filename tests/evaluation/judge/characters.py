"""Judges of known character, for the stand-in endpoint: each is a rule that the statistics have to find out.

| longer   | takes the longer answer, whichever place it has             |
| first    | takes the answer that stands first                          |
| nonsense | writes prose without a verdict                              |
| busy     | says 429 twice to every request, then is `longer`           |
| cut      | sends half a line to every request, then is `longer`        |
"""

import re
from collections.abc import Callable
from typing import Any

Rule = Callable[[dict[str, Any], int], Any]
ANSWERS = re.compile(r"<(?:answer_|답변 )A>\n(.*?)\n</.*>\n(.*?)\n</(?:answer_|답변 )B>", re.DOTALL)
PROSE = "Both have their merits, and much can be said."


def longer(body: dict[str, Any], attempt: int) -> str:
    [asked] = [message for message in body["messages"] if ANSWERS.search(message["content"])]
    found = ANSWERS.search(asked["content"])
    assert found is not None
    first, second = map(len, found.groups())
    tag = "[[C]]" if first == second else "[[A]]" if first > second else "[[B]]"
    return f"It could be [[A]], [[B]] or [[C]].\nOn reflection: {tag}"


def first(body: dict[str, Any], attempt: int) -> str:
    return "The first one convinces.\n[[A]]"


def nonsense(body: dict[str, Any], attempt: int) -> str:
    return PROSE


def busy(body: dict[str, Any], attempt: int) -> Any:
    return (429, {"retry-after": "0"}, b"slow down") if attempt < 2 else longer(body, attempt)


def cut(body: dict[str, Any], attempt: int) -> Any:
    half = b'{"choices": [{"message": {"content": "On refl'
    return (200, {"content-length": "400"}, half) if attempt < 1 else longer(body, attempt)


CHARACTERS: dict[str, Rule] = {"longer": longer, "first": first, "nonsense": nonsense, "busy": busy, "cut": cut}
