"""vote: a page on 127.0.0.1 on which people say which of two answers is better.

OUTPUT/votes.jsonl   one line a vote (see ballots.py), on the disk before the page says so
OUTPUT/pictures/     bars of what the votes come to, by --report
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bllossom.artifacts import fingerprint, read_manifest
from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.judge.pairs import Pair, find_files, lay_together, read_answers
from bllossom.evaluation.judge.report import write_pictures
from bllossom.evaluation.vote.ballots import Ballots
from bllossom.evaluation.vote.report import majorities, read_outcomes, report
from bllossom.serving.log import AppendLog, read_log
from bllossom.serving.pages import Page, serve

VOTES = "votes.jsonl"
VERDICTS = "verdicts.jsonl"
PAGE = Path(__file__).parent / "page"


def serve_votes(files: Sequence[Path], output: Path, port: int) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        BllossomError: the answers do not fit each other, the votes there are on others, or the port is taken.
    """
    pair = _read_pair(files)
    with AppendLog(output / VOTES) as log:
        ballots = Ballots(pair, log.records)

        def cast(posted: dict[str, Any]) -> dict[str, Any]:
            record = ballots.vote(posted.get("voter", ""), str(posted.get("id")), str(posted.get("choice")))
            if record is not None:
                log.append(record)
                ballots.count(record)
            return ballots.next(posted.get("voter", ""))

        page = Page(
            files={
                "/": PAGE / "page.html",
                "/page.js": PAGE / "page.js",
                "/page.css": PAGE / "page.css",
                "/words.json": PAGE / "words.json",
            },
            reads={"/next": lambda query: ballots.next(query.get("voter", ""))},
            writes={"/vote": cast},
        )
        serve(page, port=port, folder=output)


def report_votes(files: Sequence[Path], output: Path, verdicts: Path | None) -> str:
    """What the votes come to, as Markdown; leaves a picture of them beside them.

    Raises:
        BllossomError: there is no vote, or the files are of others.
    """
    pair = _read_pair(files)
    votes = read_log(output / VOTES)
    if not votes:
        raise ConfigError(f"{output / VOTES} holds no vote; vote first, without --report")
    ballots = Ballots(pair, votes)
    judged = majorities(pair, ballots.cast)
    write_pictures(output / "pictures", {(pair.a, pair.b): judged})
    if verdicts is None:
        return report(pair, votes, ballots.cast, judged, None)
    path, known = _judged(verdicts, files)
    told = report(pair, votes, ballots.cast, judged, read_outcomes(path, pair))
    unsure = f"Whether {path} is on these very answers is not known: no manifest beside it says so."
    return told if known else f"{told}\n\n{unsure}"


def _judged(verdicts: Path, files: Sequence[Path]) -> tuple[Path, bool]:
    """The verdicts meant, a judge's folder's or a file, and whether a manifest says that they are on these files.

    Raises:
        BllossomError: they are on other answers of these models.
    """
    path = verdicts / VERDICTS if verdicts.is_dir() else verdicts
    manifest = read_manifest(path.parent)
    judged = {} if manifest is None else manifest.inputs
    named = find_files(files)
    for name, file in named.items():
        if judged.get(f"answers.{name}", now := fingerprint(file)) != now:
            raise BllossomError(f"{path} is on other answers than {file}; judge these, or name their verdicts")
    return path, all(f"answers.{name}" in judged for name in named)


def _read_pair(files: Sequence[Path]) -> Pair:
    named = find_files(files)
    if len(named) != 2:
        raise ConfigError(f"{', '.join(named)}: people compare two models; name two files of answers")
    a, b = named
    return lay_together(a, b, {name: read_answers(path) for name, path in named.items()})
