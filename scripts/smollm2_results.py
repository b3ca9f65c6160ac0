"""Turns a run of configs/smollm2/recipe.yaml into docs/results/smollm2.md, .json and .svg.

    python scripts/smollm2_results.py runs/smollm2 [--note "a shortened run: …"]

Nothing is measured here: figures come from the steps' manifests, curves from the logs of training, answers as they are.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from machine import machine

from bllossom.artifacts import Manifest, read_manifest
from bllossom.evaluation.metrics import DEVIATIONS_OF_95_PERCENT
from bllossom.report.run_folder import read_lines

MODELS = ("base", "expanded", "adapted", "tuned", "same-minutes", "same-bytes")
ARMS = {"adapted": "new pieces", "same-minutes": "same minutes", "same-bytes": "same bytes"}
COLOURS = {"adapted": "#0072B2", "same-minutes": "#D55E00", "same-bytes": "#009E73"}
LANGUAGES = ("ko", "en")


def main() -> None:
    """Read the run and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the recipe's output")
    parser.add_argument("--note", default="", help="a sentence about this run, as what was shortened")
    parser.add_argument("--results", type=Path, default=Path("docs/results/smollm2"), help="path without suffix")
    options = parser.parse_args()
    steps = {path.name: found for path in sorted(options.run.iterdir()) if (found := read_manifest(path)) is not None}
    curves = {arm: held_out(options.run / arm, steps[arm]) for arm in ARMS if arm in steps}
    collected = collect(steps) | {"curves": curves, "machine": machine(), "note": options.note}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(collected, ensure_ascii=False, indent=1)
    options.results.with_suffix(".json").write_text(text + "\n", encoding="utf8")
    options.results.with_suffix(".svg").write_text(plot(curves), encoding="utf8")
    page = report(collected, answers(options.run / "answers"), options.results.name)
    options.results.with_suffix(".md").write_text(page, encoding="utf8")
    print(page)


def collect(steps: Mapping[str, Manifest]) -> dict[str, Any]:
    """What the tables show, from the manifests."""
    return {
        "commit": steps["vocab"].git_commit,
        "vocab": steps["vocab"].figures,
        "seconds": {name: step.run["wall_seconds"] for name, step in steps.items()},
        "training": {arm: steps[arm].figures for arm in ARMS if arm in steps},
        "evaluations": {name: steps[f"eval-{name}"].figures for name in MODELS if f"eval-{name}" in steps},
    }


def held_out(folder: Path, manifest: Manifest) -> dict[str, list[tuple[float, float]]]:
    """By language, held-out bits per byte over the minutes of training that came before (scoring apart)."""
    found: dict[str, list[tuple[float, float]]] = {language: [] for language in LANGUAGES}
    tokens_per_step, seconds = manifest.config["global_batch"], 0.0
    for line in read_lines(folder / "logs/train.jsonl")[0]:
        seconds += tokens_per_step / line["tokens_per_second"]
        for language in LANGUAGES:
            if (bits := line.get(f"validation_loss_bits/{language}")) is not None:
                found[language].append((round(seconds / 60, 2), bits))
    return found


