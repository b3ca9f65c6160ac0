"""Scores of given tokens against the plain computation."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaForCausalLM

from bllossom.errors import BllossomError
from bllossom.evaluation.scoring import check_head, score


def plainly(model: LlamaForCausalLM, ids: list[int], first: int) -> tuple[float, bool]:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    nats = math.fsum(logits[position - 1, ids[position]].item() for position in range(first, len(ids)))
    greedy = all(int(logits[position - 1].argmax()) == ids[position] for position in range(first, len(ids)))
    return nats, greedy


IDS = st.lists(st.integers(0, 59), min_size=2, max_size=32)
SEQUENCES = st.lists(
    IDS.flatmap(lambda ids: st.tuples(st.just(ids), st.integers(1, len(ids) - 1))), min_size=1, max_size=12
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequences=SEQUENCES, batch_size=st.integers(1, 5))
def test_scores_are_those_of_each_sequence_alone(
    small_model: LlamaForCausalLM, sequences: list[tuple[list[int], int]], batch_size: int
) -> None:
    # The same context with two last tokens: one pass of the model has to serve both.
    ids, first = sequences[0]
    sequences = [*sequences, ([*ids[:-1], (ids[-1] + 1) % 60], first)]
    for scored, (ids, first) in zip(score(small_model, sequences, batch_size, "test"), sequences, strict=True):
        nats, greedy = plainly(small_model, ids, first)
        assert scored.nats == pytest.approx(nats, abs=1e-4)
        assert scored.greedy == greedy


def test_a_greedy_continuation_is_told_from_others(small_model: LlamaForCausalLM) -> None:
    ids = [1, 2, 3]
    with torch.no_grad():
        for _ in range(4):
            ids.append(int(small_model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    other = [*ids[:-1], (ids[-1] + 1) % 60]
    assert [scored.greedy for scored in score(small_model, [(ids, 3), (other, 3)], 2, "test")] == [True, False]


def test_what_does_not_fit_the_window_is_an_error(small_model: LlamaForCausalLM) -> None:
    score(small_model, [([5] * 33, 1)], 1, "test")  # 32 inputs predict 32 tokens
    with pytest.raises(ValueError, match="window of 32"):
        score(small_model, [([5] * 34, 1)], 1, "test")
    with pytest.raises(ValueError, match=r"ids\[0:\]"):
        score(small_model, [([5, 6], 0)], 1, "test")


def test_models_that_cap_their_logits_are_refused(small_model: LlamaForCausalLM) -> None:
    check_head(small_model)
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 16,
    }
    capped = Gemma2Config(vocab_size=60, num_key_value_heads=2, final_logit_softcapping=0.5, **shape)
    with pytest.raises(BllossomError, match="use a Llama-like model"):
        check_head(Gemma2ForCausalLM(capped).eval())
