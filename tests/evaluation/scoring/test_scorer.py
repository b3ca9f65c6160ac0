"""Scores of given tokens against the plain computation."""

import math
from copy import deepcopy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from bllossom.errors import BllossomError
from bllossom.evaluation.scoring.scorer import Scorer

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def plainly(model: PreTrainedModel, ids: list[int], first: int) -> tuple[float, bool]:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    nats = math.fsum(logits[position - 1, ids[position]].item() for position in range(first, len(ids)))
    greedy = all(int(logits[position - 1].argmax()) == ids[position] for position in range(first, len(ids)))
    return nats, greedy


IDS = st.lists(st.integers(0, 59), min_size=2, max_size=32)
# Few pieces, so that sequences begin alike.
ALIKE = st.lists(st.integers(0, 1), min_size=2, max_size=32)
SEQUENCES = st.lists(
    st.one_of(IDS, ALIKE).flatmap(lambda ids: st.tuples(st.just(ids), st.integers(1, len(ids) - 1))),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequences=SEQUENCES, batch_tokens=st.sampled_from([1, 40, 200]))
def test_scores_are_those_of_each_sequence_alone(
    small_model: LlamaForCausalLM, sequences: list[tuple[list[int], int]], batch_tokens: int
) -> None:
    scorer = Scorer.of(small_model, batch_tokens)
    assert scorer.shares
    # One context with two last tokens, and with two last halves.
    ids, first = sequences[0]
    other = [*ids[:first], *[(token + 1) % 60 for token in ids[first:]]]
    sequences = [*sequences, ([*ids[:-1], (ids[-1] + 1) % 60], first), (other, first)]
    done: list[float] = []
    for scored, (ids, first) in zip(scorer.score(sequences, done.append), sequences, strict=True):
        nats, greedy = plainly(small_model, ids, first)
        assert scored.nats == pytest.approx(nats, abs=1e-4)
        assert scored.greedy == greedy
    assert sum(done) == pytest.approx(1)


def test_a_greedy_continuation_is_told_from_others(small_model: LlamaForCausalLM) -> None:
    ids = [1, 2, 3]
    with torch.no_grad():
        for _ in range(4):
            ids.append(int(small_model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    other = [*ids[:-1], (ids[-1] + 1) % 60]
    scored = Scorer.of(small_model, 64).score([(ids, 3), (other, 3)])
    assert [answer.greedy for answer in scored] == [True, False]


def test_what_does_not_fit_the_window_is_an_error(small_model: LlamaForCausalLM) -> None:
    scorer = Scorer.of(small_model, 64)
    scorer.score([([5] * 33, 1)])  # 32 inputs predict 32 tokens
    with pytest.raises(ValueError, match="window of 32"):
        scorer.score([([5] * 34, 1)])
    with pytest.raises(ValueError, match=r"ids\[0:\]"):
        scorer.score([([5, 6], 0)])


def test_a_model_that_gives_no_numbers_is_refused(small_model: LlamaForCausalLM) -> None:
    broken = deepcopy(small_model)
    with torch.no_grad():
        broken.model.embed_tokens.weight[7] = torch.nan  # of one piece: a few tokens that are tried do not show it
    scorer = Scorer.of(broken, 40)
    assert math.isfinite(scorer.score([([1, 2, 3], 1)])[0].nats)
    with pytest.raises(BllossomError, match="are not numbers: its weights are broken"):
        scorer.score([([1, 2, 3], 1), ([1, 7, 3], 1)])
    with torch.no_grad():
        broken.model.norm.weight[:] = torch.nan
    with pytest.raises(BllossomError, match="are not numbers: its weights are broken"):
        Scorer.of(broken, 40)


def test_models_that_cap_their_logits_are_scored_by_their_own_logits() -> None:
    torch.manual_seed(0)
    shape = Gemma2Config(vocab_size=60, num_key_value_heads=2, head_dim=16, final_logit_softcapping=0.5, **SMALL)
    model = Gemma2ForCausalLM(shape).eval()
    ids = [5, 6, 7, 8, 9]
    with torch.no_grad():
        own = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        model.config.final_logit_softcapping = None
        uncapped = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        model.config.final_logit_softcapping = 0.5
    expected, without = (sum(float(table[at - 1, ids[at]]) for at in range(2, 5)) for table in (own, uncapped))
    assert abs(expected - without) > 1e-3
    (found,) = Scorer.of(model, 64).score([(ids, 2)])
    assert found.nats == pytest.approx(expected, abs=1e-5)


def test_where_a_mask_does_not_say_who_sees_whom_nothing_is_shared() -> None:
    torch.manual_seed(0)
    sliding = MistralConfig(
        vocab_size=60,
        num_key_value_heads=2,
        sliding_window=4,
        max_position_embeddings=32,
        initializer_range=0.3,
        **SMALL,
    )
    places = GPTNeoConfig(
        vocab_size=60,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        attention_types=[[["global", "local"], 1]],
        window_size=3,
        initializer_range=0.3,
    )
    distances = BloomConfig(vocab_size=60, hidden_size=32, n_layer=1, n_head=2, initializer_range=0.3)
    sequences = [([1, 2, 3, 4, 5, 6, 7, last], 2) for last in (8, 9)] + [([1, 2, 3, 4, 9, 9], 4)]
    for model in (MistralForCausalLM(sliding), BloomForCausalLM(distances), GPTNeoForCausalLM(places)):
        scorer = Scorer.of(model.eval(), 64)
        assert not scorer.shares
        for scored, (ids, first) in zip(scorer.score(sequences), sequences, strict=True):
            assert scored.nats == pytest.approx(plainly(model, ids, first)[0], abs=1e-4)
