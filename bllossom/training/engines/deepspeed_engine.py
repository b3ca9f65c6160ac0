"""DeepSpeed as an engine: ZeRO 1, 2, 3 and offload. Every name of DeepSpeed that the project uses stands here.

Nothing is compiled on a CPU: DeepSpeed's shared-memory communication and its own Adam would build C++ for minutes on
first use (and hang for ever on a lock that a killed build left), so gloo and torch's AdamW serve there.
"""

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from transformers import PreTrainedModel

from bllossom.errors import BllossomError, ConfigError
from bllossom.ranks.device import DeviceType, device_here
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.objective import Objective
from bllossom.training.engines.optimization import Trainable, parameter_groups
from bllossom.training.settings import TrainingConfig

TAG = "engine"
UNIVERSAL = "zero"
"""The folder that the universal form has beside DeepSpeed's own files."""
PRESETS: dict[str, dict[str, Any]] = {
    "zero1": {"zero_optimization": {"stage": 1}},
    "zero2": {"zero_optimization": {"stage": 2}},
    "zero3": {"zero_optimization": {"stage": 3}},
    "zero3-offload": {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}},
}
OURS = {
    "train_batch_size": "global_batch",
    "train_micro_batch_size_per_gpu": "micro_batch",
    "gradient_accumulation_steps": "global_batch",
    "gradient_clipping": "optimizer.gradient_clip",
    "optimizer": "optimizer",
    "scheduler": "learning_rate",
    "bf16": "precision",
    "fp16": "precision",
}
"""Keys of a DeepSpeed JSON that the stage's own config decides, and what to set instead."""


def read_settings(choice: str) -> dict[str, Any]:
    """A preset by name, or the JSON file at this path.

    Raises:
        ConfigError: neither, or the file sets what the stage's config decides.
    """
    if choice in PRESETS:
        return json.loads(json.dumps(PRESETS[choice]))
    try:
        settings = json.loads(Path(choice).read_text(encoding="utf8"))
    except OSError as error:
        raise ConfigError(f"deepspeed: {choice} is neither a file nor one of {', '.join(PRESETS)}") from error
    except ValueError as error:
        raise ConfigError(f"deepspeed: {choice} is not JSON ({error})") from error
    if taken := [f"{key} (set {OURS[key]})" for key in OURS if key in settings]:
        raise ConfigError(f"deepspeed: {choice}: the stage's config decides {', '.join(taken)}; remove it there")
    return settings


def stage_of(settings: dict[str, Any]) -> int:
    """The ZeRO stage of DeepSpeed settings."""
    return int(settings.get("zero_optimization", {}).get("stage", 0))


def offloads_gradients(choice: str) -> bool:
    """Whether gradients of ZeRO 1 or 2 go to the CPU, whose norms count on as many micro-batches in every step."""
    settings = read_settings(choice)
    return stage_of(settings) in (1, 2) and "offload_optimizer" in settings["zero_optimization"]


