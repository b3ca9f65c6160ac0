"""Hold `bllossom plan` against measured peaks, and write the plan of the paper's run: docs/results/plan.md and .json.

    python scripts/bench_plan.py              # everything, about four minutes on a quiet 2-core machine
    python scripts/bench_plan.py --no-measure # the paper's tables alone

Needs the real texts and vocabularies (BLLOSSOM_SHARED, default ../shared). A measurement is `bllossom pretrain` itself,
for two steps in a process of its own: its peak resident memory, less what was resident after the imports. glibc is as
it comes: it keeps freed blocks of up to 32 MB in its heap, whose gaps count as resident and are planned (heap_gaps).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import commit, machine

from bllossom.config import load_config
from bllossom.corpus.prepare import PrepareConfig, prepare
from bllossom.memory import peak_rss_bytes, reset_peak_rss
from bllossom.tokens.mixture import MixtureConfig
from bllossom.tokens.shards import read_index
from bllossom.training.models import InitModel, LlamaShape, llama_config
from bllossom.training.plan import RunPlan, make_plan
from bllossom.training.plan_report import memory_table
from bllossom.training.planning.footprint import StepShape as PlannedStep
from bllossom.training.planning.footprint import count_activations, footprint, heap_gaps, model_size
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.settings import LearningRate
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("BLLOSSOM_SHARED", ROOT.parent / "shared"))
PAPER_CONFIG = ROOT / "configs" / "bllossom-13b" / "pretrain.yaml"
PAPER_BYTES = {"ko": 22.41e9 + 0.76e9, "en": 9.92e9}  # arXiv 2403.10882
ALL_TEXT = {
    language: [str(path) for path in sorted((SHARED / "corpus" / language).glob("*.jsonl.zst"))]
    for language in ("ko", "en")
}
SMALL_TEXT = {
    "ko": [str(SHARED / "corpus/ko/libreoffice_help_ko.jsonl.zst")],
    "en": [str(SHARED / "corpus/en/wikitext2_valid_test.jsonl.zst")],
}
# Body, embeddings, activations each outweigh the rest once, and HEAP_GAPS was fitted to these; not so to `new`.
CASES: dict[str, dict[str, Any]] = {
    "body": {"hidden_size": 1024, "intermediate_size": 2816, "layers": 14, "heads": 16, "block": 256, "micro": 2},
    "embeddings": {"hidden_size": 1536, "intermediate_size": 4096, "layers": 2, "heads": 12, "block": 256, "micro": 4},
    "activations": {"hidden_size": 512, "intermediate_size": 1408, "layers": 8, "heads": 8, "block": 512, "micro": 8},
    "new": {"hidden_size": 768, "intermediate_size": 2048, "layers": 12, "heads": 12, "block": 384, "micro": 3},
}


def make_tokens(folder: Path, text: dict[str, list[str]]) -> Path:
    """Merge Llama 2's vocabulary with KoBERT's, and turn text into its tokens."""
    vocabulary = folder / "vocabulary"
    merge_vocab(
        MergeVocabConfig(
            output=vocabulary,
            base=str(SHARED / "tokenizers/llama2"),
            donor=str(SHARED / "tokenizers/kobert"),
            expected_size=39478,
            samples={},
        )
    )
    prepare(
        PrepareConfig.model_validate({"output": folder / "tokens", "tokenizer": str(vocabulary), "sources": text}),
    )
    return folder / "tokens"


def config_of(case: dict[str, Any], tokens: Path, output: Path, accumulation: int = 1) -> PretrainConfig:
    """Two steps at a case's shape: from the second on AdamW's moments are there."""
    shape = LlamaShape(**{key: case[key] for key in ("hidden_size", "intermediate_size", "layers", "heads")})
    return PretrainConfig(
        output=output,
        model=InitModel(init=shape),
        tokens=tokens,
        mixture=MixtureConfig(weights={"ko": 7, "en": 3}, max_epochs=100),
        block_size=case["block"],
        micro_batch=case["micro"],
        global_batch=case["block"] * case["micro"] * accumulation,
        gradient_checkpointing=case.get("checkpointing", False),
        steps=2,
        learning_rate=LearningRate(peak=1e-4),
    )


def planned_bytes(config: PretrainConfig) -> float:
    """What plan says for one process in fp32."""
    assert isinstance(config.model, InitModel)
    import torch

    shape = llama_config(config.model.init, read_index(config.tokens).pieces)
    kept = count_activations(
        shape, block_size=config.block_size, document_mask=True, weights=torch.float32, autocast=False
    )
    accumulation = config.blocks_per_step() // config.micro_batch
    step = PlannedStep(
        config.block_size,
        config.micro_batch,
        accumulation,
        len(config.mixture.weights),
        config.loss_chunk,
        config.gradient_checkpointing,
        False,
    )
    size = model_size(shape)
    found = footprint(size, kept, step, "replicas", 1)
    return found.peak + heap_gaps(size, found)


def measure_here(name: str, tokens: Path) -> None:
    """Run a case in this process and print its peak above the imports, in bytes."""
    status = Path("/proc/self/status").read_text()
    resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
    reset_peak_rss()
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(CASES[name], tokens, Path(folder) / "model")
        pretrain(config)
        print(json.dumps({"peak": peak_rss_bytes() - resident, "planned": planned_bytes(config)}))


def measure(name: str, tokens: Path) -> dict[str, float]:
    """Run a case in a process of its own; bytes, measured and planned."""
    command = [sys.executable, __file__, "--case", name, "--tokens", str(tokens)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured_table(tokens: Path) -> tuple[list[str], dict[str, Any]]:
    """Planned beside measured, for each case."""
    lines = [
        "| shape | parameters | planned GB | measured GB | planned / measured |",
        "|---|--:|--:|--:|--:|",
    ]
    figures: dict[str, Any] = {}
    for name, case in CASES.items():
        found = measure(name, tokens)
        ratio = found["planned"] / found["peak"]
        config = config_of(case, tokens, Path("unused"))
        assert isinstance(config.model, InitModel)
        parameters = model_size(llama_config(config.model.init, read_index(tokens).pieces)).parameters
        lines.append(
            f"| {name}: {case['hidden_size']} × {case['layers']}, {case['micro']} × {case['block']} tokens | "
            f"{parameters:,} | {found['planned'] / 1e9:.2f} | {found['peak'] / 1e9:.2f} | {ratio:.3f} |"
        )
        figures[name] = found | {"parameters": parameters}
        print(lines[-1], file=sys.stderr)
    return lines, figures


def paper_tokens(tokens: Path) -> tuple[list[str], dict[str, Any]]:
    """The tokens of the paper's bytes, by the bytes per token of the real text here."""
    sources = read_index(tokens).sources
    lines = [
        "| language | paper's bytes | text measured, bytes | bytes per token | lowest and highest source | tokens |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    figures: dict[str, Any] = {}
    for language, size in PAPER_BYTES.items():
        mine = [source for source in sources if source.language == language]
        text, count = sum(source.bytes for source in mine), sum(source.tokens for source in mine)
        each = sorted(source.bytes / source.tokens for source in mine)
        figures[language] = {"bytes_per_token": text / count, "lowest": each[0], "highest": each[-1]}
        figures[language]["tokens"] = round(size / figures[language]["bytes_per_token"])
        lines.append(
            f"| {language} | {size:,.0f} | {text:,} | {text / count:.3f} | {each[0]:.2f} – {each[-1]:.2f} | "
            f"{figures[language]['tokens']:,} |"
        )
    figures["tokens"] = sum(figures[language]["tokens"] for language in PAPER_BYTES)
    return [*lines, f"| all | {sum(PAPER_BYTES.values()):,.0f} | | | | {figures['tokens']:,} |"], figures


def plan_tables(tokens: int) -> tuple[list[str], dict[str, Any]]:
    """The paper's run on three clusters."""
    loaded = load_config(PretrainConfig, PAPER_CONFIG, (f"tokens_total={tokens}",), allow_missing=True)
    clusters = [(8, "a100-80g"), (8, "h100-80g"), (64, "h100-80g")]
    plans = [make_plan(loaded.config, PAPER_CONFIG.parent, gpus=gpus, gpu=gpu) for gpus, gpu in clusters]
    lines = [
        "| GPUs | utilisation | tokens/s | hours | GPU-hours | recommended | micro-batch | peak GB a GPU |",
        "|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    for plan in plans:
        best = plan.recommended
        assert best is not None
        how = f"{best.strategy}{', gradient checkpointing' if best.checkpointing else ''}"
        lines.append(
            f"| {plan.gpus} × {plan.gpu} | {plan.utilisation:.0%} | {plan.tokens_per_second:,.0f} | "
            f"{plan.hours:.1f} | {plan.hours * plan.gpus:,.0f} | {how} | {best.micro_batch} | "
            f"{best.memory.peak / 1e9:.1f} |"
        )
    lines += ["", *_disk(plans[0])]
    for plan in plans[1:]:
        lines += ["", f"### Memory, GB on each of {plan.gpus} GPUs ({plan.usable / 1e9:.1f} GB usable of 80 GB)", ""]
        header, *rows = memory_table(plan)
        lines += [f"| {' | '.join(header)} |", "|---|---" + "|--:" * (len(header) - 2) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    figures = {f"{plan.gpus} × {plan.gpu}": {"hours": plan.hours, "tokens": plan.tokens} for plan in plans}
    return lines, figures


def _disk(plan: RunPlan) -> list[str]:
    disk = plan.disk
    return [
        f"{plan.size.parameters:,} parameters, {plan.steps:,} steps of {plan.arithmetic[0].split(' = ')[1]}; "
        f"{disk.checkpoint / 1e9:.0f} GB a training checkpoint ({disk.checkpoints} at once: "
        f"{disk.checkpoints * disk.checkpoint / 1e9:.0f} GB), "
        f"{disk.published / 1e9:.1f} GB the published model in {plan.save_dtype}, "
        f"{2 * plan.tokens / 1e9:.1f} GB the tokens."
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-measure", action="store_true", help="keep the measurements of docs/results/plan.json")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        measure_here(arguments.case, arguments.tokens)
        return
    results = ROOT / "docs" / "results"
    stored = results / "plan.json"
    before = json.loads(stored.read_text()) if stored.exists() else {}
    with tempfile.TemporaryDirectory() as work:
        token_lines, tokens = paper_tokens(make_tokens(Path(work) / "all", ALL_TEXT))
        if arguments.no_measure:
            measured_lines, measured = before.get("measured_lines", ["Not measured yet."]), before.get("measured", {})
        else:
            measured_lines, measured = measured_table(make_tokens(Path(work) / "small", SMALL_TEXT))
    table_lines, clusters = plan_tables(tokens["tokens"])
    text = PAGE.format(
        machine=f"{machine()}, Python {platform.python_version()}, commit {commit()}",
        tokens="\n".join(token_lines),
        plan="\n".join(table_lines),
        measured="\n".join(measured_lines),
    )
    (results / "plan.md").write_text(text, encoding="utf8")
    figures = {"tokens": tokens, "clusters": clusters, "measured": measured, "measured_lines": measured_lines}
    stored.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    print(text)


PAGE = """# What the paper's run would take

Made by `python scripts/bench_plan.py` ({machine}). The same for any config:
`bllossom plan --config configs/bllossom-13b/pretrain.yaml --gpus 8 --gpu h100-80g`.

## Tokens

33.09 GB of text, Korean and English 7:3 in bytes (arXiv 2403.10882). Bytes per token are measured with the merged
vocabulary of 39,478 pieces on the real texts at hand, which are law, documentation, literature and encyclopedia, not
the paper's news and web: the column of lowest and highest says how far off the tokens may be.

{tokens}

## Time and memory

Model FLOP utilisation as PaLM counts it (arXiv 2204.02311, appendix B). A100: what Llama 2's own 13B run reached
(368,640 A100 hours for 2 T tokens, arXiv 2307.09288, table 2). H100: the 13B rows of llm-foundry's benchmarks
(scripts/train/benchmarking/README.md), 39.6–41.6 % on 8 to 64 GPUs; 37,740 tokens/s were measured there on 8 GPUs with
rows of 4,096 tokens. These are other people's machines and code: nothing here was run on a GPU by this project.

{plan}

States are as DeepSpeed's estimators count them (tests/training/test_plan.py): equal for ZeRO 2 and for offload, 2.5 %
above for ZeRO 3, whose estimator leaves out the bf16 gradients and counts the fp32 ones whole.

## Planned against measured

Peak resident memory above the imports of `bllossom pretrain`, two steps on the CPU in fp32, one process.

{measured}

On a CPU the plan adds what glibc's heap loses in gaps: 0.41 of the activations and of the body's gradients. That share
was fitted to the first three shapes and another (hidden 256, 6 layers, 8 × 512 tokens, 1.39 GB); only the row `new` was
foretold. Handing freed blocks back at once (a lower
MALLOC_MMAP_THRESHOLD_) closes the gaps, and training then loses up to half of its speed to page faults.
"""


if __name__ == "__main__":
    main()
