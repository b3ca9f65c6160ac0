import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bllossom import artifacts, files
from bllossom.cli import make_app
from bllossom.errors import BllossomError
from tests.fixtures.copying import Copying, copy


@pytest.fixture
def config(tmp_path: Path) -> Copying:
    (tmp_path / "source.txt").write_text("text")
    return Copying(source=tmp_path / "source.txt", output=tmp_path / "out")


def test_a_published_folder_is_whole_and_a_second_run_does_nothing(config):
    calls: list[Path] = []
    manifest = copy(config, calls=calls)
    assert list(manifest.files) == ["deep/copy.txt"], "logs are not payload"
    assert manifest.figures == {"characters": 4}
    assert artifacts.verify(config.output) == []
    assert copy(config, calls=calls) == artifacts.read_manifest(config.output)
    assert len(calls) == 1
    assert not list(config.output.parent.glob("*.partial-*"))


def test_another_result_is_refused_by_name_and_replaced_with_force(config):
    copy(config)
    other = config.model_copy(update={"suffix": "!"})
    with pytest.raises(BllossomError, match=r'holds another result \(suffix: "" there, "!" here\).*--force'):
        copy(other)
    assert copy(other, force=True).figures == {"characters": 5}
    assert (config.output / "deep/copy.txt").read_text() == "text!"


def test_force_makes_what_verify_finds_damaged_anew(config, capsys):
    copy(config)
    damaged = config.output / "deep/copy.txt"
    damaged.write_text("tixt")  # as many bytes
    assert artifacts.verify(config.output)
    copy(config)
    assert damaged.read_text() == "tixt"  # a stage that is there is not read again
    copy(config, force=True)
    assert damaged.read_text() == "text"
    assert artifacts.verify(config.output) == []
    told = " ".join(capsys.readouterr().err.split())
    assert told.count(f"{config.output}: deep/copy.txt: its contents changed") == told.count("--force replaces it") == 1


def test_force_leaves_a_whole_result_with_something_beside_it(config):
    calls = []
    copy(config, calls=calls)
    (config.output / "notes.txt").write_text("mine")
    copy(config, calls=calls, force=True)
    assert len(calls) == 1
    assert (config.output / "notes.txt").read_text() == "mine"


def keep_and_copy(config, began):
    """A stage that keeps in `steps` what it goes on from."""

    def build(folder):
        began.append((folder / "steps/one").exists())
        (folder / "steps").mkdir(exist_ok=True)
        (folder / "steps/one").write_text("1")
        (folder / "copy.txt").write_text("text")
        return {}

    inputs = {"source": config.source}
    return artifacts.publish(config, stage="copy", inputs=inputs, build=build, scratch=["steps", "never"])