class DeepSpeedEngine:
    """See engine.Engine. With `precision: bf16` the weights are bf16 beside fp32 masters that the ranks share."""

    def __init__(
        self,
        model: PreTrainedModel,
        config: TrainingConfig,
        ranks: Ranks,
        trainable: Trainable,
        objective: Objective,
        *,
        accumulation: int,
    ) -> None:
        deepspeed = import_deepspeed()
        settings = read_settings(str(config.deepspeed))
        self.name = str(config.deepspeed)
        self.model = model
        self.ranks = ranks
        loss = objective.module(model, config, autocast=False)
        if stage_of(settings) == 3:
            # The loss reads the head's weights outside the head's own forward: tell ZeRO-3 to gather them there.
            for weight in model.get_output_embeddings().parameters(recurse=False):
                deepspeed.zero.register_external_parameter(loss, weight)
        offload = "offload_optimizer" in settings.get("zero_optimization", {})
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=loss,
            optimizer=_optimizer(model, config, trainable, offload and ranks.device.type == "cuda"),
            dist_init_required=False,
            config=settings
            | {
                "train_micro_batch_size_per_gpu": config.micro_batch,
                "gradient_accumulation_steps": accumulation,
                "gradient_clipping": config.optimizer.gradient_clip,
                "bf16": {"enabled": config.bf16},
                "zero_allow_untested_optimizer": True,
                "zero_force_ds_cpu_optimizer": False,
                "steps_per_print": 1 << 40,
            },
        )

    def sums(self, inputs: tuple[Any, ...]) -> torch.Tensor:
        """See Engine."""
        return self.engine(*inputs)

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        """See Engine. DeepSpeed averages over the ranks: their number makes it the sum again.

        Where a step ends is said, since steps of packed rows do not all have as many micro-batches.
        """
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * self.ranks.world, scale_wrt_gas=False)
        if not last:
            self.engine.step()

    def step(self, rate: float) -> float:
        """See Engine."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        return float("nan") if norm is None else float(norm)

    def training(self, on: bool) -> None:
        """See Engine."""
        self.engine.train(on)

    def save(self, folder: Path) -> None:
        """See Engine: DeepSpeed's own files, one set a rank."""
        self.engine.save_checkpoint(str(folder), tag=TAG, save_latest=False, exclude_frozen_parameters=True)

    def load(self, folder: Path) -> None:
        """See Engine. Loading the universal form under ZeRO-3 (DeepSpeed 0.19.8, stage3.py) gives every group the first
        one's weight decay, and all weights one step counter, which AdamW then counts up once for each: put right here.
        """
        constants = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        # Of each checkpoint anew: the best one, with which a run may end, is not always of the newest one's form.
        self.engine._config.load_universal_checkpoint = (folder / TAG / UNIVERSAL).is_dir()
        # Not strict, because weights that do not train are not in it.
        found, _ = self.engine.load_checkpoint(
            str(folder), tag=TAG, load_module_strict=False, load_lr_scheduler_states=False
        )
        if not found:
            raise BllossomError(f"{folder}: DeepSpeed finds no checkpoint in it; remove the folder to use an older one")
        for group, own in zip(self.optimizer.param_groups, constants, strict=True):
            group.update(own)
        for state in self.optimizer.optimizer.state.values():
            if isinstance(state.get("step"), torch.Tensor):
                state["step"] = state["step"].clone()

    def weights(self, *, trained_only: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
        """See Engine: the fp32 masters, gathered one after the other; weights that do not train have none."""
        from deepspeed.utils import safe_get_full_fp32_param

        for name, weight in self.model.named_parameters():
            if trained_only and not weight.requires_grad:
                continue
            full = safe_get_full_fp32_param(weight) if weight.requires_grad else None
            if full is None:
                with gathered(weight):
                    full = weight.detach().clone()
            yield name, full.detach().float().cpu()

    def close(self) -> None:
        """Let go of the weights and DeepSpeed's hooks, so that another engine can follow."""
        self.engine.destroy()


@contextmanager
def gathered(weight: torch.Tensor) -> Iterator[None]:
    """Inside, `weight` is whole on every rank, even where ZeRO-3 keeps it in parts; what rank 0 writes to it stays."""
    if not hasattr(weight, "ds_id"):
        yield
        return
    with import_deepspeed().zero.GatheredParameters([weight], modifier_rank=0):
        yield


def to_universal(source: Path, target: Path) -> None:
    """Convert what `DeepSpeedEngine.save` wrote in `source` to DeepSpeed's universal form, in the new folder `target`.

    In a process of its own: the converter prints, and forks workers.

    Raises:
        BllossomError: DeepSpeed cannot convert it; ends in its last line.
    """
    # Stage 1 and 2 checkpoints lack a mark that the converter asks for, and that it can put in by itself.
    folders = ["--input_folder", str(source / TAG), "--output_folder", str(target / TAG)]
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", *folders, "--inject_missing_state"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BllossomError(f"{source}: DeepSpeed cannot convert it ({last}); go on with the same number of ranks")


@contextmanager
def partitioned_loading(config: TrainingConfig) -> Iterator[None]:
    """Inside, `from_pretrained` under ZeRO-3 keeps only this rank's part of each weight."""
    if config.deepspeed is None or stage_of(read_settings(str(config.deepspeed))) < 3:
        yield
        return
    from transformers.integrations import HfDeepSpeedConfig

    import_deepspeed()
    # Without bf16 here the parts would be fp32, whatever from_pretrained is asked for, and so would be all arithmetic.
    ours = {"train_micro_batch_size_per_gpu": config.micro_batch, "bf16": {"enabled": config.bf16}}
    alive = HfDeepSpeedConfig(read_settings(str(config.deepspeed)) | ours)
    yield
    del alive  # transformers holds it weakly: later models are whole again


def name_accelerator(device: DeviceType) -> None:
    """Tell DeepSpeed what it would otherwise find out aloud, on stdout, as soon as transformers imports it.

    By itself it would take GPUs wherever there are some. The ranks that are started from here inherit what it is told.
    """
    os.environ["DS_ACCELERATOR"] = device


def import_deepspeed() -> Any:
    """DeepSpeed, quiet and with nothing to compile on a CPU.

    Raises:
        BllossomError: it is not installed.
    """
    accelerator = os.environ.setdefault("DS_ACCELERATOR", device_here("auto"))
    try:
        import deepspeed
    except ImportError as error:
        message = "DeepSpeed is not installed; pip install 'bllossom[deepspeed]', or set deepspeed to null"
        raise BllossomError(message) from error
    # Its logger writes to stdout, where only results belong.
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    if accelerator == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if distributed.is_initialized() and not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(distributed.get_backend(), verbose=False)
    return deepspeed


def _optimizer(
    model: PreTrainedModel, config: TrainingConfig, trainable: Trainable, offload: bool
) -> torch.optim.Optimizer:
    groups = parameter_groups(model, config.optimizer, trainable)
    betas, epsilon = (config.optimizer.beta1, config.optimizer.beta2), config.optimizer.epsilon
    if offload:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, lr=0.0, betas=betas, eps=epsilon, adamw_mode=True)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=epsilon, fused=True)
