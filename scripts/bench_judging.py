"""Put the statistics of `bllossom judge` before judges of known character: docs/results/judging.md and .json.

    python scripts/bench_judging.py       # about a minute on 2 cores

The judges are the stand-in endpoint of the tests (tests/evaluation/judge/characters.py), on loopback; nobody's answers
are judged. Two models' answers of random lengths, "wordy" the longer one in about two of three, to 300 prompts. Then
the same run is killed by SIGKILL once a third of the replies is filed, and run again.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import commit, machine

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from bllossom.evaluation.judge.bootstrap import bootstrap, interval_95  # noqa: E402
from bllossom.evaluation.judge.judge import JudgeConfig, judge  # noqa: E402
from bllossom.evaluation.judge.length import length_controlled  # noqa: E402
from bllossom.evaluation.judge.report import percent, table  # noqa: E402
from bllossom.serving.log import write_records  # noqa: E402
from tests.evaluation.judge.characters import CHARACTERS, longer  # noqa: E402
from tests.serving.stand_in import stand_in  # noqa: E402

RESULTS = ROOT / "docs" / "results"
PROMPTS = 300
SETS = 40
WORDS = [
    "the",
    "mountain",
    "river",
    "answer",
    "stands",
    "behind",
    "every",
    "old",
    "house",
    "near",
    "a",
    "market",
    "of",
    "this",
    "town",
]


def main() -> None:
    """Judge, print and write."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        files = write_answers(work)
        found = {name: meet(name, work, files) for name in CHARACTERS}
        killed = kill_and_go_on(work, files)
    results = {
        "machine": machine(),
        "commit": commit(),
        "prompts": PROMPTS,
        "judges": found,
        "at_equal_length": judges_of_length(),
        "kill": killed,
    }
    (RESULTS / "judging.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    text = report(results)
    (RESULTS / "judging.md").write_text(text, encoding="utf8")
    print(text)


def write_answers(folder: Path) -> list[Path]:
    """Two files of answers in words without a meaning."""
    drawn, files = random.Random(5), []
    for name, (fewest, most) in {"wordy": (12, 60), "terse": (5, 52)}.items():
        records = [
            {
                "id": f"q{number}",
                "messages": [{"role": "user", "content": f"What stands near house number {number} of the old town?"}],
                "answer": " ".join(drawn.choice(WORDS) for _ in range(drawn.randint(fewest, most))),
            }
            for number in range(PROMPTS)
        ]
        files.append(folder / f"{name}.jsonl")
        write_records(files[-1], records)
    return files


def config(url: str, files: list[Path], output: Path) -> JudgeConfig:
    """The judge at this address, with pauses for a machine that is no further away than loopback."""
    endpoint = {"url": url, "model": "stand-in", "key_variable": None, "backoff_seconds": 0.01}
    return JudgeConfig.model_validate({"output": output, "answers": files, "endpoint": endpoint})


def meet(name: str, work: Path, files: list[Path]) -> dict[str, Any]:
    """What the statistics say of one judge, and how often it was asked."""
    start = time.perf_counter()
    with stand_in(CHARACTERS[name]) as server:
        figures = judge(config(server.url, files, work / name)).figures
    pair = figures["pairs"][0]
    return pair | {"requests": len(server.bodies), "seconds": round(time.perf_counter() - start, 2)}


def judges_of_length() -> dict[str, float]:
    """What the rate at equal length says of a judge of length alone, over many sets of prompts: it should be ½."""
    values, holding = [], 0
    for seed in range(SETS):
        drawn = np.random.default_rng(seed)
        delta = (drawn.integers(60, 300, PROMPTS) - drawn.integers(25, 260, PROMPTS)).astype(np.float64)
        rate = partial(length_controlled, (np.sign(delta) + 1) / 2, delta)
        values.append(float(rate(np.ones((1, PROMPTS)))[0]))
        low, high = interval_95(bootstrap(PROMPTS, rate, draws=500, seed=0)) or (1.0, 0.0)
        holding += low <= 0.5 <= high
    return {"sets": SETS, "mean": statistics.mean(values), "sd": statistics.stdev(values), "holding": holding}


def kill_and_go_on(work: Path, files: list[Path]) -> dict[str, int]:
    """Requests before a SIGKILL and after it."""
    output = work / "killed"
    replies = output.with_name("killed.replies.jsonl")
    with stand_in(longer, delay_seconds=0.01) as server:
        settings = work / "judge.json"
        settings.write_text(config(server.url, files, output).model_dump_json(), encoding="utf8")
        command = [sys.executable, "-m", "bllossom.cli", "judge", "--config", str(settings)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            while not replies.exists() or replies.read_bytes().count(b"\n") < 2 * PROMPTS // 3:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        kept = replies.read_bytes().count(b"\n")
        time.sleep(0.2)  # what was under way arrives
        before = len(server.bodies)
        subprocess.run(command, env=environment, check=True, capture_output=True)
    return {"whole": 2 * PROMPTS, "before": before, "filed": kept, "after": len(server.bodies) - before}


def report(results: dict[str, Any]) -> str:
    """The page."""
    rows = []
    for name, pair in results["judges"].items():
        win, controlled = pair["win_rate"], pair["length_controlled_win_rate"]
        rate = percent(win["value"])
        rows.append(
            [
                name,
                *(f"{pair[outcome]}" for outcome in ("win", "tie", "lose", "inconsistent", "error")),
                f"**{rate}**" if pair["reliable"] else rate,
                _interval(win["interval"]),
                f"{percent(controlled['value'])} {_interval(controlled['interval'])}",
                f"{pair['sign_test_p']:.2g}",
                percent(pair["first_position_rate"]),
                percent(pair["flip_rate"]),
                f"{pair['requests']:,}",
            ]
        )
    header = ["judge", "win", "tie", "lose", "inconsistent", "error", "win rate", "95 %", "at equal length"]
    header += ["sign test p", "first named", "flips", "requests"]
    kill, equal = results["kill"], results["at_equal_length"]
    return f"""# Judges of known character

`python scripts/bench_judging.py`

Machine: {results["machine"]}; commit {results["commit"]}.

"wordy" against "terse" on {results["prompts"]} prompts, both orders, so {2 * results["prompts"]} questions.
The judges: longer takes the longer answer, first the one that stands first, nonsense writes prose without a
verdict, busy says 429 twice to every request and is longer then, cut sends half a line to every request and is longer
then.

{table(header, rows)}

A judge of length alone is a step, which no logistic curve fits, and few pairs are about equal in length to fit it on:
over {equal["sets"]} other sets of {results["prompts"]} prompts its rate at equal length is {percent(equal["mean"])} in
the mean, with a standard deviation of {100 * equal["sd"]:.1f}, and the interval holds 50 % in {equal["holding"]} of
them. The win rate by length in report.md shows such a judge plainly: 0 % where A is shorter, 100 % where it is longer.

Killed by SIGKILL: {kill["before"]} requests were sent and {kill["filed"]} replies filed. The same command then sent
{kill["after"]}, where a whole run sends {kill["whole"]}: none twice but the {kill["before"] - kill["filed"]} that were
under way.
"""


def _interval(interval: list[float] | None) -> str:
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


if __name__ == "__main__":
    main()