def test_what_a_stage_goes_on_from_stays_until_the_result_is_whole(config, monkeypatch):
    began: list[bool] = []
    # While it is hashed, while the manifest is written, while all is brought to the disk, before it is renamed.
    for module, ended in (
        (artifacts, "payload"),
        (files, "sync_file"),
        (artifacts, "sync_folder"),
        (artifacts, "_move_into_place"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, ended, interrupt)
            with pytest.raises(KeyboardInterrupt):
                keep_and_copy(config, began)
        assert not config.output.exists()
    assert began[-1]
    made = len(began)
    manifest = keep_and_copy(config, began)
    assert len(began) == made  # it was whole, and only to be moved
    assert list(manifest.files) == ["copy.txt"]
    assert {path.name for path in config.output.iterdir()} == {"copy.txt", "manifest.json"}
    assert artifacts.verify(config.output) == []


def interrupt(*_):
    raise KeyboardInterrupt


def test_what_a_kill_leaves_of_an_old_result_is_never_taken_for_the_new_one(config, monkeypatch):
    copy(config)
    other = config.model_copy(update={"suffix": "!"})
    with monkeypatch.context() as patched:
        patched.setattr(artifacts.shutil, "rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            copy(other, force=True)
    [old] = artifacts.partial_folders(config.output)
    assert old.name.endswith(".replaced")
    calls: list[Path] = []
    assert copy(config, force=True, calls=calls).figures == {"characters": 4}
    assert calls
    assert not artifacts.partial_folders(config.output)


def test_a_partial_folder_that_says_it_is_whole_is_read_before_it_is_published(config, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "_move_into_place", interrupt)
        with pytest.raises(KeyboardInterrupt):
            copy(config)
    [unfinished] = artifacts.partial_folders(config.output)
    (unfinished / "deep/copy.txt").write_text("tixt")  # as a power cut leaves it
    calls: list[Path] = []
    copy(config, calls=calls)
    assert calls == [unfinished]
    assert (config.output / "deep/copy.txt").read_text() == "text"


def test_scratch_may_be_a_link_to_another_disk(config, tmp_path):
    (tmp_path / "disk").mkdir()

    def build(folder):
        (folder / "steps").symlink_to(tmp_path / "disk")
        (folder / "steps/one").write_text("1")
        (folder / "copy.txt").write_text("text")
        return {}

    artifacts.publish(config, stage="copy", inputs={"source": config.source}, build=build, scratch=["steps"])
    assert artifacts.verify(config.output) == []
    assert (tmp_path / "disk/one").exists()


@pytest.mark.parametrize(
    ("figure", "told"),
    [
        ({artifacts.FAILED_REQUESTS: 1}, "1 requests have no reply: --force asks them again"),
        ({artifacts.NOT_RUN: {"boolq": "no data"}}, "not run: boolq: --force makes the result anew"),
    ],
)
def test_what_was_left_open_is_told_and_made_with_force(config, capsys, figure, told):
    calls: list[int] = []

    def ask(*, force):
        def build(folder):
            calls.append(1)
            (folder / "copy.txt").write_text("text")
            return figure if len(calls) == 1 else {}

        return artifacts.publish(config, stage="copy", inputs={"source": config.source}, build=build, force=force)

    for number, (force, made) in enumerate(((False, 1), (False, 1), (True, 2), (True, 2))):
        capsys.readouterr()
        ask(force=force)
        assert len(calls) == made
        assert (told in capsys.readouterr().err) == (number in (1, 2))


def test_changed_input_is_another_result(config):
    copy(config)
    config.source.write_text("changed")
    with pytest.raises(BllossomError, match="holds another result"):
        copy(config)


def test_a_folder_of_something_else_is_kept_without_force(config):
    config.output.mkdir()
    (config.output / "thesis.txt").write_text("years of work")
    with pytest.raises(BllossomError, match="holds something else"):
        copy(config)
    assert (config.output / "thesis.txt").read_text() == "years of work"


def test_a_failed_build_leaves_the_old_result(config):
    copy(config)
    config.source.write_text("changed")

    def fail(folder: Path) -> dict[str, int]:
        (folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BllossomError, match=r"disk is full.*run the same command"):
        artifacts.publish(config, stage="copy", inputs={"source": config.source}, build=fail, force=True)
    assert artifacts.verify(config.output) == []
    assert (config.output / "deep/copy.txt").read_text() == "text"


def test_the_partial_folder_is_handed_on_after_a_kill_and_its_result_is_the_same(tmp_path, config):
    program = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from tests.fixtures.copying import Copying; from bllossom import artifacts\n"
        "def build(folder):\n"
        "    (folder / 'deep').mkdir(exist_ok=True); (folder / 'deep/copy.txt').write_text('ha')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "c = Copying(source=Path(sys.argv[2]), output=Path(sys.argv[3]))\n"
        "artifacts.publish(c, stage='copy', inputs={'source': c.source}, build=build)\n"
    )
    arguments = [str(Path(__file__).parents[1]), str(config.source), str(config.output)]
    killed = subprocess.run([sys.executable, "-c", program, *arguments])
    assert killed.returncode == -9
    assert not config.output.exists()
    [partial] = config.output.parent.glob("out.partial-*")
    calls: list[Path] = []
    resumed = copy(config, calls=calls)
    assert calls == [partial]
    whole = copy(config.model_copy(update={"output": tmp_path / "uninterrupted"}))
    assert resumed.fingerprint == whole.fingerprint


def test_a_second_process_does_not_build_in_the_same_place(config):
    def build(folder: Path) -> dict[str, int]:
        with pytest.raises(BllossomError, match="another process is working"):
            copy(config)
        return {}

    artifacts.publish(config, stage="copy", inputs={"source": config.source}, build=build)


@pytest.mark.parametrize("force", [False, True])
def test_a_live_run_of_another_config_is_neither_doubled_nor_removed(config, force):
    def build(folder: Path) -> dict[str, int]:
        (folder / "half").write_text("half")
        with pytest.raises(BllossomError, match=r"another process is working in .*out; .*name another output"):
            copy(config.model_copy(update={"suffix": "!"}), force=force)
        assert (folder / "half").read_text() == "half"
        return {}

    artifacts.publish(config, stage="copy", inputs={"source": config.source}, build=build)
    assert artifacts.verify(config.output) == []


def test_what_was_published_meanwhile_is_kept_without_force(tmp_path, config):
    def build(folder: Path) -> dict[str, int]:
        elsewhere = config.model_copy(update={"output": tmp_path / "elsewhere", "suffix": "!"})
        copy(elsewhere)
        elsewhere.output.rename(config.output)
        return {"of": "this run"}

    with pytest.raises(BllossomError, match=r"holds another result \(suffix.*while this run worked.*--force"):
        artifacts.publish(config, stage="copy", inputs={"source": config.source}, build=build)
    assert (config.output / "deep/copy.txt").read_text() == "text!"
    calls: list[Path] = []
    assert copy(config, force=True, calls=calls).figures == {"of": "this run"}
    assert not calls, "it was whole"


def test_a_stale_partial_folder_is_named_and_removed_with_force(config, capsys):
    stale = config.output.with_name("out.partial-0123456789abcdef")
    stale.mkdir()
    copy(config)
    assert "out.partial-0123456789abcdef was left unfinished" in capsys.readouterr().err
    copy(config.model_copy(update={"suffix": "!"}), force=True)
    assert not stale.exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda out: (out / "deep/copy.txt").unlink(), "deep/copy.txt: is missing"),
        (lambda out: (out / "deep/copy.txt").write_text("texT"), "deep/copy.txt: its contents changed"),
        (lambda out: (out / "deep/copy.txt").write_text("longer"), "has 6 bytes, the manifest says 4"),
        (lambda out: (out / "more.txt").write_text(""), "more.txt: is not in the manifest"),
    ],
)
def test_verify_names_what_is_wrong(config, damage, told):
    copy(config)
    damage(config.output)
    assert any(told in problem for problem in artifacts.verify(config.output))


