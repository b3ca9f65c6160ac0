"""plan: what a training run will take, before anything is paid: memory on each GPU, time, disk. No weights needed.

Time is tokens × FLOPs a token / (GPUs × peak FLOP/s × utilisation), and what that leaves out: the head, whose products
are fp32 (or TF32, with head_tf32) where the body's are bf16; and the gradients of plain replicas, which are summed once
the backward pass is done, where ZeRO's go beside it.

FLOPs and model FLOP utilisation are counted as PaLM does (arXiv 2204.02311, appendix B): 6 for each parameter that is
multiplied, 12 × layers × width × block for attention; what gradient checkpointing computes again does not count, so it
shows as a lower utilisation. A weight that does not train saves its own gradient, 2 of the 6.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PretrainedConfig

from bllossom.errors import ConfigError
from bllossom.training.dpo import DpoConfig
from bllossom.training.engines.flops import training_flops_per_token
from bllossom.training.engines.optimization import Trainable
from bllossom.training.models import InitModel, check_family
from bllossom.training.planning.disk import DiskNeed, disk_need
from bllossom.training.planning.footprint import (
    STRATEGIES,
    Activations,
    Footprint,
    ModelSize,
    StepShape,
    Strategy,
    count_activations,
    footprint,
    masks_windows,
    model_size,
)
from bllossom.training.planning.gpus import CONTEXT_BYTES, GPUS, HEAD_UTILISATION, USABLE, reduction_seconds
from bllossom.training.planning.shape import shape_of
from bllossom.training.pretrain_config import PretrainConfig
from bllossom.training.settings import TrainingConfig
from bllossom.training.sft import SftConfig
from bllossom.training.workloads import Workload, dpo_workload, pretrain_workload, sft_workload


@dataclass(frozen=True)
class Choice:
    """A way to run: a ZeRO strategy, with or without gradient checkpointing, and what fits on the GPU with it."""

    strategy: Strategy
    checkpointing: bool
    memory: Footprint  # at `micro_batch`, or at 1 where nothing fits
    micro_batch: int  # the largest that fits and divides the global batch; 0 where not even one block does
    disk: DiskNeed
    reduction_hours: float  # of gradients, while nothing else is done


@dataclass(frozen=True)
class RunPlan:
    """What `make_plan` found; sizes in bytes, times in hours."""

    size: ModelSize
    trained: int  # parameters that train; in the phase where most do
    gpus: int
    gpu: str
    utilisation: float
    utilisation_source: str
    precision: str
    arithmetic: list[str]
    tokens: int
    steps: int
    usable: float
    choices: list[Choice]
    flops_per_token: float
    tokens_per_second: float  # of the recommended choice
    hours: float  # of the recommended choice
    head_hours: float  # of them; 0 where the whole model computes in one precision
    head_precision: str
    save_dtype: str
    not_planned: list[str]  # what the config asks for and the plan leaves out

    @property
    def disk(self) -> DiskNeed:
        """Of the recommended choice; the largest of all choices where none fits."""
        return (self.recommended or max(self.choices, key=lambda choice: choice.disk.total)).disk

    @property
    def recommended(self) -> Choice | None:
        """The fastest that fits: see _fastest."""
        return _fastest(self.choices)


def make_plan(
    config: TrainingConfig, beside: Path, *, gpus: int, gpu: str, utilisation: float | None = None
) -> RunPlan:
    """Plan the run of `config` on `gpus` GPUs. `beside` is the config file's folder, see `shape_of`.

    Raises:
        ConfigError: the GPU is unknown, the utilisation is no share, the GPUs do not divide the global batch, or the
            model's family does not train as asked.
        BllossomError: the model's shape cannot be had, or its family's code cannot be counted.
    """
    if gpu not in GPUS:
        raise ConfigError(f"--gpu: {gpu!r} is not known; choose one of {', '.join(GPUS)}")
    if gpus < 1 or not (utilisation is None or 0 < utilisation <= 1):
        raise ConfigError("--gpus should be at least 1, and --utilisation above 0 and at most 1, as 0.4")
    config = config.resolved("cuda", liger_installed=False)
    shape, work = _shape_and_work(config, beside)
    if work.even and work.rows_per_step % gpus:
        nearest = max(1, round(work.rows_per_step / gpus)) * gpus * work.unit_size
        raise ConfigError(
            f"{work.key}: {work.rows_per_step:,} {work.unit} cannot be shared among {gpus} GPUs; the nearest that fits "
            f"is {work.key}={nearest}"
        )
    hardware = GPUS[gpu]
    window = getattr(shape, "max_position_embeddings", None)
    if work.row_key and window is not None and work.row_tokens > window:
        raise ConfigError(
            f"{work.row_key}: {work.row_tokens:,} tokens are more than the model's window of {window:,}; set "
            f"{work.row_key} to at most {window}"
        )
    size = model_size(shape, config.lora)
    most = max((trainable for trainable, _ in work.parts), key=size.trained)
    flops = _mean(work.parts, lambda trainable: flops_per_token(size, work.attended, trainable))
    head = (6.0 if size.trains_embeddings(most) else 4.0) * size.embedding
    flops -= head * (1 - work.scored)
    used = hardware.utilisation if utilisation is None else utilisation
    head_flops = head * work.scored if config.bf16 else 0.0
    head_peak = hardware.tf32 if config.head_tf32 else hardware.fp32
    body_seconds = (flops - head_flops) / ((hardware.bf16 if config.bf16 else hardware.fp32) * used)
    head_seconds = head_flops / (head_peak * HEAD_UTILISATION)
    usable = (hardware.memory - CONTEXT_BYTES) * USABLE
    reduction = work.steps * reduction_seconds(4.0 * size.trained(most), gpus, hardware) / 3600
    choices = list(_choices(config, work, shape, size, most, gpus, usable, reduction))
    fastest = _fastest(choices)
    hours = work.tokens * (body_seconds + head_seconds) / gpus / 3600 + (fastest.reduction_hours if fastest else 0.0)
    seconds_a_token = hours * 3600 / work.tokens if work.tokens else (body_seconds + head_seconds) / gpus
    return RunPlan(
        size=size,
        trained=size.trained(most),
        gpus=gpus,
        gpu=gpu,
        utilisation=used,
        utilisation_source=hardware.source if utilisation is None else "as asked",
        precision=config.precision,
        arithmetic=[work.arithmetic],
        tokens=work.tokens,
        steps=work.steps,
        usable=usable,
        choices=choices,
        flops_per_token=flops,
        tokens_per_second=1 / seconds_a_token,
        hours=hours,
        head_hours=work.tokens * head_seconds / gpus / 3600,
        head_precision="TF32" if config.head_tf32 else "fp32",
        save_dtype=config.save_dtype,
        not_planned=_not_planned(config),
    )


def _shape_and_work(config: TrainingConfig, beside: Path) -> tuple[PretrainedConfig, Workload]:
    if isinstance(config, PretrainConfig):
        shape = shape_of(config.model, beside, config.tokens)
        if not isinstance(config.model, InitModel):
            check_family(config.model, shape, config, document_mask=config.document_mask)
        return shape, pretrain_workload(config)
    assert isinstance(config, SftConfig | DpoConfig)
    shape = shape_of(config.model, beside)
    check_family(config.model, shape, config, document_mask=False)  # sft packs only what keeps them apart
    return shape, sft_workload(config, shape) if isinstance(config, SftConfig) else dpo_workload(config, shape)


def _mean(parts: Sequence[tuple[Trainable, int]], value: Callable[[Trainable], float]) -> float:
    """A mean over the steps of all phases."""
    steps = sum(count for _, count in parts)
    if not steps:  # `epochs` of tokens that are not here yet
        return value(parts[0][0])
    return sum(value(trainable) * count for trainable, count in parts) / steps


def _fastest(choices: Sequence[Choice]) -> Choice | None:
    """Of those that fit: offloading waits for the bus at every step, ZeRO 3 gathers the weights twice for each
    micro-batch, recomputation adds a third of the arithmetic, plain replicas add up gradients while nothing else is
    done; less sharding is simpler."""
    order = {"zero3": 1, "zero3-offload": 2}
    fitting = [choice for choice in choices if choice.micro_batch]
    return min(fitting, key=lambda c: (order.get(c.strategy, 0), c.checkpointing, c.reduction_hours), default=None)


def flops_per_token(size: ModelSize, block_size: float, trainable: Trainable = "all") -> float:
    """Floating-point operations of one token's forward and backward pass (PaLM, appendix B)."""
    multiplied = size.parameters + size.adapters - size.input_only
    every = training_flops_per_token(multiplied, size.layers, size.attention_width, block_size)
    looked_up = 0 if size.trains_embeddings(trainable) else size.input_only
    return every - 2.0 * (size.parameters + size.adapters - size.trained(trainable) - looked_up)


