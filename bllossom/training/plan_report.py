"""A plan as lines of text, and its memory as a table."""

from typing import Any

from bllossom.training.plan import RunPlan

PINNED = 1.5  # DeepSpeed's factor for CPU buffers beside offloaded states (estimate_zero3_model_states_mem_needs)
WIDTHS = (13, 13, 8, 9, 9, 11, 6, 7, 7, 4, 11, 9)


def describe(plan: RunPlan) -> list[str]:
    """The plan as lines of text."""
    size = plan.size
    adapters = f", and {size.adapters:,} in adapters" if size.adapters else ""
    lines = [
        f"model      {size.parameters:,} parameters, of which {size.embedding:,} in each embedding matrix of "
        f"{size.rows:,} rows{adapters}",
        *([f"           {plan.trained:,} of them train"] if plan.trained != size.parameters else []),
        f"run        {_amount(plan)}{plan.arithmetic[0]}",
        f"time       {_time(plan)} on {plan.gpus} × {plan.gpu}: {plan.tokens_per_second:,.0f} tokens/s in "
        f"{plan.precision} at {plan.utilisation:.0%} model FLOP utilisation",
        f"           ({plan.utilisation_source})",
        *_apart(plan),
        *_disk(plan),
        *(f"not planned  {line}" for line in plan.not_planned),
        f"memory     GB on each of {plan.gpus} GPUs; {_gb(plan.usable)} GB of a {plan.gpu} can be used",
        "",
        *(" ".join(cell.rjust(width) for cell, width in zip(row, WIDTHS, strict=True)) for row in memory_table(plan)),
        "",
    ]
    best = plan.recommended
    if best is None:
        return [*lines, "nothing fits: take more GPUs, larger ones, or a shorter block_size"]
    deepspeed = "null" if best.strategy == "replicas" else best.strategy
    return [
        *lines,
        f"recommended: deepspeed={deepspeed} gradient_checkpointing={str(best.checkpointing).lower()} "
        f"micro_batch={best.micro_batch}",
    ]


def _amount(plan: RunPlan) -> str:
    """Before the arithmetic of a step, which says why where no amount is known."""
    return f"{plan.tokens:,} tokens = {plan.steps:,} steps; " if plan.steps else ""


def _time(plan: RunPlan) -> str:
    if not plan.steps:
        return "not known,"
    return f"{plan.hours:,.1f} h = {plan.hours / 24:,.1f} days, {plan.hours * plan.gpus:,.0f} GPU-hours"


def _apart(plan: RunPlan) -> list[str]:
    """What of the time is not the body's arithmetic."""
    lines = []
    if plan.head_hours:
        faster = "" if plan.head_precision == "TF32" else "; head_tf32=true takes less, at TF32's rounding"
        lines.append(
            f"           {plan.head_hours:,.1f} h of it the head, {plan.head_hours / plan.hours:.0%}, in "
            f"{plan.head_precision}{faster}"
        )
    replicas = next(choice for choice in plan.choices if choice.strategy == "replicas")
    if replicas.reduction_hours:
        whose = "of it" if plan.recommended and plan.recommended.strategy == "replicas" else "more with plain replicas"
        lines.append(f"           {replicas.reduction_hours:,.1f} h {whose}: gradients are summed after each step")
    return lines


def _disk(plan: RunPlan) -> list[str]:
    kind, disk = "the adapter" if plan.size.adapters else "the model", plan.disk
    lines = [
        f"disk       {_gb(disk.checkpoint)} GB a checkpoint, {_gb(disk.checkpoint * disk.checkpoints)} GB at once "
        f"(newest {disk.checkpoints - 2}, best, one being written); {_gb(disk.published)} GB {kind} in "
        f"{plan.save_dtype}",
    ]
    if disk.left_by_phases:
        lines.append(f"           {_gb(disk.left_by_phases)} GB what the phases leave to one another")
    return lines


def memory_table(plan: RunPlan) -> list[tuple[str, ...]]:
    """A header, then a row for each choice: GB by component at the largest micro-batch that fits (or one block)."""
    rows: list[tuple[str, ...]] = [
        (
            *("strategy", "checkpointing", "weights", "gradients", "optimizer", "activations", "loss", "buffers"),
            *("peak", "fits", "micro-batch", "CPU/node"),
        )
    ]
    for choice in plan.choices:
        memory = choice.memory
        parts: tuple[Any, ...] = (memory.weights, memory.gradients, memory.optimizer, memory.activations, memory.loss)
        rows.append(
            (
                choice.strategy,
                "yes" if choice.checkpointing else "no",
                *map(_gb, (*parts, memory.buffers, memory.peak)),
                "yes" if choice.micro_batch else "no",
                str(choice.micro_batch or "–"),
                _gb(memory.cpu * min(plan.gpus, 8) * PINNED),
            )
        )
    return rows


def _gb(count: float) -> str:
    return f"{count / 1e9:,.1f}"
