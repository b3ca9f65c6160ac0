"""Measure sft's packed rows beside its padded ones and TRL's SFTTrainer: docs/results/sft.md and .json.

    python scripts/bench_sft.py                        # 160 dialogues of LIMA, 20 steps of 8, three rounds: 90 minutes
    python scripts/bench_sft.py --sides trl --steps 6  # a part
    python scripts/bench_sft.py --report               # the tables of all that runs/bench-sft.jsonl holds

One model for all (a Llama of hidden 384, 8 layers, 32,000 pieces, fp32, random weights), the same dialogues in the same
steps, at most 1,024 tokens, AdamW, the gradient clipped, one thread. The sides take turns, each run in a process of its
own. A run's speed is its supervised tokens over the processor's seconds of its steps, which what else runs moves
little, and ratios are of the steps that both sides took; memory is the peak above what was resident after the imports.
Medians over the rounds.

    padded       one example a row, 4 rows at a time
    packed       the same steps in packed rows, 4 rows at a time
    trl          trl.SFTTrainer, 4 examples at a time, accumulated twice; losses are compared with ours, step by step
    trl-packed   the same with packing (bfd): rows of 1,024 tokens from all dialogues, 4 at a time as ours, which is
                 about as many examples a step
    trl-packed-2 the same, 2 rows at a time, accumulated twice

How much there is to pad follows from the order of the dialogues: over 300 orders of LIMA padding computes 1.60 ± 0.05
times the tokens of 20 steps. SEED's is 1.64: it is the one of these nearest to 86,249 tokens and 141,864 with padding.

Needs LIMA and Llama 2's tokenizer (BLLOSSOM_SHARED, default ../shared) and trl (in the extra `dev`).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import commit, machine

from bllossom.instructions.dataset import make_examples
from bllossom.instructions.formats.choose import chat_format
from bllossom.instructions.formats.format import Example
from bllossom.instructions.reading import InstructionSource, read_instructions
from bllossom.memory import peak_rss_bytes, reset_peak_rss
from bllossom.ranks import ranks
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.engines.engine import PlainEngine
from bllossom.training.engines.objective import CausalObjective
from bllossom.training.models import LlamaShape, init_model, prepare_for_training
from bllossom.training.runs.steps import EvenSteps, StepSource
from bllossom.training.runs.trainer import accumulate
from bllossom.training.sft import SftConfig
from bllossom.training.tuning.example_rows import OUTPUTS, ExampleRows, PackedSteps

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("BLLOSSOM_SHARED", ROOT.parent / "shared"))
SHAPE = LlamaShape(hidden_size=384, intermediate_size=1024, layers=8, heads=6, window=1024)
PIECES, PER_STEP, MICRO, WINDOW = 32_000, 8, 4, 1024
STEPS = 20
Note = Callable[[float, int, float, int], None]
"""What a step took: the processor's seconds, supervised tokens, its loss, peak bytes of memory so far."""
RATE = 1e-5
SEED = 70
RUNS = Path("runs/bench-sft.jsonl")
SIDES = ("padded", "packed", "trl", "trl-packed", "trl-packed-2")


def examples() -> list[Example]:
    """LIMA's dialogues, cut at the window. In the file they stand by source, alike in length; the run's order is not
    so, and has more to pad: the bench reads the first steps of it."""
    found = read_instructions([InstructionSource(path=str(SHARED / "instructions/lima_en_train.json"))])
    chat = chat_format("lima", load_tokenizer(SHARED / "tokenizers/llama2"))
    return make_examples(found, chat, WINDOW, too_long="cut").items


def ours(rows: ExampleRows, count: int, packed: bool, note: Note) -> None:
    """The loop of `bllossom sft`: its steps, its engine."""
    values = {"output": "x", "model": "x/x", "data": ["x/x"], "gpus": 0, "precision": "fp32", "micro_batch": MICRO}
    config = SftConfig.model_validate(values | {"examples_per_step": PER_STEP, "packing": packed}).resolved(
        "cpu", liger_installed=False
    )
    model = init_model(SHAPE, PIECES, seed=0)
    prepare_for_training(model, config)
    objective = CausalObjective([OUTPUTS], one_row=packed)
    engine = PlainEngine(model, config, ranks.alone("cpu"), "all", objective)
    engine.training(True)
    steps: StepSource = EvenSteps(rows, PER_STEP, MICRO)
    if packed:
        steps = PackedSteps(rows, PER_STEP, WINDOW, MICRO)
    reset_peak_rss()
    before = peak_rss_bytes()
    for step in range(count):
        started = time.process_time()
        result = accumulate(engine, objective, steps.micro_batches(step, ranks.alone("cpu")), ranks.alone("cpu"))
        engine.step(RATE)
        note(time.process_time() - started, result.tokens, result.loss, peak_rss_bytes() - before)


