"""What votes come to: most voters count, agreement is told, and a judge is held against people."""

import json

import pytest
from typer.testing import CliRunner

from bllossom.artifacts import publish
from bllossom.cli import make_app
from bllossom.errors import BllossomError
from bllossom.evaluation.vote.ballots import Ballots
from bllossom.evaluation.vote.report import majorities, read_outcomes
from bllossom.evaluation.vote.vote import report_votes
from tests.fixtures.copying import Copying


def cast(pair, voter, verdicts):
    ballots = Ballots(pair, [])
    sides = {item.id: order for item, order in ballots.sequence(voter)}
    choices = {("a", "ab"): "left", ("b", "ba"): "left", ("a", "ba"): "right", ("b", "ab"): "right"}
    return [ballots.vote(voter, id_, choices.get((verdict, sides[id_]), "tie")) for id_, verdict in verdicts.items()]


def write(path, records):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_most_votes_count_and_none_at_all_is_no_tie(pair):
    votes = {"x": {"q0": "a", "q1": "a"}, "y": {"q0": "a", "q1": "b"}, "z": {"q0": "b"}}
    found = {one.id: one.outcome() for one in majorities(pair, votes)}
    assert found == {"q0": "win", "q1": "tie"}


def test_the_report_tells_votes_agreement_and_the_judge(pair, files, tmp_path):
    votes = [
        *cast(pair, "미나", {"q0": "a", "q1": "b", "q2": "tie"}),
        *cast(pair, "준", {"q0": "a", "q1": "a", "q2": "tie"}),
    ]
    path = write(tmp_path / "votes" / "votes.jsonl", votes)
    with path.open("a") as file:
        file.write('{"id": "q2", "voter": "cut in the')
    judged = [
        {"id": id_, "a": "new", "b": "old", "order": order, "verdict": verdict}
        for id_, both in {"q0": ("b", "b"), "q1": ("a", "b"), "q2": ("a", "a")}.items()
        for order, verdict in zip(("ab", "ba"), both, strict=True)
    ]
    told = report_votes(files, tmp_path / "votes", write(tmp_path / "judge" / "verdicts.jsonl", judged))
    assert "| 미나 | 3 | 1 | 1 | 1 |" in told
    # each prompt was seen in one order, and nobody looked at languages
    assert "| – | 14 | 14 | – | – |" in told
    assert "6 votes on 3 of 3 prompts" in told
    # agree on 2 of 3; chance: a ⅓·⅔ + b ⅓·0 + tie ⅓·⅓ = ⅓
    assert "Voters agree in 66.7 % of the pairs of votes on one prompt, Cohen's κ 0.50, Krippendorff's α" in told
    # q0: people a, judge (turned) a; q1: the judge is inconsistent; q2: people tie, judge b
    assert "agree on 50.0 % of 2 prompts" in told
    assert "left out: 1 where the judge is inconsistent, 0 errors" in told
    assert told.endswith("verdicts.jsonl is on these very answers is not known: no manifest beside it says so.")
    assert "against new: win 1, tie 2" in (tmp_path / "votes" / "pictures" / "old.svg").read_text(encoding="utf8")


def test_a_judge_of_others_is_refused(pair, tmp_path):
    path = write(
        tmp_path / "judge" / "verdicts.jsonl", [{"id": "q0", "a": "p", "b": "q", "order": "ab", "verdict": "a"}]
    )
    with pytest.raises(BllossomError, match="no verdict on old against new"):
        read_outcomes(path, pair)


def test_a_judge_s_folder_is_taken_where_it_is_of_these_answers(pair, files, tmp_path):
    write(tmp_path / "votes" / "votes.jsonl", cast(pair, "v", {"q0": "a"}))
    verdicts = [{"id": "q0", "a": "old", "b": "new", "order": order, "verdict": "a"} for order in ("ab", "ba")]
    config = Copying(source=files[0], output=tmp_path / "judge")
    publish(
        config,
        stage="judge",
        inputs={f"answers.{path.stem}": path for path in files},
        build=lambda folder: (write(folder / "verdicts.jsonl", verdicts), {})[1],
    )
    told = report_votes(files, tmp_path / "votes", tmp_path / "judge")
    assert "agree on 100.0 % of 1 prompts" in told
    assert "not known" not in told
    files[1].write_text(files[1].read_text(encoding="utf8") + "\n", encoding="utf8")
    with pytest.raises(BllossomError, match=r"verdicts\.jsonl is on other answers than .*new\.jsonl; judge these"):
        report_votes(files, tmp_path / "votes", tmp_path / "judge")


def test_what_is_no_file_of_verdicts_is_told(pair, files, tmp_path):
    with pytest.raises(BllossomError, match=r"gone: no such file; name a judge's folder, or its verdicts\.jsonl"):
        read_outcomes(tmp_path / "gone", pair)
    with pytest.raises(BllossomError, match=r"holds no verdicts; name a judge's folder, or its verdicts\.jsonl"):
        read_outcomes(files[0], pair)


def test_without_votes_there_is_nothing_to_report(files, tmp_path):
    with pytest.raises(BllossomError, match="holds no vote"):
        report_votes(files, tmp_path / "votes", None)


def test_a_port_that_there_is_none_of_is_wrong_usage(files, tmp_path):
    run = ["vote", *map(str, files), "--output", str(tmp_path / "votes"), "--port", "99999"]
    done = CliRunner().invoke(make_app(), run)
    assert (done.exit_code, (tmp_path / "votes").exists()) == (2, False)
