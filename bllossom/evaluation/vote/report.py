"""What people's votes come to, how far voters agree, and how far a judge agrees with them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bllossom.errors import BllossomError
from bllossom.evaluation.judge.pairs import Pair
from bllossom.evaluation.judge.rates import first_position_rate, measure
from bllossom.evaluation.judge.report import percent, section, table
from bllossom.evaluation.judge.verdicts import Judged, Outcome, Verdict
from bllossom.evaluation.vote.agreement import Votes, agreement_share, cohens_kappa, krippendorffs_alpha, shared
from bllossom.serving.log import read_log

DRAWS, SEED = 10_000, 0
AS_VOTE: Mapping[Outcome, str] = {"win": "a", "lose": "b", "tie": "tie"}


def majorities(pair: Pair, cast: Votes) -> list[Judged]:
    """What most voters say of each prompt that has a vote; a tie where no verdict has more votes than all others."""
    found = []
    for item in pair.items:
        votes = Counter(by_item[item.id] for by_item in cast.values() if item.id in by_item)
        if not votes:
            continue
        (first, most), *rest = votes.most_common()
        verdict: Any = "tie" if rest and rest[0][1] == most else first
        lengths = len(item.answer_a), len(item.answer_b)
        found.append(Judged(item.id, {"ab": verdict}, *lengths, item.category, item.language))
    return found


def read_outcomes(path: Path, pair: Pair) -> dict[str, Outcome]:
    """A judge's outcomes of A against B by prompt, from its verdicts.jsonl.

    Raises:
        BllossomError: it is no file of verdicts, or has not judged these two.
    """
    if not path.is_file():
        raise BllossomError(f"{path}: no such file; name a judge's folder, or its verdicts.jsonl")
    by_prompt: dict[str, dict[Any, Verdict]] = {}
    turned: Mapping[str, Verdict] = {"a": "b", "b": "a"}
    for record in read_log(path):
        if not {"id", "a", "b", "order", "verdict"} <= record.keys():
            raise BllossomError(f"{path} holds no verdicts; name a judge's folder, or its verdicts.jsonl")
        if (record["a"], record["b"]) == (pair.a, pair.b):
            by_prompt.setdefault(record["id"], {})[record["order"]] = record["verdict"]
        elif (record["a"], record["b"]) == (pair.b, pair.a):
            verdict = turned.get(record["verdict"], record["verdict"])
            by_prompt.setdefault(record["id"], {})[record["order"]] = verdict
    if not by_prompt:
        raise BllossomError(f"{path} has no verdict on {pair.a} against {pair.b}; name another, or judge them first")
    return {id_: Judged(id_, by_order, 0, 0).outcome() for id_, by_order in by_prompt.items()}


def report(
    pair: Pair,
    votes: Sequence[Mapping[str, Any]],
    cast: Votes,
    judged: Sequence[Judged],
    outcomes: Mapping[str, Outcome] | None,
) -> str:
    """All of it as Markdown."""
    figures = {"a": pair.a, "b": pair.b, **measure(judged, draws=DRAWS, seed=SEED)}
    shown = [Judged(vote["id"], {vote["order"]: vote["verdict"]}, 0, 0) for vote in votes]
    figures["first_position_rate"] = first_position_rate(shown)
    voters = [
        [voter, f"{len(by_item):,}", *(f"{Counter(by_item.values())[verdict]:,}" for verdict in ("a", "tie", "b"))]
        for voter, by_item in cast.items()
    ]
    parts = [
        *section({"pairs": [figures]}),
        f"{len(votes):,} votes on {len(judged):,} of {len(pair.items):,} prompts; what most say counts. The answer on "
        f"the left was named in {percent(figures['first_position_rate'])} of the votes that name one.",
        table(["voter", "votes", pair.a, "tie", pair.b], voters),
        *_agreement(cast),
    ]
    if outcomes is not None:
        parts += _against_judge(judged, outcomes)
    return "\n\n".join(parts)


def _agreement(cast: Votes) -> list[str]:
    share = agreement_share(cast)
    if share is None:
        return ["No prompt has two votes: nothing to compare."]
    told = [f"Voters agree in {percent(share)} of the pairs of votes on one prompt"]
    if len(cast) == 2:
        told.append(f"Cohen's κ {_number(cohens_kappa(shared(*cast.values())))}")
    told.append(f"Krippendorff's α {_number(krippendorffs_alpha(cast))}")
    return [", ".join(told) + "."]


def _against_judge(judged: Sequence[Judged], outcomes: Mapping[str, Outcome]) -> list[str]:
    """Where both orders of the judge say the same; the others are told, and not made ties."""
    people = {one.id: AS_VOTE[one.outcome()] for one in judged}
    both = {id_: outcomes[id_] for id_ in people if id_ in outcomes}
    clear = {id_: AS_VOTE[outcome] for id_, outcome in both.items() if outcome in AS_VOTE}
    pairs = shared(people, clear)
    left_out = Counter(outcome for outcome in both.values() if outcome not in AS_VOTE)
    share = sum(one == other for one, other in pairs) / len(pairs) if pairs else None
    return [
        f"The judge and most people agree on {percent(share)} of {len(pairs):,} prompts, Cohen's κ "
        f"{_number(cohens_kappa(pairs))}; left out: {left_out['inconsistent']:,} where the judge is inconsistent, "
        f"{left_out['error']:,} errors."
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
