"""The loss is that of the model's own logits, whatever its family does to them behind the head's product."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from bllossom.instructions.preferences import EncodedPair
from bllossom.model.outputs.logits import CAPPED, DIVIDED, MULTIPLIED, logit_rule
from bllossom.training.engines.loss import GroupLoss, loss_inputs
from bllossom.training.engines.preference_loss import AnswerLogProbabilities, answer_inputs
from bllossom.training.engines.rows import PACKABLE, Row, collate

PIECES = 90
SHAPE: dict[str, Any] = {
    "vocab_size": PIECES,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "head_dim": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
MAMBA = {"mamba_d_ssm": 32, "mamba_n_heads": 2, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
OWN_KEYS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "rotary_dim": 8},
    "falcon_h1": MAMBA | {"mamba_chunk_size": 8},
    "granitemoehybrid": EXPERTS
    | {
        "mamba_n_heads": 2,
        "mamba_d_head": 32,
        "layer_types": ["attention", "attention"],
        "shared_intermediate_size": 32,
    },
    "granitemoeshared": EXPERTS | {"shared_intermediate_size": 32},
    **dict.fromkeys(("mixtral", "granitemoe"), EXPERTS),
    "recurrent_gemma": {"lru_width": 32, "block_types": ["recurrent", "attention"], "attention_window_size": 64},
}
FIELDS = {
    **{kind: {field: 1.7} for table in (MULTIPLIED, DIVIDED) for kind, field in table.items()},
    **{kind: {field: 0.9} for kind, field in CAPPED.items()},  # so low that it cuts what these logits are
}
BIASED = ("gptj", "phi")
FAMILIES = sorted(PACKABLE | FIELDS.keys() | set(BIASED))


def build(family: str) -> PreTrainedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keys = SHAPE | OWN_KEYS.get(family, {}) | FIELDS.get(family, {})
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **keys)).eval()
    bias = getattr(model.get_output_embeddings(), "bias", None)
    assert (bias is not None) == (family in BIASED)
    if bias is not None:
        torch.nn.init.normal_(bias)  # random weights have none, and trained ones do
    return model


@pytest.mark.parametrize("chunk", [None, 7])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_are_those_of_the_models_own_logits(family: str, chunk: int | None) -> None:
    model = build(family)
    ids = np.random.default_rng(0).integers(2, PIECES, 24)
    inputs = loss_inputs(collate([Row(ids, ids, np.arange(24), "ko")]), ["ko"], torch.device("cpu"))
    [found] = GroupLoss(model, loss_chunk=chunk, autocast=False)(*inputs)
    found.backward()
    head = model.get_output_embeddings()
    gradients = [weight.grad.clone() for weight in head.parameters()]
    model.zero_grad()
    tokens = torch.from_numpy(ids)
    logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1]
    expected = cross_entropy(logits, tokens[1:], reduction="sum")
    expected.backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradients, [weight.grad for weight in head.parameters()], rtol=1e-4, atol=1e-4)
    if family in FIELDS:  # so that the test sees something
        without = (torch.atanh(logits / 0.9) * 0.9 if family in CAPPED else logits / 1.7).detach()
        assert abs(float(cross_entropy(without, tokens[1:], reduction="sum") - expected.detach())) > 0.05
        assert logit_rule(model.config) != logit_rule(build("llama").config)


@pytest.mark.parametrize("family", ["cohere", "gemma2", "granite", "llama", "phi"])
def test_answers_have_the_models_own_log_probabilities(family: str) -> None:
    model = build(family)
    random = np.random.default_rng(0)
    prompt, chosen, rejected = (random.integers(2, PIECES, length) for length in (9, 5, 7))
    pair = EncodedPair(prompt, chosen, rejected, "a:1")
    with torch.no_grad():
        found = AnswerLogProbabilities(model, loss_chunk=7, autocast=False)(
            *answer_inputs([pair], torch.device("cpu"), share_prompt=False)
        )
        for answer, value in zip((chosen, rejected), found, strict=True):
            tokens = torch.from_numpy(np.concatenate([prompt, answer]))
            logits = model(input_ids=tokens[None], use_cache=False).logits[0, len(prompt) - 1 : -1]
            expected = -cross_entropy(logits, tokens[len(prompt) :], reduction="sum")
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-4)
