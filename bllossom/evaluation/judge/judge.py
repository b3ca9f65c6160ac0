"""The judge stage: which of two models answers better, asked of a judge in both orders.

    verdicts.jsonl      {"id", "a", "b", "order", "verdict", "raw", "prompt_version", "cost"}, two a prompt and pair
    preferences.jsonl   {"prompt": messages, "chosen": messages, "rejected": messages} where both orders agree, for dpo
    report.md           the figures as tables; the same stand in manifest.json
    pictures/           bars of win, tie, inconsistent and lose: NAME.svg, and NAME.LANGUAGE.svg

The judge's replies are filed beside the output, in OUTPUT.replies.jsonl, under the content of what was asked: another
pair, another draw, a kill or --force asks again only what was never answered.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from bllossom.artifacts import FAILED_REQUESTS, Manifest, publish
from bllossom.config import InputPath, OutputPath, StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.judge.ask import LocalJudge, Reply, ask_endpoint, ask_local
from bllossom.evaluation.judge.language import Languages, is_wrong, primary
from bllossom.evaluation.judge.pairs import Item, Pair, choose_pairs, find_files, lay_together, read_answers
from bllossom.evaluation.judge.prompt import JudgePrompt, load_prompt
from bllossom.evaluation.judge.rates import measure
from bllossom.evaluation.judge.report import lines, preferences, write_pictures, write_report
from bllossom.evaluation.judge.strengths import measure_strengths
from bllossom.evaluation.judge.verdicts import ORDERS, Judged, Order, Verdict, of_models
from bllossom.hub import pin
from bllossom.serving.client import estimate
from bllossom.serving.endpoint import Endpoint
from bllossom.serving.log import write_records

REPLY_LENGTH = "x" * 800  # what a dry run takes a reply to be: about 200 tokens


class JudgeConfig(StageConfig):
    """What `bllossom judge` reads."""

    execution_keys: ClassVar[frozenset[str]] = frozenset({"replies"})

    answers: Annotated[
        list[InputPath],
        Field(min_length=1, description="files of answers, or folders of them; a model is called as its file"),
    ]
    pairs: Annotated[list[tuple[str, str]], Field(description="models to compare, A and B; []: each with each")] = []
    endpoint: Annotated[Endpoint | None, Field(description="the judge, where it is an endpoint")] = None
    local: Annotated[LocalJudge | None, Field(description="the judge, where it is a model of one's own")] = None
    prompt: Annotated[
        Literal["en", "ko"] | InputPath, Field(description="ours, or a YAML file (see judge/prompt.py)")
    ] = "en"
    replies: Annotated[OutputPath | None, Field(description="where replies are filed; null: OUTPUT.replies.jsonl")] = (
        None
    )
    languages: Annotated[
        list[str], Field(description="ISO 639-1, told apart in answers; []: languages are not looked at")
    ] = ["en", "ko", "ja", "zh", "de", "es", "fr"]
    wrong_language: Annotated[
        Literal["count", "loses"],
        Field(
            description="an answer in another language than its prompt is counted; or loses to one that is not, where "
            "the prompt says its language"
        ),
    ] = "count"
    draws: Annotated[int, Field(gt=0, description="of the bootstrap, over prompts")] = 10_000
    seed: Annotated[int, Field(ge=0, description="of the bootstrap")] = 0

    @model_validator(mode="after")
    def _one_judge(self) -> "JudgeConfig":
        if (self.endpoint is None) == (self.local is None):
            raise ValueError("one judge is needed: set endpoint, {url, model}, or local, {model}")
        if self.wrong_language == "loses" and not self.languages:
            raise ValueError("wrong_language: loses needs languages to tell apart")
        return self

    def replies_file(self) -> Path:
        """Where the judge's replies are filed."""
        return self.replies or self.output.with_name(f"{self.output.name}.replies.jsonl")


