"""Log-probabilities of pairs under the reference: computed once, before the model that is tuned is loaded.

<beside the output>/references-<fingerprint>/00000.npy …    float64 [pairs of the part, 2]: chosen, rejected, in nats

The fingerprint is over the reference, the ids of all pairs and the precision, so that another beta, learning rate or
kind of loss finds them again; a run that was killed goes on after the parts that are there.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bllossom.artifacts import fingerprint
from bllossom.console import progress
from bllossom.hub import is_hub_id
from bllossom.instructions.preferences import EncodedPair
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines.preference_loss import AnswerLogProbabilities, answer_inputs
from bllossom.training.models import load_model, prepare_for_training
from bllossom.training.settings import TrainingConfig

PART_PAIRS = 64


def reference_log_probabilities(
    source: str,
    pairs: Sequence[EncodedPair],
    config: TrainingConfig,
    ranks: Ranks,
    beside: Path,
    *,
    share_prompt: bool,
) -> NDArray[np.float64]:
    """What `source` gives chosen and rejected of each pair: [pairs, 2]. Ranks share the parts; each holds the model."""
    folder = beside / f"references-{_fingerprint(source, pairs, config)}"
    parts = [pairs[start : start + PART_PAIRS] for start in range(0, len(pairs), PART_PAIRS)]
    files = [folder / f"{number:05d}.npy" for number in range(len(parts))]
    if ranks.first:
        folder.mkdir(parents=True, exist_ok=True)
    ranks.wait()
    missing = [number for number in range(ranks.rank, len(parts), ranks.world) if not files[number].is_file()]
    if missing:
        plain = config.model_copy(update={"lora": None, "gradient_checkpointing": False})
        model = load_model(source, plain, whole=True).eval()
        prepare_for_training(model, plain)
        torch.nn.Module.to(model, ranks.device)
        autocast = config.bf16 and config.deepspeed is None
        module = AnswerLogProbabilities(model, loss_chunk=config.loss_chunk, autocast=autocast)
        with progress("reference log-probabilities", len(missing)) as advance, torch.no_grad():
            for number in missing:
                _write(files[number], _part(module, parts[number], config.micro_batch, ranks, share_prompt))
                advance(1)
    ranks.wait()
    return np.concatenate([np.load(file) for file in files])


def _part(
    module: AnswerLogProbabilities, pairs: Sequence[EncodedPair], micro_batch: int, ranks: Ranks, share_prompt: bool
) -> NDArray[np.float64]:
    found = [
        module(*answer_inputs(pairs[start : start + micro_batch], ranks.device, share_prompt=share_prompt))
        for start in range(0, len(pairs), micro_batch)
    ]
    return torch.cat(found).double().cpu().view(-1, 2).numpy()


def _write(file: Path, values: NDArray[np.float64]) -> None:
    # Another run may be computing the same part, and lose the file from under its name.
    unfinished = file.with_suffix(f".{os.getpid()}.unfinished")
    with unfinished.open("wb") as handle:
        np.save(handle, values)
    unfinished.replace(file)


def _fingerprint(source: str, pairs: Sequence[EncodedPair], config: TrainingConfig) -> str:
    model = source if is_hub_id(source) else fingerprint(Path(source))
    digest = hashlib.sha256(f"{model} {config.precision} {PART_PAIRS}".encode())
    for pair in pairs:
        for ids in (pair.prompt, pair.chosen, pair.rejected):
            digest.update(len(ids).to_bytes(8, "little") + ids.tobytes())
    return digest.hexdigest()[:16]
