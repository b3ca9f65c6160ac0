"""What torchrun starts for test_two_ranks.py: whole runs, and the loss and gradient of one global batch, by engine.

    torchrun --nproc-per-node 2 two_ranks.py TASKS.json

TASKS.json: {"runs": [pretrain configs], "stopped": [those to be stopped after step 10],
             "batches": {name: pretrain config}, "gradients": folder}
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from bllossom.errors import Stopped
from bllossom.training import pretrain as pretrain_module
from bllossom.training import ranks as ranks_module
from bllossom.training.deepspeed_engine import DeepSpeedEngine, import_deepspeed
from bllossom.training.pretrain import BlockRows, PretrainConfig, _model, _open_mixture, pretrain
from bllossom.training.ranks import Ranks
from bllossom.training.rows import Row
from bllossom.training.run import make_engine
from bllossom.training.trainer import accumulate, rank_rows

STEP = 3


def global_gradient(config: PretrainConfig, ranks: Ranks, folder: Path) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss and the whole gradient of one global batch at the model's first weights."""
    model = _model(config, config.model, 300)
    engine = make_engine(model, config, ranks, "all", config.blocks_per_step(), folder)
    engine.training(True)
    source = BlockRows(_open_mixture(config), config.document_mask)
    rows = rank_rows(source, STEP, config.blocks_per_step(), config.micro_batch, ranks)
    result = accumulate(engine, rows, source.groups, config.micro_batch, ranks)
    if isinstance(engine, DeepSpeedEngine):
        import_deepspeed()
        from deepspeed.utils import safe_get_full_grad

        gradient = {name: safe_get_full_grad(weight).clone() for name, weight in model.named_parameters()}
        engine.close()
    else:
        gradient = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    return result.loss, gradient


class StoppingRows(BlockRows):
    """Rows of 20 steps; a stop is asked for while those of step 10 are read."""

    def row(self, index: int) -> Row:
        if index // 8 == 9:
            signal.raise_signal(signal.SIGTERM)
        return super().row(index)


def stop_after_step_10(config: PretrainConfig) -> None:
    """Run up to a checkpoint after step 10."""
    pretrain_module.BlockRows = StoppingRows  # type: ignore[misc]
    try:
        pretrain(config)
    except Stopped:
        pretrain_module.BlockRows = BlockRows  # type: ignore[misc]


def main() -> None:
    tasks = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    for values in tasks["runs"]:
        pretrain(PretrainConfig(**values))
    for values in tasks["stopped"]:
        stop_after_step_10(PretrainConfig(**values))
    ranks = ranks_module.join("cpu")
    losses = {}
    for name, values in tasks["batches"].items():
        losses[name], gradient = global_gradient(PretrainConfig(**values), ranks, Path(tasks["gradients"]))
        if ranks.first:
            save_file(gradient, Path(tasks["gradients"]) / f"{name}.safetensors")
    if ranks.first:
        (Path(tasks["gradients"]) / "losses.json").write_text(json.dumps(losses))
    ranks_module.leave()
    os._exit(0)  # as the program itself does it, see bllossom/cli.py


if __name__ == "__main__":
    main()
