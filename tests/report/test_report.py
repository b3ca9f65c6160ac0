"""Every figure on the page stands in a file of the run, absent parts are named, and damage is shown, not hidden."""

import json
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bllossom.errors import BllossomError, Stopped
from bllossom.report.page import show
from bllossom.report.report import report
from bllossom.report.run_folder import Figure, read_lines, read_run
from bllossom.report.sections.overview import sources_of

pytest.importorskip("vl_convert", reason="vl-convert is not installed (pip install 'bllossom[report]')")


class Page(HTMLParser):
    """The figures of a page with their sources, the plain text of its table cells, and all its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: list[dict[str, str]] = []
        self.drawn: list[dict[str, str | None]] = []
        self.plain_cells: list[str] = []
        self.text: list[str] = []
        self._in_data = self._in_cell = False
        self._column = 0
        self._skip = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tspan":
            self.drawn.append(dict(attrs))
        elif tag == "data":
            self.figures.append({name: value or "" for name, value in attrs} | {"shown": ""})
            self._in_data = True
        elif tag == "tr":
            self._column = 0
        elif tag == "td":
            self._in_cell, self._column = True, self._column + 1
        elif tag in ("script", "style"):
            self._skip += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "data":
            self._in_data = False
        elif tag == "td":
            self._in_cell = False
        elif tag in ("script", "style"):
            self._skip -= 1

    def handle_data(self, data: str) -> None:
        if self._skip:
            return
        self.text.append(data)
        if self._in_data:
            self.figures[-1]["shown"] += data
        elif self._in_cell and self._column > 1:
            self.plain_cells.append(data.strip())


def at(run: Path, source: str) -> object:
    """What stands where a figure says it comes from."""
    file, _, pointer = source.partition("#")
    path = run.parent / file
    keys = [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]
    if path.suffix == ".jsonl":
        value = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        value = json.loads(path.read_text())
    for key in keys:
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def test_every_figure_stands_in_a_file_and_is_written_as_it_is_there(run: Path) -> None:
    page = Page(report([run]).read_text(encoding="utf8"))
    assert len(page.figures) > 1000
    for figure in page.figures:
        value = at(run, figure["data-source"])
        assert figure["value"] == str(value)
        assert figure["shown"] == show(Figure(value, "", figure["data-style"])), figure
    assert len(page.drawn) > 10  # times and sizes in the picture of the recipe
    assert all(figure["data-value"] == str(at(run, str(figure["data-source"]))) for figure in page.drawn)
    numbers = [cell for cell in page.plain_cells if re.fullmatch(r"[-+±]?[\d.,]+\s*(%|s|B|kB|MB|GB)?", cell)]
    assert numbers == [], "numbers that no file holds"


def test_charts_show_what_the_log_holds(run: Path) -> None:
    text = report([run]).read_text(encoding="utf8")
    specs = json.loads(re.search(r'id="specs">(.*?)</script>', text, re.S)[1].replace("<\\/", "</"))
    lines = [json.loads(line) for line in (run / "adapted/logs/train.jsonl").read_text().splitlines()]
    drawn = {
        (row["series"], row["x"]): row["y"] for spec in specs for row in spec["data"].get("values", []) if "x" in row
    }
    for name in ("ko", "en"):
        points = {x: y for (series, x), y in drawn.items() if series == f"adapted {name}" and x <= 500}
        assert {1, 500} <= points.keys()
        assert all(lines[step - 1][f"loss/{name}"] == loss for step, loss in points.items())


def test_what_did_not_run_and_what_is_not_finished_is_named(run: Path) -> None:
    shutil.rmtree(run / "scores")
    text = " ".join(Page(report([run]).read_text(encoding="utf8")).text)
    assert re.search(r"Not measured.*scores", text)
    assert "Not finished, so not on this page: paused-tokens.partial-" in text


def test_a_log_cut_in_the_middle_of_a_line_is_shown_up_to_there_and_said(run: Path) -> None:
    log = run / "adapted/logs/train.jsonl"
    log.write_text(log.read_text()[:-20])
    page = report([run]).read_text(encoding="utf8")
    assert "The log of adapted is cut in the middle of a line" in page


def test_lines_of_a_log_end_at_line_ends_alone_and_are_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [{"answer": "one\u2028two\x85three"}, {"answer": "four"}]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf8")
    assert read_lines(path) == (lines, False)
    for broken in ("5\n", "[1]\n", "\x00\x00\x00", '{"answer": "fi'):
        path.write_text(json.dumps(lines[1]) + "\n" + broken)
        assert read_lines(path) == (lines[1:], True)


def test_a_folder_without_a_manifest_is_named_and_a_page_that_cannot_be_written_told(run: Path, tmp_path: Path) -> None:
    (run / "lost").mkdir()
    (run / "lost/model.safetensors").write_bytes(b"x")
    text = " ".join(Page(report([run]).read_text()).text)
    assert "Without a manifest, so not on this page: lost in run." in text
    (tmp_path / "folder").mkdir()
    with pytest.raises(BllossomError, match=r"folder cannot be written .*; name another --output"):
        report([run], tmp_path / "folder")


def test_a_damaged_manifest_is_told_and_a_folder_without_a_run_too(run: Path, tmp_path: Path) -> None:
    (run / "tuned/manifest.json").write_text("{")
    with pytest.raises(BllossomError, match=r"tuned/manifest.json is damaged"):
        report([run])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BllossomError, match="holds no step that was published; name the output of a recipe"):
        report([tmp_path / "empty"])
    with pytest.raises(BllossomError, match="no such folder"):
        report([tmp_path / "nowhere"])


def test_two_runs_stand_on_one_page_under_their_names(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    with pytest.raises(BllossomError, match="name where the page of several runs goes"):
        report([run, other])
    page = report([run, other], tmp_path / "both.html").read_text(encoding="utf8")
    assert "run/adapted" in page
    assert "other/adapted ko" in page


def test_two_runs_of_one_name_keep_their_curves_and_floors_apart(run: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one/demo", tmp_path / "other/demo"
    for folder in (one, other):
        shutil.copytree(run, folder)
    page = report([one, other], tmp_path / "both.html").read_text(encoding="utf8")
    assert {"one/demo/adapted ko", "other/demo/adapted ko"} <= set(re.findall(r"<th>([^<]* ko)</th>", page))
    assert 'data-source="other/demo/tokens/manifest.json#/figures/unigram_bits_per_byte/ko"' in page
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(set(ids)) == len(ids)
    with pytest.raises(BllossomError, match="named twice"):
        report([one, tmp_path / "other/../one/demo"], tmp_path / "both.html")


def test_the_folder_that_one_is_in_has_its_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    page = report([Path()]).read_text(encoding="utf8")
    assert "<title>Bllossom: run</title>" in page
    assert 'data-source="run/adapted/manifest.json#/' in page


def test_weights_that_are_gone_cost_what_is_read_off_them_alone(run: Path) -> None:
    (run / "adapted/model.safetensors").unlink()
    (run / "adapted/config.json").unlink()
    text = " ".join(Page(report([run]).read_text(encoding="utf8")).text)
    assert "Not measured, adapted: " in text
    assert re.search(r"the model is gone from the folder, .*: .*adapted", text)


def test_logs_of_jobs_are_no_step(run: Path) -> None:
    (run / "logs").mkdir()
    (run / "logs/adapted.log").write_text("said")
    assert "Without a manifest" not in report([run]).read_text(encoding="utf8")


def test_every_groups_last_loss_is_shown_under_its_name(run: Path) -> None:
    path = run / "adapted/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["figures"]["last_loss"] = {"en": 1.5, "ja": 2.5, "ko": 3.5}
    path.write_text(json.dumps(manifest))
    page = report([run]).read_text(encoding="utf8")
    assert all(f"<th>last loss, {name}</th>" in page for name in ("en", "ja", "ko"))


def test_a_step_is_led_to_what_it_read_also_a_file_of_it_and_in_a_run_that_was_moved(run: Path) -> None:
    path = run / "scores/manifest.json"
    manifest = json.loads(path.read_text())
    was = json.loads((run / "tokens/manifest.json").read_text())["config"]["output"]
    manifest["config"]["heldout"] = {"ko": [f"{was}/heldout/ko.jsonl"]}
    path.write_text(json.dumps(manifest))
    steps = read_run(run).steps
    (scores,) = [step for step in steps if step.name == "scores"]
    assert "tokens" in [step.name for step in sources_of(scores, steps)]


def test_text_of_the_run_cannot_end_the_script_or_become_markup(run: Path) -> None:
    path = run / "vocab/report.json"
    found = json.loads(path.read_text())
    found["scripts"]["base"]["</script><b>"] = 1
    path.write_text(json.dumps(found))
    page = report([run]).read_text(encoding="utf8")
    assert "</script><b>" not in page
    assert "&lt;/script&gt;&lt;b&gt;" in page


def test_the_page_is_small_and_names_no_address(run: Path) -> None:
    path = report([run])
    assert path.stat().st_size < 6_000_000
    text = path.read_text(encoding="utf8")
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", text)


def test_answers_stand_side_by_side(run: Path) -> None:
    step = run / "answers"
    shutil.copytree(run / "scores", step)
    figures = {"tuned": {"answers": 1}, "base": {"answers": 1}}
    manifest = json.loads((step / "manifest.json").read_text()) | {"stage": "answers", "figures": figures}
    (step / "manifest.json").write_text(json.dumps(manifest))
    question = {"role": "user", "content": "사과는 무슨 색이야?"}
    for name, answer in (("base", "red"), ("tuned", "빨간색이에요. " * 200)):
        row = {"id": "1", "language": "ko", "category": None, "messages": [question], "answer": answer}
        (step / f"{name}.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf8")
    page = Page(report([run]).read_text(encoding="utf8"))
    shown = {f["data-source"]: f["shown"] for f in page.figures if "/answers/" in f["data-source"]}
    answered = [source for source in shown if ".jsonl" in source]
    assert answered == ["run/answers/tuned.jsonl#/0/answer", "run/answers/base.jsonl#/0/answer"]  # as asked
    assert shown["run/answers/base.jsonl#/0/answer"] == "red"
    assert shown["run/answers/tuned.jsonl#/0/answer"].endswith(" …")
    assert "사과는 무슨 색이야?" in "".join(page.text)


def test_the_pictures_boxes_lead_to_parts_of_the_page(run: Path) -> None:
    text = report([run]).read_text(encoding="utf8")
    picture = text[text.index('<svg class="recipe"') : text.index("</svg>")]
    led_to = set(re.findall(r'href="#([\w-]+)"', picture))
    assert {"vocabulary", "corpus", "initialisation", "training", "scores"} <= led_to
    assert led_to <= set(re.findall(r'<section id="([\w-]+)"', text))


def test_the_curve_of_sizes_and_the_certificate_are_shown(run: Path) -> None:
    path = run / "vocab/report.json"
    found = json.loads(path.read_text())
    found["curve"] = [
        {"pieces": 100, "tokens_per_word": 2.5, "rare": 1},
        {"pieces": 200, "tokens_per_word": 2.25, "rare": 9},
    ]
    found["certificate"] = {
        "ids_kept": {"ids": 49152},
        "unicode": {"scalar_values": 1112064, "changed": 11172},
        "pieces": {"whole": 300, "parts_of_characters": 7},
        "texts": {"documents": 40, "generated_strings": 50},
    }
    path.write_text(json.dumps(found))
    page = Page(report([run]).read_text(encoding="utf8"))
    shown = {figure["data-source"].partition("#")[2]: figure["shown"] for figure in page.figures}
    assert shown["/curve/1/tokens_per_word"] == "2.250"
    assert shown["/certificate/unicode/changed"] == "11,172"
    assert shown["/certificate/pieces/parts_of_characters"] == "7"
    assert "Where more pieces stop paying" in "".join(page.text)


def test_a_live_page_stands_still_once_it_is_stopped(run: Path) -> None:
    page = run / "report.html"
    # A shell starts what it runs in the background deaf to Ctrl-C, and children inherit that.
    hearing = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-m", "bllossom.cli", "report", str(run), "--live"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=hearing) as process:
        assert process.stderr is not None
        while b"Ctrl-C ends it" not in process.stderr.readline():
            assert process.poll() is None
        assert 'http-equiv="refresh"' in page.read_text()
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    assert process.returncode == Stopped.exit_code
    assert 'http-equiv="refresh"' not in page.read_text()
