"""Shapes that hold a question and an answer in columns of their own: Alpaca's, Dolly's, prompt and completion."""

from collections.abc import Mapping, Sequence
from typing import Any

from bllossom.instructions.messages import UnusableError, is_blank
from bllossom.instructions.shapes.chat import is_messages, messages_of
from bllossom.instructions.shapes.shape import Shape, Turns

QUESTIONS = ("prompt", "question")
ANSWERS = ("completion", "response", "answer")


def question_of(*parts: Any) -> Any:
    """One question of its parts, a line each; what is null or blank is left out. What is no text is given as it is."""
    for part in parts:
        if part is not None and not isinstance(part, str):
            return part
    return "\n".join(part for part in parts if part is not None and not is_blank(part))


def _read_alpaca(record: Mapping[str, Any]) -> Turns:
    turns: Turns = [("system", record["system"])] if record.get("system") is not None else []
    history = record.get("history") or []
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise UnusableError("history is no list of pairs; write [[question, answer], …]")
        turns += [("user", pair[0]), ("assistant", pair[1])]
    turns.append(("user", question_of(record["instruction"], record.get("input"))))
    return turns + _answer(record, ("output",))


def _read_dolly(record: Mapping[str, Any]) -> Turns:
    question = question_of(record["instruction"], record.get("context"))
    return [("user", question), *_answer(record, ("response",))]


def _read_prompt(record: Mapping[str, Any]) -> Turns:
    asked = _first(record, QUESTIONS)
    turns = messages_of(asked) if is_messages(asked) else [("user", asked)]
    if record.get("system") is not None:
        turns.insert(0, ("system", record["system"]))
    return turns + _answer(record, ANSWERS)


def _answer(record: Mapping[str, Any], keys: Sequence[str]) -> Turns:
    """The answer, if there is a column of it: a file of questions alone has none."""
    if record.keys().isdisjoint(keys):
        return []
    value = _first(record, keys)
    return messages_of(value) if is_messages(value) else [("assistant", value)]


def _first(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """What stands under the first of these columns that holds something; null where none does."""
    return next((record[key] for key in keys if record.get(key) is not None), None)


ALPACA = Shape(
    name="alpaca",
    looks='{"instruction": "…", "input": "…", "output": "…", "history": [[question, answer], …], "system": "…"}',
    keys=frozenset({"instruction", "input", "output", "history", "system"}),
    fits=lambda record: "instruction" in record and "response" not in record,
    read=_read_alpaca,
)
DOLLY = Shape(
    name="dolly",
    looks='{"instruction": "…", "context": "…", "response": "…"}',
    keys=frozenset({"instruction", "context", "response"}),
    fits=lambda record: {"instruction", "response"} <= record.keys(),
    read=_read_dolly,
)
PROMPT = Shape(
    name="prompt",
    looks='{"prompt": "…", "completion": "…"} (or question; or response, answer)',
    keys=frozenset({*QUESTIONS, *ANSWERS, "system"}),
    fits=lambda record: not record.keys().isdisjoint(QUESTIONS),
    read=_read_prompt,
)