def _not_planned(config: TrainingConfig) -> list[str]:
    """What the config asks for that would move the figures, and that they leave out."""
    left_out = []
    if isinstance(config.deepspeed, Path):
        left_out.append(f"deepspeed: {config.deepspeed}: the presets are planned; its own offload and buckets are not")
    if kernels := [name for name in ("liger", "compile") if getattr(config, name)]:
        left_out.append(f"{', '.join(kernels)}: planned without, which keeps more activations")
    return left_out


def _choices(
    config: TrainingConfig,
    work: Workload,
    shape: PretrainedConfig,
    size: ModelSize,
    trainable: Trainable,
    gpus: int,
    usable: float,
    reduction_hours: float,
) -> Iterator[Choice]:
    def activations(strategy: Strategy) -> Activations:
        plain = strategy == "replicas"
        return count_activations(
            shape,
            block_size=work.row_tokens,
            document_mask=work.masked or (config.attention == "sdpa" and masks_windows(shape, work.row_tokens)),
            weights=torch.float32 if plain or not config.bf16 else torch.bfloat16,
            autocast=plain and config.bf16,
            trainable=trainable,
            lora=config.lora,
        )

    each = -(-work.rows_per_step // gpus)  # rows of a rank in a step
    counted = {strategy: activations(strategy) for strategy in ("replicas", "zero1")}
    for strategy in STRATEGIES:
        for checkpointing in (False, True):

            def memory(
                micro_batch: int, strategy: Strategy = strategy, checkpointing: bool = checkpointing
            ) -> Footprint:
                step = StepShape(
                    block_size=work.row_tokens,
                    micro_batch=micro_batch,
                    accumulation=-(-each // micro_batch),
                    groups=work.groups,
                    loss_chunk=config.loss_chunk,
                    checkpointing=checkpointing,
                    bf16=config.bf16,
                    trainable=trainable,
                )
                kept = counted["replicas" if strategy == "replicas" else "zero1"]
                return footprint(size, kept, step, strategy, gpus)

            sizes = [n for n in range(1, each + 1) if not work.even or each % n == 0]
            fitting = [n for n in sizes if memory(n).peak <= usable]
            best = max(fitting, default=0)
            disk = disk_need(
                config, strategy, trained=size.trained(trainable), parameters=size.parameters, phases=len(work.parts)
            )
            reduction = reduction_hours if strategy == "replicas" else 0.0
            yield Choice(strategy, checkpointing, memory(best or 1), best, disk, reduction)
