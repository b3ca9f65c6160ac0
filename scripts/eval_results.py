"""docs/results/eval.json and eval.md: speed (bench_eval.py) and scores (beside_lm_eval.py) beside lm_eval's."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path("docs/results")
DEVIATIONS_OF_95_PERCENT = 1.96


def write(part: str, found: dict[str, Any]) -> None:
    """Put what was found, by model, into a part of the results, and write them all anew."""
    path = RESULTS / "eval.json"
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    kept[part] = kept.get(part, {}) | found
    path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf8")
    text = "# Eval beside stock lm_eval\n" + speed(kept.get("speed", {})) + scores(kept.get("beside", {}))
    (RESULTS / "eval.md").write_text(text, encoding="utf8")
    print(text)


def speed(models: dict[str, Any]) -> str:
    """A line for each model that was measured."""
    lines = [
        "",
        "`python scripts/bench_eval.py [MODEL]`: the eight tasks of Table 6, in turns, imports apart; medians. The",
        "largest difference is that of two log-likelihoods, relative where they are beyond 1 nat. `random` is a Llama",
        "of 8 layers, 256 wide, with Llama 2's 32,000 pieces.",
        "",
        "| model | rows a task | documents/s | lm_eval's | speed | GB | lm_eval's | memory | largest difference |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name, found in models.items():
        ours, theirs = found["ours"], found["lm_eval"]
        lines.append(
            f"| {name} | {found['rows']} | {ours['documents_per_second']:.1f} | {theirs['documents_per_second']:.1f} "
            f"| {found['speed']:.2f} × | {ours['peak_gigabytes']:.2f} | {theirs['peak_gigabytes']:.2f} "
            f"| {found['memory']:.2f} × | {found['largest_difference']:.1e} |"
        )
    lines += ["", *(f"{name}: {found['machine']}; commit {found['commit']}." for name, found in models.items())]
    return "\n".join(lines) + "\n"


def scores(models: dict[str, Any]) -> str:
    """A table for each model: our scores with 95 % intervals, floors and chance, and lm_eval's where it was asked."""
    lines: list[str] = []
    for name, model in models.items():
        lines += [
            "",
            f"## {name}, the first {model['rows']} rows of each task",
            "",
            "`python scripts/beside_lm_eval.py`, no shots, `encoding: lm-eval`; ± is half a 95 % interval. *Italic*:",
            "at its floor: the interval reaches the best constant answer (floor) or chance. † its own definition;",
            "else ours through lm_eval's HFLM. Other answers: documents where the two chose differently.",
            "",
            "| task | metric | ours | floor | chance | lm_eval | largest difference | other answers |",
            "| --- | --- | --: | --: | --: | --: | --: | --: |",
        ]
        for task, found in model["tasks"].items():
            ours = found["ours"]
            score = f"{100 * ours['value']:.1f} ± {100 * DEVIATIONS_OF_95_PERCENT * ours['stderr']:.1f}"
            score = f"*{score}*" if ours["at_floor"] else score
            theirs = ["not run", "", ""]
            if "lm_eval" in found:
                theirs = [
                    f"{100 * found['lm_eval']:.1f}",
                    f"{found['largest_difference']:.1e}",
                    str(found["other_answers"]),
                ]
            bounds = [f"{100 * ours[bound]:.1f}" for bound in ("floor", "chance")]
            cells = [f"{task}{' †' if found['stock'] else ''}", found["metric"], score, *bounds, *theirs]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", f"{model['machine']}."]
    return "\n".join(lines) + "\n" if lines else ""
