import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bllossom.artifacts import lock_of, partial_folders
from bllossom.cli import make_app
from bllossom.files import locked
from tests.fixtures.copying import Copying, copy, leave_unfinished


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A recipe's folder with one published step and two unfinished ones, the first with checkpoints."""
    (tmp_path / "source.txt").write_text("text")
    for name in ("done", "half", "other"):
        config = Copying(source=tmp_path / "source.txt", output=tmp_path / f"runs/{name}")
        if name == "done":
            copy(config)
        else:
            leave_unfinished(config)
    [half] = partial_folders(tmp_path / "runs/half")
    for step in (10, 20, 30):
        folder = half / f"checkpoints/step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
        (folder / "weights").write_bytes(bytes(1_000_000))
    (half / "checkpoints/writing").mkdir()
    return tmp_path / "runs"


def clean(*arguments, answers=""):
    return CliRunner().invoke(make_app(), ["clean", *map(str, arguments)], input=answers)


def folders(run: Path) -> list[str]:
    return sorted(re.sub("-[0-9a-f]{16}", "", str(path.relative_to(run))) for path in run.rglob("*") if path.is_dir())


def test_what_is_left_is_listed_with_sizes_and_kept_unless_one_says_so(left):
    before = folders(left)
    listed = clean(left, answers="n\nn\nn\n")
    assert listed.exit_code == 0, listed.output
    half, first, second, writing, other = listed.stdout.splitlines()[:5]
    assert re.search(
        r"half\.partial-[0-9a-f]{16}  3\.0 MB  unfinished copy, up to step-00000030, last changed 0:", half
    )
    assert re.search(r"half\.partial.*/step-00000010  1\.0 MB  behind the newest checkpoint", first)
    assert re.search(r"half\.partial.*/step-00000020  1\.0 MB  behind the newest checkpoint", second)
    assert re.search(r"half\.partial.*/writing  \S+ k?B  ", writing)
    assert re.search(r"other\.partial-[0-9a-f]{16}  \S+ k?B  unfinished copy, last changed", other)
    assert folders(left) == before


def test_old_checkpoints_can_go_alone(left):
    assert clean(left, answers="n\ny\ny\n").exit_code == 0
    assert folders(left) == [
        *("done", "done/deep", "done/logs", "half.partial", "half.partial/checkpoints"),
        "half.partial/checkpoints/step-00000030",
    ]


def test_the_best_checkpoint_stays_as_the_run_may_end_with_it(left):
    [half] = partial_folders(left / "half")
    (half / "checkpoints/step-00000030/state.json").write_text('{"best_step": 10}')
    cleaned = clean(left / "half", answers="n\ny\n")
    assert cleaned.exit_code == 0, cleaned.output
    assert "step-00000010  " not in cleaned.stdout
    assert [path.name for path in sorted((half / "checkpoints").iterdir())] == ["step-00000010", "step-00000030"]


def test_what_a_run_goes_on_from_stays_where_the_newest_state_is_damaged(left):
    [half] = partial_folders(left / "half")
    (half / "checkpoints/step-00000030/state.json").write_text("{")
    assert clean(left / "half", answers="n\ny\n").exit_code == 0
    assert [path.name for path in sorted((half / "checkpoints").iterdir())] == ["step-00000020", "step-00000030"]


def test_all_of_it_goes_with_yes_and_the_published_stays(left):
    assert clean(left, "--yes").exit_code == 0
    assert folders(left) == ["done", "done/deep", "done/logs"]
    assert "nothing is left behind" in clean(left).stdout


def test_what_a_run_published_while_the_question_stood_is_told_and_the_rest_goes(left, monkeypatch):
    [half] = partial_folders(left / "half")

    def publish_and_say_yes(*_, **__):
        if half.exists():
            half.rename(left / "half")
        return True

    monkeypatch.setattr("typer.confirm", publish_and_say_yes)
    cleaned = clean(left)
    assert cleaned.exit_code == 0, cleaned.output
    assert f"{half} is gone already" in cleaned.stderr
    assert (left / "half/checkpoints").is_dir()
    assert "other.partial" not in folders(left)


def test_a_stages_output_is_cleaned_beside_it(left):
    assert clean(left / "other", "--yes").exit_code == 0
    assert "half.partial" in folders(left)
    assert "other.partial" not in folders(left)
    assert clean(left / "nothere").exit_code == 1


def test_where_a_run_is_at_work_nothing_is_removed(left):
    with locked(lock_of(left / "half"), "half"):
        refused = clean(left / "half", "--yes")
    assert refused.exit_code == 1
    assert "another process is working in" in refused.stderr
    assert "half.partial/checkpoints/step-00000010" in folders(left)
