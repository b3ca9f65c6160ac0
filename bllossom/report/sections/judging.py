"""Which answers a judge found better: bars of win, tie, inconsistent and lose, and how far the judge can be trusted."""

from collections.abc import Mapping, Sequence
from typing import Any

from bllossom.evaluation.judge.pictures import SHOWN, bars
from bllossom.report.blocks import Block, Cell, Drawing, Section, Table
from bllossom.report.run_folder import RunFolder, RunStep

MIRRORED = {"win": "lose", "lose": "win"}


def judging(runs: Sequence[RunFolder]) -> Section | None:
    """Pictures and tables of each judging; None where nothing was judged."""
    steps = [step for run in runs for step in run.of("judge") if step.manifest.figures.get("pairs")]
    if not steps:
        return None
    blocks: list[Block] = []
    for step in steps:
        pairs = step.manifest.figures["pairs"]
        models = list(dict.fromkeys(pair[side] for pair in pairs for side in ("a", "b")))
        # Two models' pictures would be each other's mirror.
        shown = models if len(models) > 2 else models[:1]
        blocks += [Drawing(bars(f"{step.label}: {model}", _against(model, pairs))) for model in shown]
        rows = [_row(step, number, pair) for number, pair in enumerate(pairs)]
        blocks.append(Table(HEADER, rows, CAPTION))
        blocks += _strengths(step)
    return Section("judging", "Which answers are better", blocks)


HEADER = (
    *("A against B", "prompts", *SHOWN, "error", "win rate of A", "from", "to", "at equal length"),
    *("first named", "flips"),
)
CAPTION = (
    "the win rate counts a tie and an inconsistent verdict as half, leaves errors out, and is no figure to rely on "
    "where more than 5 % are errors; its interval is that of 95 %; first named: of the verdicts that name an answer, "
    "the share that names the one shown first"
)


def _row(step: RunStep, number: int, pair: Mapping[str, Any]) -> list[Cell]:
    at: list[str | int] = ["figures", "pairs", number]
    counts = [step.figure([*at, name], "integer") for name in ("prompts", *SHOWN, "error")]
    return [
        f"{pair['a']} against {pair['b']}",
        *counts,
        step.figure([*at, "win_rate", "value"], "percent1"),
        *(step.figure([*at, "win_rate", "interval", end], "percent1") for end in (0, 1)),
        step.figure([*at, "length_controlled_win_rate", "value"], "percent1"),
        step.figure([*at, "first_position_rate"], "percent1"),
        step.figure([*at, "flip_rate"], "percent1"),
    ]


def _against(model: str, pairs: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[Any, int]]]:
    found = []
    for pair in pairs:
        if model == pair["a"]:
            found.append((f"against {pair['b']}", {name: pair[name] for name in (*SHOWN, "error")}))
        elif model == pair["b"]:
            mirrored = {name: pair[MIRRORED.get(name, name)] for name in (*SHOWN, "error")}
            found.append((f"against {pair['a']}", mirrored))
    return found


def _strengths(step: RunStep) -> list[Block]:
    strengths = step.manifest.figures.get("strengths")
    if not strengths:
        return []
    at = ["figures", "strengths"]
    rows: list[list[Cell]] = [
        [
            model,
            step.figure([*at, model, "strength"], "decimals3"),
            *(step.figure([*at, model, "interval", end], "decimals3") for end in (0, 1)),
        ]
        for model in strengths
    ]
    return [Table(["model", "Bradley–Terry strength", "from", "to"], rows, "a difference of 1 wins 73 %")]
