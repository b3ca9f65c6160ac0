"""Losses on pairs: TRL's own numbers, the papers' formulas, and nothing that depends on how pairs are laid out."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from bllossom.instructions.preferences import EncodedPair
from bllossom.training.engines.preference_loss import (
    FIGURES,
    AnswerLogProbabilities,
    PairRow,
    PreferenceObjective,
    PreferenceSettings,
    answer_inputs,
    preference_losses,
)
from bllossom.training.models import LlamaShape, init_model
from bllossom.training.settings import LearningRate, TrainingConfig
from tests.fixtures.tiny_chat import tiny_tokenizer

SHAPE = LlamaShape(hidden_size=32, intermediate_size=64, layers=2, heads=2, window=128)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pairs() -> list[EncodedPair]:
    random = np.random.default_rng(0)
    lengths = [(5, 4, 7), (9, 1, 2), (3, 12, 6), (1, 5, 5)]
    return [EncodedPair(*(random.integers(5, 290, n) for n in each), f"a:{i}") for i, each in enumerate(lengths)]


def model(seed: int) -> PreTrainedModel:
    return init_model(SHAPE, 300, seed).eval()


def log_probabilities(of: PreTrainedModel, pairs: list[EncodedPair], *, share_prompt: bool) -> torch.Tensor:
    module = AnswerLogProbabilities(of, loss_chunk=8, autocast=False)
    return module(*answer_inputs(pairs, CPU, share_prompt=share_prompt))


def ours(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    pairs: list[EncodedPair],
    settings: PreferenceSettings,
    micro_batch: int = 4,
    *,
    share_prompt: bool = True,
) -> tuple[float, dict[str, torch.Tensor], dict[str, float]]:
    """Loss, gradient and figures, as the loop adds them up over micro-batches."""
    with torch.no_grad():
        known = log_probabilities(reference, pairs, share_prompt=False).view(-1, 2).tolist()
    rows = [PairRow(pair, *logs) for pair, logs in zip(pairs, known, strict=True)]
    objective = PreferenceObjective(settings, share_prompt=share_prompt)
    config = TrainingConfig(output=Path("x"), learning_rate=LearningRate(peak=1), loss_chunk=8)
    module = objective.module(policy, config, autocast=False)
    counts, sums = objective.counts(rows), torch.zeros(2 + len(FIGURES))
    policy.zero_grad()
    for start in range(0, len(rows), micro_batch):
        part = module(*objective.inputs(rows[start : start + micro_batch], CPU))
        objective.loss(part, counts).backward()
        sums += part.detach()
    gradient = {name: weight.grad.clone() for name, weight in policy.named_parameters() if weight.grad is not None}
    return float(objective.loss(sums, counts)), gradient, objective.figures(sums.tolist(), counts)


def relative(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """How far two gradients are apart, as a share: L2 over all weights."""
    whole = torch.stack([part.norm() for part in other.values()]).norm()
    return float(torch.stack([(one[name] - part).norm() for name, part in other.items()]).norm() / whole)


@pytest.mark.parametrize(
    ("loss_type", "weights", "settings"),
    [
        (["sigmoid"], None, PreferenceSettings(0.1, "sigmoid")),
        (["sigmoid_norm"], None, PreferenceSettings(2.0, "sigmoid", normalise_by_length=True)),
        (["ipo"], None, PreferenceSettings(0.1, "ipo")),
        (["sigmoid", "sft"], [1.0, 0.5], PreferenceSettings(0.3, "sigmoid", sft_weight=0.5)),
    ],
    ids=["sigmoid", "sigmoid_norm", "ipo", "sigmoid+sft"],
)
def test_loss_and_gradient_are_those_of_trl(
    loss_type: list[str],
    weights: list[float] | None,
    settings: PreferenceSettings,
    pairs: list[EncodedPair],
    tmp_path: Path,
) -> None:
    trl = pytest.importorskip("trl", reason="TRL is not installed (pip install 'bllossom[dev]')")
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    policy, reference = model(1), model(2)
    loss, gradient, figures = ours(policy, reference, pairs, settings)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = "<unk>"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = trl.DPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            beta=settings.beta,
            loss_type=loss_type,
            loss_weights=weights,
            report_to=[],
            gradient_checkpointing=False,
        )
        trainer = trl.DPOTrainer(
            policy,
            reference,
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
            processing_class=tokenizer,
        )
        batch: Any = DataCollatorForPreference(pad_token_id=0)(
            [
                {"prompt_ids": p.prompt.tolist(), "chosen_ids": p.chosen.tolist(), "rejected_ids": p.rejected.tolist()}
                for p in pairs
            ]
        )
        trainer.model.eval()
        trainer.model.zero_grad()
        theirs = trainer.compute_loss(trainer.model, batch)
        theirs.backward()
    assert loss == pytest.approx(float(theirs.detach()), rel=1e-5)
    found = {name.removeprefix("module."): w.grad for name, w in trainer.model.named_parameters() if w.grad is not None}
    assert found.keys() == gradient.keys()
    assert relative(gradient, found) < 1e-5
    metrics = trainer._metrics["eval"]
    for ours_name, theirs_name in [
        ("rewards/chosen", "rewards/chosen"),
        ("rewards/rejected", "rewards/rejected"),
        ("rewards/margin", "rewards/margins"),
        ("accuracy", "rewards/accuracies"),
        ("logps/chosen", "logps/chosen"),
        ("logps/rejected", "logps/rejected"),
    ]:
        assert figures[ours_name] == pytest.approx(metrics[theirs_name][-1], rel=1e-4), ours_name


def test_neither_a_shared_prompt_nor_micro_batches_move_anything(pairs: list[EncodedPair]) -> None:
    policy, reference = model(1), model(2)
    settings = PreferenceSettings(0.3, "sigmoid", sft_weight=0.5)
    loss, gradient, figures = ours(policy, reference, pairs, settings)
    for micro_batch, share in ((1, True), (3, True), (4, False), (2, False)):
        other = ours(policy, reference, pairs, settings, micro_batch, share_prompt=share)
        assert other[0] == pytest.approx(loss, rel=1e-6)
        assert relative(other[1], gradient) < 5e-6
        assert other[2] == pytest.approx(figures, rel=1e-4)


def test_an_answer_is_scored_as_if_it_stood_alone(pairs: list[EncodedPair]) -> None:
    policy = model(1)
    with torch.no_grad():
        found = log_probabilities(policy, pairs, share_prompt=True)
        for number, pair in enumerate(pairs):
            for side, answer in enumerate((pair.chosen, pair.rejected)):
                ids = torch.from_numpy(np.concatenate([pair.prompt, answer]))[None]
                logs = policy(input_ids=ids).logits[0].log_softmax(-1)
                places = torch.arange(len(pair.prompt) - 1, ids.shape[1] - 1)
                expected = logs[places, torch.from_numpy(answer)].sum()
                assert float(found[2 * number + side]) == pytest.approx(float(expected), rel=1e-5)


def test_smoothing_is_the_formula_of_cdpo() -> None:
    delta = torch.tensor([-3.0, 0.0, 0.5, 4.0], dtype=torch.float64)
    losses = preference_losses(delta, PreferenceSettings(0.7, "sigmoid", label_smoothing=0.2))
    for value, loss in zip(delta.tolist(), losses.tolist(), strict=True):
        sigma = 1 / (1 + math.exp(-0.7 * value))
        assert loss == pytest.approx(-0.8 * math.log(sigma) - 0.2 * math.log(1 - sigma))
    assert preference_losses(delta, PreferenceSettings(0.5, "ipo")).tolist() == pytest.approx([16, 1, 0.25, 9])


def test_a_tie_is_half_right(pairs: list[EncodedPair]) -> None:
    policy = model(1)
    loss, _, figures = ours(policy, policy, pairs, PreferenceSettings(0.1, "sigmoid"), share_prompt=False)
    assert loss == pytest.approx(math.log(2), rel=1e-6)
    assert figures["accuracy"] == 0.5
