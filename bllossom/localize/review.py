"""`bllossom localize review`: the page on which people correct a translation."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bllossom.config import InputPath, Model, OutputPath
from bllossom.console import say
from bllossom.localize.flag import RuleSettings, flags_of, load_flags, make_checker, prompt_of
from bllossom.localize.records import Pair, load_pairs, passages, spoken
from bllossom.localize.reviewing.book import Book, Decision
from bllossom.localize.reviewing.desk import Desk
from bllossom.localize.rules.checker import Flag
from bllossom.serving.log import AppendLog
from bllossom.serving.pages import Page, serve

LOG = "reviews.jsonl"
FILES = Path(__file__).parent / "reviewing" / "page"


class ReviewConfig(Model):
    """What is reviewed, and where the decisions go."""

    translation: Annotated[InputPath, Field(description="the output of localize translate")]
    flags: Annotated[
        InputPath | None, Field(description="the output of localize flag; null: the rules run before the page opens")
    ] = None
    rules: RuleSettings
    folder: Annotated[OutputPath, Field(description="holds reviews.jsonl, the log of all decisions")]
    judged_twice: Annotated[int, Field(ge=0, description="so many examples, spread evenly, go to two reviewers")] = 0
    port: Annotated[int, Field(ge=0, le=65_535, description="on 127.0.0.1; 0 takes a free one")] = 8770


def review(config: ReviewConfig) -> None:
    """Serve the page until it is stopped.

    Raises:
        BllossomError: another server has the folder, the port is taken, an input cannot be read, or the flags are of
            another translation.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    with AppendLog(config.folder / LOG) as log:  # first of all: a second server is refused at once
        desk = open_desk(config, log)
        if log.records:
            say(f"{len(log.records):,} decisions taken up from {log.path}")
        serve(page_of(desk), port=config.port, folder=config.folder)


def open_desk(config: ReviewConfig, log: AppendLog) -> Desk:
    """The desk of a translation, with its flags and the decisions of the log.

    Raises:
        BllossomError: an input cannot be read, or the flags are of another translation.
    """
    pairs, prompt = load_pairs(config.translation), prompt_of(config.translation)
    given = load_flags(config.flags, config.translation, pairs) if config.flags is not None else None
    checker = make_checker(config.rules, pairs)
    flags = flags_of(checker, pairs, prompt) if given is None else given
    book = book_of(pairs, config.judged_twice, map(Decision.of, log.records))
    checker.flags("", passages(pairs[0]))  # the morphology is loaded now, not under somebody's first keystroke
    return Desk(pairs, checker, group(pairs, flags), book, log, prompt)


def page_of(desk: Desk) -> Page:
    """The desk as a page."""
    return Page(
        files={
            "/": FILES / "review.html",
            **{f"/{name}": FILES / name for name in ("review.css", "review.js", "diff.js")},
        },
        reads={"/search": desk.search, "/labels": desk.labels},
        writes={
            "/open": desk.open,
            "/next": desk.next,
            "/decide": desk.decide,
            "/entity": desk.entity,
            "/topic": desk.topic,
            "/undo": desk.undo,
            "/flags": desk.flags,
        },
    )


def book_of(pairs: Sequence[Pair], judged_twice: int = 0, decisions: Iterable[Decision] = ()) -> Book:
    """The book of a translation, with the decisions so far."""
    machine = {pair.id: tuple(message.content for message in spoken(pair.target)) for pair in pairs}
    step = max(len(pairs) // judged_twice, 1) if judged_twice else 0
    book = Book(machine, [pair.id for pair in pairs][::step][:judged_twice] if step else ())
    for decision in decisions:
        book.apply(decision)
    return book


def group(pairs: list[Pair], flags: list[Flag]) -> dict[str, list[Flag]]:
    """Flags by example; those without any have an empty list."""
    found: dict[str, list[Flag]] = {pair.id: [] for pair in pairs}
    for flag in flags:
        found[flag.id].append(flag)
    return found