def answers(folder: Path) -> dict[str, dict[str, str]]:
    """By prompt, what each model answered."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for record in read_lines(path)[0]:
            found.setdefault(record["messages"][-1]["content"], {})[path.stem] = record["answer"]
    return found


def report(collected: Mapping[str, Any], answered: Mapping[str, Mapping[str, str]], name: str) -> str:
    """The page."""
    vocab, evaluations = collected["vocab"], collected["evaluations"]
    lines = [
        "# SmolLM2 learns Korean",
        "",
        f"`bllossom run configs/smollm2/recipe.yaml`, commit {collected['commit']}; {collected['machine']}. One "
        f"run, seed 0. {collected['note']}".rstrip(),
        "",
        f"{vocab['new_pieces']:,} new pieces behind SmolLM2-135M-Instruct's {vocab['base_pieces']:,}.",
        "",
        *_table(
            ["tokens per word", "base", "merged"],
            [[lang, f"{v['base']:.3f}", f"{v['merged']:.3f}"] for lang, v in vocab["tokens_per_word"].items()],
        ),
        "",
        *_table(["", "floor", *evaluations], _scores(evaluations)),
        "",
        "± is half of a 95 % interval over documents or rows. A floor is the score of the best constant answer. "
        "*same minutes* and *same bytes* go on with the base's own pieces: as many minutes of training, as many bytes "
        "of text. Tuned, the Korean instructions are a stand-in for LIMA in Korean: sentences about an invented world.",
        "",
        *_table(
            ["arm", "steps", "tokens", "minutes", *(f"{lang}, bits per byte" for lang in LANGUAGES)], _arms(collected)
        ),
        "",
        "An arm's minutes are of its steps alone; its bits per byte are of the part of the held-out text that training "
        "scores, after the last step.",
        "",
        f"![held-out bits per byte over minutes of training]({name}.svg)",
        "",
        "## Answers, as they are",
        "",
    ]
    for prompt, by_model in answered.items():
        lines += [f"**{prompt}**", "", *(f"- {model}: {_one_line(text)}" for model, text in by_model.items()), ""]
    steps = collected["seconds"].items()
    lines += ["## Time", "", *_table(["step", "minutes"], [[step, f"{seconds / 60:.1f}"] for step, seconds in steps])]
    return "\n".join(lines) + "\n"


def _scores(evaluations: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for language in LANGUAGES:
        held = [found["heldout"][language] for found in evaluations.values()]
        rows.append(
            [f"bits per byte, {language}", "", *(_with_reach(h["bits_per_byte"], h["stderr"], 3) for h in held)]
        )
    tasks = dict.fromkeys(task for found in evaluations.values() for task in found["tasks"])
    for task in tasks:
        cells = [found["tasks"].get(task) for found in evaluations.values()]
        some = next(cell for cell in cells if cell)
        metric = some["score"]
        row = [f"{task} {metric}, % of {some['rows']:,} rows", f"{100 * some[metric]['floor']:.1f}"]
        for cell in cells:
            error = cell and cell[metric]["stderr"]
            value = "–" if not cell else _with_reach(100 * cell[metric]["value"], error and 100 * error, 1)
            row.append(value + (" (floor)" if cell and cell[metric]["at_floor"] else ""))
        rows.append(row)
    if all(found["average"] is not None for found in evaluations.values()):
        averages = [f"{100 * found['average']:.1f}" for found in evaluations.values()]
        rows.append(["average, %", f"{100 * next(iter(evaluations.values()))['average_floor']:.1f}", *averages])
    return rows


def _with_reach(value: float, error: float | None, digits: int) -> str:
    reach = "" if error is None else f" ± {DEVIATIONS_OF_95_PERCENT * error:.{digits}f}"
    return f"{value:.{digits}f}{reach}"


def _arms(collected: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for arm, curve in collected["curves"].items():
        figures = collected["training"][arm]
        minutes = max((x for points in curve.values() for x, _ in points), default=0.0)
        last = [f"{curve[language][-1][1]:.3f}" if curve[language] else "–" for language in LANGUAGES]
        rows.append([ARMS[arm], f"{figures['steps']:,}", f"{figures['tokens']:,}", f"{minutes:.1f}", *last])
    return rows


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    ruler = ["---", *("--:" for _ in header[1:])]
    return [f"| {' | '.join(row)} |" for row in (header, ruler, *rows)]


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split()) or "(nothing)"


def plot(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> str:
    """Two panels, one a language: held-out bits per byte over minutes, a line an arm."""
    wide, high, left, top = 330, 230, 50, 40
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 340" font-family="sans-serif" font-size="12">',
        '<rect width="820" height="340" fill="white"/>',
    ]
    last = max((x for arm in curves.values() for points in arm.values() for x, _ in points), default=1.0)
    for column, language in enumerate(LANGUAGES):
        x0 = left + column * (wide + 70)
        bits = [y for arm in curves.values() for _, y in arm[language]]
        low, width = min(bits, default=0.0), (max(bits, default=1.0) - min(bits, default=0.0)) or 1.0
        parts.append(f'<text x="{x0}" y="20" font-weight="bold">held-out bits per byte, {language}</text>')
        parts.append(f'<rect x="{x0}" y="{top}" width="{wide}" height="{high}" fill="none" stroke="#999"/>')
        for share in (0, 0.5, 1):
            y = top + high * (1 - share)
            parts.append(f'<text x="{x0 - 5}" y="{y + 4:.1f}" text-anchor="end">{low + share * width:.2f}</text>')
            x = x0 + wide * share
            parts.append(f'<text x="{x:.1f}" y="{top + high + 16}" text-anchor="middle">{last * share:.0f} min</text>')
        for arm, by_language in curves.items():
            points = " ".join(
                f"{x0 + wide * x / last:.1f},{top + high * (1 - (y - low) / width):.1f}"
                for x, y in by_language[language]
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[arm]}" stroke-width="2"/>')
    for number, arm in enumerate(curves):
        x = left + 160 * number
        parts.append(f'<line x1="{x}" x2="{x + 20}" y1="318" y2="318" stroke="{COLOURS[arm]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 26}" y="322">{escape(ARMS[arm])}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