def trl(rows: ExampleRows, count: int, side: str, folder: Path, note: Note) -> None:
    """TRL's trainer on the same ids and labels, in the same order."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl import SFTConfig as TrlConfig
    from trl import SFTTrainer, pack_dataset

    ordered = [rows.example(index) for index in range(STEPS * PER_STEP)]
    labels = [np.where(example.supervised, example.ids, -100).tolist() for example in ordered]
    data = Dataset.from_dict({"input_ids": [example.ids.tolist() for example in ordered], "labels": labels})
    packed = side.startswith("trl-packed")
    if packed:
        data = pack_dataset(data, WINDOW, "bfd")
    per_device = 2 if side == "trl-packed-2" else MICRO
    a_step = MICRO if packed else PER_STEP  # rows
    read = [int((np.array(row[1:]) != -100).sum()) for row in data["labels"]]
    tokens = [sum(read[start : start + a_step]) for start in range(0, len(read), a_step)]
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(-time.process_time())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times[-1] += time.process_time()

        def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
            if logs and "loss" in logs:
                note(times[-1], tokens[len(times) - 1], logs["loss"], peak_rss_bytes() - before)

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(data)

    tokenizer = load_tokenizer(SHARED / "tokenizers/llama2")
    tokenizer.pad_token = tokenizer.unk_token
    arguments = TrlConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        max_steps=count,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=a_step // per_device,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        adam_beta2=0.95,
        adam_epsilon=1e-5,
        weight_decay=0.1,
        max_length=WINDOW,
        packing=packed,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    model = init_model(SHAPE, PIECES, seed=0)
    trainer = InOrder(model, arguments, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()])
    reset_peak_rss()
    before = peak_rss_bytes()
    trainer.train()


def one(side: str, steps: int) -> None:
    """Run one side in this process; each step is noted as soon as it is done, so that a run may be ended early."""
    torch.set_num_threads(1)
    rows = ExampleRows(examples(), SEED)
    run = {"side": side, "run": round(time.time()), "commit": commit()}

    def note(seconds: float, tokens: int, loss: float, memory: int) -> None:
        step = {"seconds": seconds, "tokens": tokens, "loss": loss, "memory": memory}
        with RUNS.open("a", encoding="utf8") as file:
            file.write(json.dumps(run | step) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        if side.startswith("trl"):
            trl(rows, steps, side, Path(folder), note)
        else:
            ours(rows, steps, side == "packed", note)


def measure(sides: Sequence[str], rounds: int, steps: int) -> None:
    """The sides take turns."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    for _ in range(rounds):
        for side in sides:
            command = [sys.executable, __file__, "--side", side, "--steps", str(steps)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                raise SystemExit(done.stderr)
            print(side, f"{speed(stored()[side][-1], steps):.0f} tokens/s", flush=True)


def stored() -> dict[str, list[dict[str, Any]]]:
    """The runs that were measured, by side, in their order."""
    found: dict[str, dict[int, dict[str, Any]]] = {side: {} for side in SIDES}
    for line in RUNS.read_text(encoding="utf8").splitlines():
        step = json.loads(line)
        new: dict[str, Any] = {"commit": step["commit"], "seconds": [], "tokens": [], "losses": [], "memory": 0}
        run = found[step["side"]].setdefault(step["run"], new)
        for name, key in (("seconds", "seconds"), ("tokens", "tokens"), ("losses", "loss")):
            run[name].append(step[key])
        run["memory"] = max(run["memory"], step["memory"])
    return {side: list(runs.values()) for side, runs in found.items()}


def speed(run: dict[str, Any], steps: int) -> float:
    """Supervised tokens a second over a run's first steps."""
    return float(sum(run["tokens"][:steps]) / sum(run["seconds"][:steps]))


def padding(steps: int) -> float:
    """Tokens that the padded side computes for each that there is, over the first steps."""
    rows = ExampleRows(examples(), SEED)
    lengths = [len(rows.example(index).ids) for index in range(steps * PER_STEP)]
    groups = [lengths[start : start + MICRO] for start in range(0, len(lengths), MICRO)]
    return sum(max(group) * MICRO for group in groups) / sum(lengths)


def report(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians, and ratios over the steps that two sides both took; of the sides that were measured."""
    found = {side: runs for side, runs in found.items() if runs}
    ratios = {}
    for side, other in [("packed", other) for other in SIDES if other != "packed"] + [("padded", "trl")]:
        pairs = list(zip(found.get(side, []), found.get(other, []), strict=False))
        if not pairs:
            continue
        steps = min(len(run["tokens"]) for pair in pairs for run in pair)
        losses = [run["losses"][:steps] for run in pairs[0]]
        ratios[f"{side} / {other}"] = {
            "runs": len(pairs),
            "steps": steps,
            "speed": round(statistics.median(speed(a, steps) / speed(b, steps) for a, b in pairs), 3),
            "padding": round(padding(steps), 3),
            "largest_loss_difference": max(abs(a - b) for a, b in zip(*losses, strict=True)),
        }
    sides = {
        side: {
            "runs": len(runs),
            "steps": min(len(run["tokens"]) for run in runs),
            "tokens_per_second": round(statistics.median(speed(run, len(run["tokens"])) for run in runs), 1),
            "peak_memory_bytes": max(run["memory"] for run in runs),
        }
        for side, runs in found.items()
    }
    commits = sorted({run["commit"] for runs in found.values() for run in runs})
    return {"machine": machine(), "commit": commits, "sides": sides, "ratios": ratios, "runs": found}


def markdown(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [
        "# sft: packed rows",
        "",
        "Made by `python scripts/bench_sft.py`, which says what is measured. What sft makes of examples, and that the "
        "losses stay the same however a step is cut, is in [sft-shown.md](sft-shown.md).",
        "",
        f"{result['machine']}; commit {', '.join(result['commit'])}; medians.",
        "",
        "| side | runs | steps of each | supervised tokens a second | peak memory, GB |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, side in result["sides"].items():
        lines.append(
            f"| {name} | {side['runs']} | {side['steps']} | {side['tokens_per_second']:.0f} | "
            f"{side['peak_memory_bytes'] / 1e9:.2f} |"
        )
    lines += [
        "",
        "Over the steps that both took; *padding* is how many tokens padded rows of these steps compute for each that "
        "there is. Packs of TRL hold other dialogues in a step, so that their losses are of other tokens.",
        "",
        "| | runs | steps | speed | padding | largest difference of losses |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, ratio in result["ratios"].items():
        difference = "–" if "trl-packed" in name else format(ratio["largest_loss_difference"], ".1e")
        lines.append(
            f"| {name} | {ratio['runs']} | {ratio['steps']} | {ratio['speed']:.2f} × | {ratio['padding']:.2f} | "
            f"{difference} |"
        )
    missing = [side for side in SIDES if side not in result["sides"]]
    short = [name for name, side in result["sides"].items() if side["steps"] < STEPS or side["runs"] < 3]
    if missing or short:
        lines += [
            "",
            f"Not measured: {', '.join(missing) or 'none'}. Fewer than 3 runs of {STEPS} steps: {', '.join(short)}.",
        ]
    lines += [
        "",
        "Speed gains less than padding costs, because the head is computed where there is loss on both sides: here it "
        "is a third of a packed step.",
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, or run one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--sides", nargs="+", choices=SIDES)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        one(arguments.side, arguments.steps)
        return
    RUNS.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        measure(arguments.sides or SIDES, arguments.rounds, arguments.steps)
        if arguments.sides:
            return
    result = report(stored())
    folder = ROOT / "docs/results"
    (folder / "sft.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")
    (folder / "sft.md").write_text(markdown(result), encoding="utf8")
    print(markdown(result))


if __name__ == "__main__":
    main()