def judge(config: JudgeConfig, *, force: bool = False) -> Manifest:
    """Have all pairs of `config` judged in both orders, and publish verdicts, figures, pictures and preferences.

    Raises:
        BllossomError: the answers do not fit each other, a hub id cannot be fetched, or the judge cannot be asked; the
            same command goes on.
    """
    files = find_files(config.answers)
    wanted = choose_pairs(list(files), config.pairs)
    prompt = load_prompt(config.prompt)
    if config.endpoint is not None:
        config.endpoint.key()  # a missing one is told before anything is made
    if config.local is not None:
        local = config.local.model_copy(update={"model": pin(config.local.model)})
        config = config.model_copy(update={"local": local})
    used = {name for pair in wanted for name in pair}
    bases = _bases(config)
    inputs = {f"answers.{name}": path for name, path in files.items() if name in used} | _inputs(config) | bases
    build = lambda folder: _build(config, prompt, _read(files, wanted), folder)  # noqa: E731
    manifest = publish(config, stage="judge", inputs=inputs, build=build, force=force, added_inputs=bases)
    for line in lines(manifest.figures):
        say(line)
    return manifest


def dry_run(config: JudgeConfig) -> list[str]:
    """How many requests, tokens and how much money it would take, replies that hold no tag aside."""
    prompt = load_prompt(config.prompt)
    if not all(path.exists() for path in config.answers):
        return ["what is asked is known once the answers are here"]
    files = find_files(config.answers)
    pairs = _read(files, choose_pairs(list(files), config.pairs))
    questions = [question for pair in pairs for question in _questions(pair, prompt)]
    lines = [f"{pair.a} against {pair.b}: {len(pair.items):,} prompts in both orders" for pair in pairs]
    if config.endpoint is None:
        return [*lines, f"{len(questions):,} requests of {config.local.model if config.local else ''}"]
    told = estimate(config.endpoint, config.replies_file(), [(question, REPLY_LENGTH) for question in questions])
    return [*lines, told.line(), f"prompt {prompt.version}; replies are filed in {config.replies_file()}"]


def _inputs(config: JudgeConfig) -> dict[str, Path | str]:
    """What the judge itself is made of; its model is pinned."""
    found: dict[str, Path | str] = {"prompt": config.prompt} if isinstance(config.prompt, Path) else {}
    if config.local is not None:
        found["local.model"] = config.local.model
        if isinstance(config.local.template, Path):
            found["local.template"] = config.local.template
    return found


def _bases(config: JudgeConfig) -> dict[str, str]:
    """What a judge that is an adapter is put on."""
    if config.local is None:
        return {}
    from bllossom.model.load import base_input  # imports torch, which an endpoint does not need

    return base_input("local.model", config.local.model)


def _read(files: Mapping[str, Path], wanted: Sequence[tuple[str, str]]) -> list[Pair]:
    used = {name for pair in wanted for name in pair}
    answers = {name: read_answers(path) for name, path in files.items() if name in used}
    return [lay_together(a, b, answers) for a, b in wanted]


def _questions(pair: Pair, prompt: JudgePrompt) -> list[list[dict[str, str]]]:
    return [prompt.messages(item, order) for item in pair.items for order in ORDERS]


def _build(config: JudgeConfig, prompt: JudgePrompt, pairs: Sequence[Pair], folder: Path) -> dict[str, Any]:
    languages = _languages(config, pairs) if config.languages else None
    questions = [question for pair in pairs for question in _questions(pair, prompt)]
    if config.endpoint is not None:
        replies = ask_endpoint(config.endpoint, config.replies_file(), prompt, questions)
    elif config.local is not None:
        replies = ask_local(config.local, config.replies_file(), prompt, questions)
    _say_failures(replies, asks_again=config.endpoint is not None)
    rest = iter(replies)
    judged: dict[tuple[str, str], list[Judged]] = {}
    records: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    for pair in pairs:
        found = []
        for item in pair.items:
            by_order = {order: next(rest) for order in ORDERS}
            verdicts = {order: of_models(reply.place, order) for order, reply in by_order.items()}
            found.append(_judged(item, verdicts, languages, config.wrong_language == "loses"))
            for order, reply in by_order.items():
                records.append(_record(pair, item.id, order, verdicts[order], reply, prompt.version))
        judged[pair.a, pair.b] = found
        chosen += preferences(pair, found)
    write_records(folder / "verdicts.jsonl", records)
    write_records(folder / "preferences.jsonl", chosen)
    figures = _figures(config, judged) | {
        "preferences": len(chosen),
        "asked_again": sum(reply.asked == 2 for reply in replies),
        "cost": sum(reply.cost for reply in replies),
    }
    if config.endpoint is not None:  # what does not fit a model here would not fit the next time
        figures[FAILED_REQUESTS] = sum(bool(reply.failure) for reply in replies)
    write_pictures(folder / "pictures", judged)
    write_report(folder / "report.md", figures)
    return figures