def test_verify_says_what_to_do_where_all_is_whole_and_something_lies_beside_it(config):
    copy(config)
    (config.output / "notes.txt").write_text("mine")
    ended = CliRunner().invoke(make_app(), ["verify", str(config.output)])
    assert ended.exit_code == 1
    assert "holds more than its manifest says; move that elsewhere" in " ".join(ended.output.split())
    (config.output / "deep/copy.txt").unlink()
    ended = CliRunner().invoke(make_app(), ["verify", str(config.output)])
    assert "make it again with --force" in " ".join(ended.output.split())


def test_verify_finds_a_changed_manifest(config):
    copy(config)
    path = config.output / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["fingerprint"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert artifacts.verify(config.output) == ["manifest.json: its fingerprint is not that of the files it lists"]


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=8), min_size=1, max_size=4))
def test_a_folders_fingerprint_is_that_of_names_and_contents(tmp_path_factory, files):
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    for folder, items in ((first, files.items()), (second, reversed(files.items()))):
        for name, content in items:
            (folder / name).write_bytes(content)
    assert artifacts.fingerprint(first) == artifacts.fingerprint(second)
    name = next(iter(files))
    (second / name).write_bytes(files[name] + b"!")
    assert artifacts.fingerprint(first) != artifacts.fingerprint(second)


def test_a_damaged_manifest_is_told_in_a_line_and_replaced_with_force(config):
    copy(config)
    path = config.output / "manifest.json"
    path.write_text(path.read_text()[:100])
    for read in (artifacts.verify, artifacts.fingerprint, lambda _: copy(config)):
        with pytest.raises(BllossomError) as told:
            read(config.output)
        assert str(told.value).startswith(f"{path} is damaged (Invalid JSON: EOF while parsing ")
        assert str(told.value).endswith("); make the folder again with --force")
        assert "\n" not in str(told.value)
    copy(config, force=True)
    assert artifacts.verify(config.output) == []


def test_verify_of_what_was_never_published_does_not_ask_to_make_it_again(tmp_path):
    with pytest.raises(BllossomError, match=r"no such folder: .*/nothere; name a published one"):
        artifacts.verify(tmp_path / "nothere")
    with pytest.raises(BllossomError, match=r"has no manifest\.json: .*; name a published folder"):
        artifacts.verify(tmp_path)


@pytest.mark.parametrize("change", ["edited", "added", "removed"])
def test_what_was_changed_in_a_published_folder_counts_as_it_is_now(config, tmp_path, capsys, change):
    copy(config)
    folder = config.output
    (folder / "README.md").write_text("a card, which may be written at any time")
    assert artifacts.fingerprint(folder) == artifacts.read_manifest(folder).fingerprint
    if change == "edited":
        (folder / "deep/copy.txt").write_text("TEXT")
    elif change == "added":
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    else:
        (folder / "deep/copy.txt").unlink()
    changed = artifacts.fingerprint(folder)
    assert changed != artifacts.read_manifest(folder).fingerprint
    assert f"{folder} was changed since it was published, and counts as it is now" in capsys.readouterr().err
    if change == "edited":
        (folder / "deep/copy.txt").write_text("text")  # newer than the manifest, and the same
        assert artifacts.fingerprint(folder) == artifacts.read_manifest(folder).fingerprint
        assert not capsys.readouterr().err
