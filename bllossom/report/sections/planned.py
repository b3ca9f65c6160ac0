"""What a pretraining was to take, by the rules of `bllossom plan`, beside what it took: time, memory, disk.

The plan follows from the config and the model's shape alone, as before the run. Its time is the least: the run's
operations at the rate that large matrix products reached on that machine, which the log knows (its matmul_share). The
figures are kept in planned.json in the run's folder: the page's numbers come from there.
"""

import json
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import ValidationError
from transformers import AutoConfig

from bllossom.console import say
from bllossom.report.blocks import Block, Cell, Section, Table
from bllossom.report.run_folder import Figure, RunFolder, RunStep
from bllossom.report.sections.training import LOG
from bllossom.training.plan import flops_per_token
from bllossom.training.planning.disk import disk_need, strategy_of
from bllossom.training.planning.footprint import StepShape, count_activations, footprint, masks_windows, model_size
from bllossom.training.pretrain_config import PretrainConfig

PLANNED = "planned.json"
ROWS = (
    ("time", "seconds", "seconds"),
    ("peak memory", "memory_bytes", "bytes"),
    ("published model on disk", "published_bytes", "bytes"),
    ("most on disk at once", "disk_bytes", "bytes"),
)


def planned(runs: Sequence[RunFolder]) -> Section | None:
    """A table for every pretraining, and which other trainings have none; None where nothing was trained."""
    blocks: list[Block] = []
    for run in runs:
        found = {step.name: figures for step in run.of("pretrain") if (figures := compare_with_plan(step)) is not None}
        if found:
            (run.folder / PLANNED).write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf8")
            blocks.append(_table(run, found))
        if beside := [step.label for step in run.of("sft", "dpo")]:
            blocks.append(
                f"Not held against a plan: {', '.join(beside)}; what sft and dpo take follows from the lengths of "
                "their examples, which this page does not read."
            )
        if missing := [step.label for step in run.of("pretrain") if step.name not in found]:
            blocks.append(
                f"Not planned, for what they trained is an adapter, the model is gone from the folder, its "
                f"family is none that can be planned, or their configs are of an earlier version: {', '.join(missing)}."
            )
    return Section("planned", "Planned and measured", blocks) if blocks else None


def compare_with_plan(step: RunStep) -> dict[str, Any] | None:
    """Planned and measured seconds and bytes of a pretraining; None where its config or its model cannot be read any
    more, the model's family cannot be planned, or it trained an adapter, beside which the base's shape does not stand.

    The measured peak is the first rank's, by its log: where ranks were started, the process that published only waited.
    On the CPU it is that of the whole process, the interpreter and its libraries with it.
    """
    try:
        config = PretrainConfig.model_validate(step.manifest.config)
    except ValidationError:
        return None
    if config.lora is not None or not (step.folder / "config.json").is_file():
        return None
    try:
        planned_figures = _plan(step, config.resolved("cpu", liger_installed=False))
    except Exception as error:  # whatever a family that cannot be counted, or a config.json edited by hand, ends in
        say(f"{step.label}: no plan to hold it against ({str(error) or type(error).__name__})")
        return None
    lines, _ = step.lines(LOG)
    peaks = [line["peak_memory_bytes"] for line in lines if line.get("peak_memory_bytes")]
    return {
        "planned": planned_figures,
        "measured": {
            "seconds": step.manifest.run.get("wall_seconds"),
            "memory_bytes": max(peaks, default=step.manifest.run.get("peak_memory_bytes")),
            "published_bytes": sum(record.bytes for record in step.manifest.files.values()),
            "disk_bytes": None,  # checkpoints are gone once the model is published
        },
    }


def _plan(step: RunStep, config: PretrainConfig) -> dict[str, float | None]:
    """Seconds and bytes that the run of `config` was to take, from the shape of the model that it published."""
    shape = AutoConfig.from_pretrained(step.folder)
    size, strategy = model_size(shape), strategy_of(config)
    trainables = [phase.trainable for phase in config.phases] or [config.trainable]
    most = max(trainables, key=size.trained)
    activations = count_activations(
        shape,
        block_size=config.block_size,
        document_mask=config.attention == "sdpa" and (config.document_mask or masks_windows(shape, config.block_size)),
        weights=torch.float32,
        autocast=config.bf16,
        trainable=most,
    )
    ranks = _ranks(step, config)
    step_shape = StepShape(
        block_size=config.block_size,
        micro_batch=config.micro_batch,
        accumulation=max(1, config.blocks_per_step() // (ranks * config.micro_batch)),
        groups=len(config.mixture.weights),
        loss_chunk=config.loss_chunk,
        checkpointing=config.gradient_checkpointing,
        bf16=config.bf16,
        trainable=most,
    )
    disk = disk_need(
        config, strategy, trained=size.trained(most), parameters=size.parameters, phases=max(1, len(config.phases))
    )
    # One value a step: of a phase that trains less, a step costs less. Of a single phase all steps are alike.
    flops = [
        flops_per_token(size, config.block_size, segment.trainable)
        for segment in config.segments()
        for _ in range(segment.steps or 1)
    ]
    rate, tokens = _matmul_rate(step, flops), step.manifest.figures.get("tokens")
    return {
        "seconds": statistics.fmean(flops) * tokens / rate if rate and tokens else None,
        "memory_bytes": footprint(size, activations, step_shape, strategy, ranks).peak,
        "published_bytes": disk.published,
        "disk_bytes": disk.total,
    }


def _ranks(step: RunStep, config: PretrainConfig) -> int:
    """As the manifest records them; those of before do not, and of `gpus: auto` nobody knows then."""
    asked = config.gpus if isinstance(config.gpus, int) and config.gpus else config.processes
    return int(step.manifest.figures.get("ranks", asked))


def _matmul_rate(step: RunStep, flops: Sequence[float]) -> float | None:
    """Operations a second that all ranks together reached in large matrix products, as the log's shares say, which are
    of each step's own `flops` a token."""
    lines, _ = step.lines(LOG)
    rates = [
        line["tokens_per_second"] * flops[min(line["step"], len(flops)) - 1] / share
        for line in lines
        if (share := line.get("matmul_share", 0.0)) > 0
    ]
    return statistics.median(rates) if rates else None


def _table(run: RunFolder, found: dict[str, dict[str, Any]]) -> Table:
    def at(step: str, side: str, key: str, style: str) -> Figure | None:
        value = found[step][side][key]
        return None if value is None else Figure(value, f"{run.name}/{PLANNED}#/{step}/{side}/{key}", style)

    labels = {step.name: step.label for step in run.steps}
    rows: list[list[Cell]] = [
        [f"{labels[name]}: {what}", at(name, "planned", key, style), at(name, "measured", key, style)]
        for name in found
        for what, key, style in ROWS
    ]
    caption = (
        "planned time is the least: all operations at the rate of large matrix products on that machine; peak memory "
        "on the CPU is that of the whole process, of which the plan knows weights, gradients, moments and activations; "
        "most on disk is with all checkpoints that are kept at once, and was not measured"
    )
    return Table(["pretraining", "planned", "measured"], rows, caption)