def _languages(config: JudgeConfig, pairs: Sequence[Pair]) -> Languages:
    """What tells languages apart.

    Raises:
        ConfigError: a code that nobody knows, or prompts in a language that is not among them.
    """
    languages = Languages(config.languages)
    named = {code for pair in pairs for item in pair.items if (code := primary(item.language)) is not None}
    if missing := sorted(named - set(config.languages)):
        raise ConfigError(
            f"languages: there are prompts in {missing[0]}, which is not among {', '.join(config.languages)}: every "
            "answer would pass for one in another language; add it, or set languages: []"
        )
    if unnamed := sum(item.language is None for pair in pairs for item in pair.items):
        say(
            f"{unnamed:,} prompts do not say in which language they are: it is guessed among "
            f"{', '.join(config.languages)}, and no answer loses by that; put language into the prompts, or name in "
            "languages what they are in"
        )
    return languages


def _judged(
    item: Item, verdicts: Mapping[Order, Verdict], languages: Languages | None, wrong_language_loses: bool
) -> Judged:
    named = language = primary(item.language)
    wrong_a: bool | None = None
    wrong_b: bool | None = None
    if languages is not None:
        language = language or languages.of(item.messages[-1]["content"])
        wrong_a = is_wrong(languages.of(item.answer_a), language)
        wrong_b = is_wrong(languages.of(item.answer_b), language)
    return Judged(
        item.id,
        verdicts,
        len(item.answer_a),
        len(item.answer_b),
        item.category,
        language,
        wrong_a,
        wrong_b,
        wrong_language_loses and named is not None,  # a guess is counted; nobody loses by it
    )


def _figures(config: JudgeConfig, judged: Mapping[tuple[str, str], Sequence[Judged]]) -> dict[str, Any]:
    pairs = [
        {"a": a, "b": b, **measure(found, draws=config.draws, seed=config.seed)} for (a, b), found in judged.items()
    ]
    strengths: dict[str, Any] | None = None
    try:
        strengths = measure_strengths(judged, draws=config.draws, seed=config.seed) if len(judged) > 1 else None
    except BllossomError as error:
        say(f"no strengths: {error}")
    return {"pairs": pairs, "strengths": strengths, "wrong_language": config.wrong_language}


def _record(pair: Pair, id_: str, order: str, verdict: str, reply: Reply, version: str) -> dict[str, Any]:
    record = {"id": id_, "a": pair.a, "b": pair.b, "order": order, "verdict": verdict, "raw": reply.raw}
    failure = {"failure": reply.failure} if reply.failure else {}
    return record | {"prompt_version": version, "cost": reply.cost} | failure


def _say_failures(replies: Sequence[Reply], *, asks_again: bool) -> None:
    failures = [reply.failure for reply in replies if reply.failure]
    untold = sum(reply.place is None for reply in replies) - len(failures)
    if failures:
        again = "; --force asks them again, and only them" if asks_again else ""
        say(f"{len(failures):,} requests have no reply, counted as errors, the first: {failures[0]}{again}")
    if untold:
        say(f"{untold:,} replies hold no tag, asked twice: counted as errors")
    if len(failures) == len(replies):
        later = "; run the same command later" if asks_again and not all(reply.refused for reply in replies) else ""
        raise BllossomError(f"no request has a reply ({failures[0]}){later}")
