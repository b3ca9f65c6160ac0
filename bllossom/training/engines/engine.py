"""Engines: what holds the weights and the optimizer's state, and moves them by one step.

The loop is the same for all of them. `PlainEngine` holds everything on each rank; DeepSpeed's is in
deepspeed_engine.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from transformers import PreTrainedModel

from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.objective import Objective
from bllossom.training.engines.optimization import Trainable, make_optimizer
from bllossom.training.settings import TrainingConfig


class Engine(Protocol):
    """What the loop asks for. Every method is called by all ranks together."""

    name: str

    def sums(self, inputs: tuple[Any, ...]) -> torch.Tensor:
        """The objective's sums of a micro-batch, [sums], with their graph unless gradients are off."""
        ...

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        """Add the gradient of `loss`; `last` marks the step's last micro-batch. Ranks are summed, not averaged."""
        ...

    def step(self, rate: float) -> float:
        """Clip and apply the gradient at this learning rate; give its L2 norm before clipping."""
        ...

    def training(self, on: bool) -> None:
        """Switch between training and evaluation."""
        ...

    def save(self, folder: Path) -> None:
        """Write the weights that train and the optimizer's state below an existing folder."""
        ...

    def load(self, folder: Path) -> None:
        """Bring back what `save` wrote, bit for bit."""
        ...

    def weights(self, *, trained_only: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
        """Every parameter, or every one that trains, whole, fp32, on the CPU, under its name in the model."""
        ...


class PlainEngine:
    """Weights and AdamW in fp32 on every rank; ranks add up their gradients."""

    name = "plain"

    def __init__(
        self, model: PreTrainedModel, config: TrainingConfig, ranks: Ranks, trainable: Trainable, objective: Objective
    ) -> None:
        self.model = torch.nn.Module.to(model, ranks.device)
        self.ranks = ranks
        self.clip = config.optimizer.gradient_clip
        self.optimizer = make_optimizer(model, config.optimizer, trainable)
        self.loss = objective.module(model, config, autocast=config.bf16)
        self.trained = [weight for weight in model.parameters() if weight.requires_grad]

    def sums(self, inputs: tuple[Any, ...]) -> torch.Tensor:
        """See Engine."""
        return self.loss(*inputs)

    def backward(self, loss: torch.Tensor, *, last: bool) -> None:
        """See Engine."""
        loss.backward()
        if last and self.ranks.world > 1:
            for weight in self.trained:
                distributed.all_reduce(weight.grad)

    def step(self, rate: float) -> float:
        """See Engine. Where the norm is not finite nothing is applied."""
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, self.clip))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if norm < float("inf"):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def training(self, on: bool) -> None:
        """See Engine."""
        self.model.train(on)

    def save(self, folder: Path) -> None:
        """See Engine: model.safetensors and optimizer.pt."""
        if self.ranks.first:
            # Named parameters, not the state dict: tied weights are one tensor there.
            save_file({name: weight.detach() for name, weight in self._named_trained()}, folder / "model.safetensors")
            torch.save(self.optimizer.state_dict(), folder / "optimizer.pt")

    def load(self, folder: Path) -> None:
        """See Engine."""
        saved = load_file(folder / "model.safetensors")
        with torch.no_grad():
            for name, weight in self._named_trained():
                weight.copy_(saved[name])
        self.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True, map_location="cpu"))

    def weights(self, *, trained_only: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
        """See Engine."""
        for name, weight in self._named_trained() if trained_only else self.model.named_parameters():
            yield name, weight.detach().float().cpu()

    def _named_trained(self) -> list[tuple[str, torch.Tensor]]:
        return [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]
