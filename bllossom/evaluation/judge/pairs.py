"""Files of answers, and which answers are laid side by side.

    {"id": "7-3f0c…", "messages": [{"role": "user", "content": "…"}], "answer": "…", "language": "ko", "category": …}

Files from elsewhere need `id` and `answer`; the question is read from the other file, where that has `messages`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ValidationError

from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.answers.prompts import read_turn

SHOWN_IDS = 3


def _said(messages: Any) -> Any:
    """By role and content, as `bllossom answers` takes its prompts."""
    if not isinstance(messages, list):
        return messages
    return [dict(zip(("role", "content"), read_turn(message), strict=True)) for message in messages]


class Answer(BaseModel):
    """One line of a file of answers; further keys are left alone."""

    id: Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
    answer: str
    messages: Annotated[list[dict[str, str]], BeforeValidator(_said)] = []
    language: str | None = None
    category: str | None = None


@dataclass(frozen=True)
class Item:
    """One prompt with two answers."""

    id: str
    messages: list[dict[str, str]]
    answer_a: str
    answer_b: str
    language: str | None
    category: str | None


@dataclass(frozen=True)
class Pair:
    """Two models and everything they both answered."""

    a: str
    b: str
    items: list[Item]


def find_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Files of answers by the model's name, which is the file's; of a folder all `*.jsonl` in it.

    Raises:
        ConfigError: a folder without one, fewer than two files, or two of one name.
    """
    files: dict[str, Path] = {}
    for path in paths:
        found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not found:
            raise ConfigError(
                f"{path}: there is no *.jsonl in it; name a folder that `bllossom answers` made, or files"
            )
        for file in found:
            if file.stem in files:
                raise ConfigError(
                    f"{file.stem}: stands twice ({files[file.stem]}, {file}); a model is not judged against itself: "
                    "name another, or rename the file"
                )
            files[file.stem] = file
    if len(files) < 2:
        raise ConfigError(f"{', '.join(files) or 'nothing'}: two models' answers are needed; name a second file")
    return files


def choose_pairs(names: Sequence[str], wanted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs that are asked for, or without any the round robin of all.

    Raises:
        ConfigError: a name that is not there, a model against itself, or a pair that stands twice.
    """
    for pair in wanted:
        if unknown := [name for name in pair if name not in names]:
            raise ConfigError(f"pairs: there are no answers of {unknown[0]}; there are {', '.join(names)}")
        if pair[0] == pair[1]:
            raise ConfigError(f"pairs: {pair[0]} against itself; name two models")
    if len({frozenset(pair) for pair in wanted}) < len(wanted):
        raise ConfigError("pairs: one of them stands twice; name each once")
    return list(wanted) or list(combinations(names, 2))


def read_answers(path: Path) -> dict[str, Answer]:
    """The answers of a file by id.

    Raises:
        BllossomError: there is no such file, a line is no answer, or an id stands twice.
    """
    found: dict[str, Answer] = {}
    lines: dict[str, int] = {}
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BllossomError(f"{path} cannot be read ({error.strerror}); name a file of answers") from error
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            answer = Answer.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors()[0]
            what = ".".join(map(str, problem["loc"])) or "the line"
            raise BllossomError(
                f'{path}:{number}: {what}: {problem["msg"]}; a line is {{"id": …, "answer": …}}: correct it'
            ) from error
        if answer.id in found:
            raise BllossomError(
                f"{path}:{number}: the id {answer.id} stood in line {lines[answer.id]} already; one answer an id"
            )
        found[answer.id], lines[answer.id] = answer, number
    if not found:
        raise BllossomError(f"{path} holds no answer; name another file")
    return found


def lay_together(a: str, b: str, answers: Mapping[str, Mapping[str, Answer]]) -> Pair:
    """Two models' answers side by side, in the order of A's file.

    Raises:
        BllossomError: the ids differ, neither file has the questions, or both files say the same throughout.
    """
    of_a, of_b = answers[a], answers[b]
    only_a, only_b = sorted(of_a.keys() - of_b.keys()), sorted(of_b.keys() - of_a.keys())
    if only_a or only_b:
        raise BllossomError(
            f"{a} and {b} answer different prompts: {_shown(a, only_a)}, {_shown(b, only_b)}; have both answer "
            "the same file (`bllossom answers`)"
        )
    items = [_item(one, of_b[one.id], (a, b)) for one in of_a.values()]
    if all(item.answer_a == item.answer_b for item in items):
        raise BllossomError(f"{a} and {b} give the same answers throughout: it is one model; name another")
    return Pair(a, b, items)


def _item(one: Answer, other: Answer, names: tuple[str, str]) -> Item:
    messages = one.messages or other.messages
    if not messages:
        raise BllossomError(
            f"{names[0]} and {names[1]}: {one.id} has no messages in either file, and a judge has to know the "
            'question; add "messages" to one of them'
        )
    if one.messages and other.messages and one.messages != other.messages:
        raise BllossomError(
            f"{names[0]} and {names[1]}: {one.id} is another question in each; have both answer the same file"
        )
    language, category = one.language or other.language, one.category or other.category
    return Item(one.id, messages, one.answer, other.answer, language, category)


def _shown(name: str, ids: Sequence[str]) -> str:
    more = ", …" if len(ids) > SHOWN_IDS else ""
    return f"{len(ids):,} only in {name}" + (f" ({', '.join(ids[:SHOWN_IDS])}{more})" if ids else "")
