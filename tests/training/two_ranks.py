"""What torchrun starts for test_two_ranks.py: whole runs, and the loss and gradient of one global batch, by engine.

    torchrun --nproc-per-node 2 two_ranks.py TASKS.json

TASKS.json: {"runs": [pretrain configs], "batches": {name: pretrain config}, "gradients": folder}
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from bllossom.training import ranks as ranks_module
from bllossom.training.deepspeed_engine import DeepSpeedEngine, import_deepspeed
from bllossom.training.pretrain import BlockRows, PretrainConfig, _model, _open_mixture, pretrain
from bllossom.training.ranks import Ranks
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


def main() -> None:
    tasks = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    for values in tasks["runs"]:
        pretrain(PretrainConfig(**values))
    ranks = ranks_module.join()
    losses = {}
    for name, values in tasks["batches"].items():
        losses[name], gradient = global_gradient(PretrainConfig(**values), ranks, Path(tasks["gradients"]))
        if ranks.first:
            save_file(gradient, Path(tasks["gradients"]) / f"{name}.safetensors")
    if ranks.first:
        (Path(tasks["gradients"]) / "losses.json").write_text(json.dumps(losses))
    ranks_module.leave()


if __name__ == "__main__":
    main()
