"""Show what sft does, as it is: docs/results/sft-shown.md.

    bllossom run configs/demo/recipe.yaml --until tuned   # the models, unless they are there
    python scripts/show_sft.py [FOLDER]                   # where they are, by default runs/demo; three minutes

Losses of the same steps however they are cut, one example of each chat format as `--preview` prints it, and what the
demo's model answers before and after sft. chatml and llama3 need control pieces: they are added to the demo's own
tokenizer for the preview.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from machine import commit, machine
from transformers import AutoModelForCausalLM

from bllossom.instructions.formats.choose import chat_format
from bllossom.instructions.messages import Conversation, Message
from bllossom.model.outputs.generate import Decoding, Prompt, generate, stop_ids
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.preview import preview
from bllossom.training.sft import SftConfig, sft

ROOT = Path(__file__).parent.parent
EXAMPLES, PER_STEP = 96, 16
FIRST = "packed, micro-batch 4"
CUTS: dict[str, dict[str, Any]] = {
    FIRST: {"micro_batch": 4},
    "packed, micro-batch 1": {"micro_batch": 1},
    "packed, rows of at most 128 tokens": {"micro_batch": 3, "max_tokens": 128},
    "padded, micro-batch 16": {"micro_batch": 16, "packing": False},
    "padded, micro-batch 2, loss 32 tokens at a time": {"micro_batch": 2, "packing": False, "loss_chunk": 32},
    "packed, ZeRO-2": {"micro_batch": 4, "deepspeed": "zero2"},
    "packed, 2 ranks": {"micro_batch": 2, "processes": 2},
    "padded, 2 ranks": {"micro_batch": 4, "packing": False, "processes": 2},
    "packed, 2 ranks, ZeRO-2": {"micro_batch": 2, "processes": 2, "deepspeed": "zero2"},
}
CHATML = ("<|im_start|>", "<|im_end|>")
LLAMA3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
SHOWN = [
    {"role": "system", "content": "짧게 답해 주세요."},
    {"role": "user", "content": "Where does </s> end?"},
    {"role": "assistant", "content": "It ends nothing here."},
    {"role": "user", "content": "미리강에는 무엇이 사나요?"},
    {"role": "assistant", "content": "은어가 살아요."},
]


def train(config: SftConfig) -> list[float]:
    """Tune here, or with more ranks than one by the command; gives the losses."""
    if config.processes == 1:
        sft(config)
    else:
        path = config.output.with_suffix(".yaml")
        path.write_text(yaml.safe_dump(config.model_dump(mode="json"), allow_unicode=True), encoding="utf8")
        command = [sys.executable, "-m", "bllossom.cli", "sft", "--config", str(path)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=environment, check=True)
    log = (config.output / "logs/train.jsonl").read_text(encoding="utf8").splitlines()
    return [json.loads(line)["loss"] for line in log]


def losses(model: Path, folder: Path) -> list[str]:
    """The table of how far losses are apart, relative to the first row's."""
    rows = (ROOT / "data/instructions/ko_train.jsonl").read_text(encoding="utf8").splitlines()[:EXAMPLES]
    (folder / "examples.jsonl").write_text("\n".join(rows) + "\n", encoding="utf8")
    found = {}
    for number, (name, changes) in enumerate(CUTS.items()):
        config: dict[str, Any] = {
            "output": str(folder / str(number)),
            "model": str(model),
            "data": [str(folder / "examples.jsonl")],
        }
        config |= {"template": "plain", "max_tokens": 256, "examples_per_step": PER_STEP, "epochs": 1, "samples": 0}
        config |= {"gpus": 0, "learning_rate": {"peak": 1e-3}, "precision": "fp32"}
        found[name] = train(SftConfig.model_validate(config | changes))
        print(name, found[name], file=sys.stderr, flush=True)
    lines = ["| how | first step's loss | last step's | largest difference, relative |", "|---|--:|--:|--:|"]
    for name, values in found.items():
        apart = max(abs(a - b) / b for a, b in zip(values, found[FIRST], strict=True))
        lines.append(f"| {name} | {values[0]:.7f} | {values[-1]:.7f} | {apart:.1e} |")
    return lines


def previews(model: Path, folder: Path) -> list[str]:
    """An example in each format, what carries loss between ⟦ ⟧."""
    (folder / "shown.jsonl").write_text(json.dumps({"messages": SHOWN}, ensure_ascii=False) + "\n", encoding="utf8")
    lines = []
    for name, pieces in {"plain": (), "lima": (), "llama2": (), "chatml": CHATML, "llama3": LLAMA3}.items():
        shape = folder / f"with-{name}"
        tokenizer = load_tokenizer(model)
        tokenizer.add_special_tokens({"additional_special_tokens": list(pieces)})
        tokenizer.save_pretrained(shape)
        (shape / "config.json").write_text((model / "config.json").read_text(encoding="utf8"), encoding="utf8")
        config: dict[str, Any] = {
            "output": str(folder / "x"),
            "model": str(shape),
            "data": [str(folder / "shown.jsonl")],
        }
        with redirect_stdout(StringIO()) as said:
            preview(SftConfig.model_validate(config | {"template": name}), 1, packed=False, as_json=False, emit=print)
        lines += [f"### {name}", "", "```", *said.getvalue().replace(f"{folder}/", "").rstrip().splitlines(), "```", ""]
    return lines


def answers(before: Path, after: Path) -> list[str]:
    """Three prompts of the instructions, answered greedily in the format of the tuning."""
    rows = [json.loads(line) for line in (ROOT / "data/preferences/ko.jsonl").read_text(encoding="utf8").splitlines()]
    questions = list(dict.fromkeys(row["prompt"] for row in rows))[:3]
    lines = ["| question | before sft | after sft |", "|---|---|---|"]
    said = []
    for folder in (before, after):
        tokenizer, model = load_tokenizer(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
        chat = chat_format("plain", tokenizer)
        prompts = [Prompt(chat.prompt(Conversation((Message("user", question),)))) for question in questions]
        made = generate(model, tokenizer, prompts, Decoding(48, stop_ids=stop_ids(model, tokenizer)), batch_size=3)
        said.append({answer.index: " ".join(answer.text.split()).replace("|", r"\|") for answer in made})
    for number, question in enumerate(questions):
        lines.append(f"| {question} | {said[0][number]} | {said[1][number]} |")
    return lines


def main() -> None:
    """Measure and write."""
    models = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "runs/demo").resolve()
    with tempfile.TemporaryDirectory() as work:
        table = losses(models / "adapted", Path(work))
        shown = previews(models / "adapted", Path(work))
    lines = [
        "# sft, shown",
        "",
        f"Made by `python scripts/show_sft.py` on the demo's models: {machine()}, Python {platform.python_version()}, "
        f"commit {commit()}.",
        "",
        "## The same losses however a step is cut",
        "",
        f"{EXAMPLES // PER_STEP} steps of {PER_STEP} examples of the demo's instructions, fp32, AdamW at 1e-3.",
        "",
        *table,
        "",
        "## One example in each format",
        "",
        *shown,
        "## Answers before and after",
        "",
        "Greedy, in the format of the tuning; the questions ask facts that pretraining told in other words.",
        "",
        *answers(models / "adapted", models / "tuned"),
        "",
    ]
    (ROOT / "docs/results/sft-shown.md").write_text("\n".join(lines), encoding="utf8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
