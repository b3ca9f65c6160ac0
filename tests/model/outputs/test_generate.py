"""Answers in batches are those of transformers one by one, whatever stands beside them, and end where they should."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    FalconH1Config,
    Lfm2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from bllossom.errors import BllossomError
from bllossom.model.outputs.draw import draw
from bllossom.model.outputs.generate import Decoding, Generated, Prompt, generate, stop_ids

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
MAMBA_OF_FALCON = {"num_key_value_heads": 2, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8}
MAMBA_OF_FALCON |= {"mamba_n_groups": 1, "mamba_d_state": 4}
PIECES = 257  # the bytes, and an EOS
GREEDY = Decoding(max_tokens=12)
SAMPLED = Decoding(max_tokens=12, temperature=0.8, top_p=0.9)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A piece a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({piece: index for index, piece in enumerate([*alphabet, "</s>"])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=PIECES, max_position_embeddings=64, initializer_range=0.3, **SHAPE)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """Twelve prompts of 1 to 23 tokens."""
    random = torch.Generator().manual_seed(1)
    lengths = [1, 23, 7, 7, 12, 3, 19, 2, 7, 15, 9, 4]
    return [
        Prompt(torch.randint(0, 256, (length,), generator=random).tolist(), seed=number)
        for number, length in enumerate(lengths)
    ]


def answers(model, tokenizer, prompts, decoding, batch_size) -> list[Generated]:
    made = {found.index: found for found in generate(model, tokenizer, prompts, decoding, batch_size=batch_size)}
    assert sorted(made) == list(range(len(prompts)))
    return [made[index] for index in range(len(prompts))]


def by_transformers(model, prompts: list[Prompt], tokens: int) -> list[list[int]]:
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt.ids])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
        found.append(out[0, ids.shape[1] :].tolist())
    return found


@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_greedy_answers_are_those_of_transformers_one_by_one(model, tokenizer, prompts, batch_size):
    model.generation_config.eos_token_id = None
    expected = by_transformers(model, prompts, 12)
    assert [found.ids for found in answers(model, tokenizer, prompts, GREEDY, batch_size)] == expected


def test_a_sliding_window_sees_as_much_behind_padding(tokenizer, prompts):
    torch.manual_seed(0)
    shape = SHAPE | {"num_key_value_heads": 2, "sliding_window": 6}
    model = MistralForCausalLM(
        MistralConfig(vocab_size=PIECES, max_position_embeddings=64, initializer_range=0.3, **shape)
    ).eval()
    model.generation_config.eos_token_id = None
    expected = by_transformers(model, prompts, 12)
    assert [found.ids for found in answers(model, tokenizer, prompts, GREEDY, 12)] == expected


def test_a_model_without_a_window_answers(tokenizer, prompts):
    """BLOOM's positions have no end."""
    torch.manual_seed(0)
    shape = BloomConfig(vocab_size=PIECES, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3)
    model = BloomForCausalLM(shape).eval()
    model.generation_config.eos_token_id = None
    expected = by_transformers(model, prompts, 12)
    assert [found.ids for found in answers(model, tokenizer, prompts, GREEDY, 12)] == expected


@pytest.mark.parametrize("kind", [FalconH1Config, MambaConfig])
def test_a_state_is_kept_between_tokens_or_the_model_is_refused(tokenizer, prompts, kind):
    """Falcon-H1 keeps its state in the cache that it is given; Mamba passes that one by, and would answer anything."""
    torch.manual_seed(0)
    own = {"state_size": 4} if kind is MambaConfig else SHAPE | MAMBA_OF_FALCON
    shape = kind(vocab_size=PIECES, initializer_range=0.3, **(own | {"hidden_size": 32, "num_hidden_layers": 2}))
    model = AutoModelForCausalLM.from_config(shape).eval()
    model.generation_config.eos_token_id = None
    if kind is MambaConfig:
        with pytest.raises(BllossomError, match="mamba: what this kind of model has read is not kept"):
            answers(model, tokenizer, prompts, GREEDY, 12)
    else:
        expected = by_transformers(model, prompts, 12)
        assert [found.ids for found in answers(model, tokenizer, prompts, GREEDY, 12)] == expected


@pytest.mark.parametrize("kind", [FalconH1Config, Lfm2Config])
def test_where_an_answer_ends_the_states_of_the_others_go_on(tokenizer, prompts, kind):
    torch.manual_seed(0)
    own = SHAPE | ({} if kind is Lfm2Config else MAMBA_OF_FALCON) | {"num_key_value_heads": 2}
    model = AutoModelForCausalLM.from_config(kind(vocab_size=PIECES, initializer_range=0.3, **own)).eval()
    model.generation_config.eos_token_id = None
    whole = by_transformers(model, prompts, 12)
    stop = frozenset(ids[number % 11 + 1] for number, ids in enumerate(whole[:6]))  # they end one after the other
    found = answers(model, tokenizer, prompts, replace(GREEDY, stop_ids=stop), 12)
    ends = [next((at for at, token in enumerate(ids) if token in stop), 12) for ids in whole]
    assert len(set(ends)) > 3
    assert [answer.ids for answer in found] == [ids[:end] for ids, end in zip(whole, ends, strict=True)]


def test_an_adapter_answers_as_peft_does(model, tokenizer, prompts):
    peft = pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")
    torch.manual_seed(0)
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    base = LlamaForCausalLM(model.config)
    base.load_state_dict(model.state_dict())
    base.generation_config.eos_token_id = None
    adapted = peft.get_peft_model(base, settings).eval()
    found = [answer.ids for answer in answers(adapted, tokenizer, prompts, GREEDY, 12)]
    assert found == by_transformers(adapted, prompts, 12)
    assert found != [answer.ids for answer in answers(model, tokenizer, prompts, GREEDY, 12)]


def test_a_sampled_answer_depends_on_its_prompt_and_seed_alone(model, tokenizer, prompts):
    alone = answers(model, tokenizer, prompts, SAMPLED, 1)
    assert [a.ids for a in answers(model, tokenizer, prompts, SAMPLED, 5)] == [a.ids for a in alone]
    turned = answers(model, tokenizer, prompts[::-1], SAMPLED, 12)[::-1]
    assert [a.ids for a in turned] == [a.ids for a in alone]
    reseeded = [replace(prompt, seed=prompt.seed + 100) for prompt in prompts]
    other = answers(model, tokenizer, reseeded, SAMPLED, 5)
    assert all(one.ids != two.ids for one, two in zip(alone, other, strict=True))


def test_an_answer_ends_at_a_stop_id_which_it_leaves_out(model, tokenizer, prompts):
    whole = answers(model, tokenizer, prompts, GREEDY, 12)
    stop = whole[0].ids[4]
    found = answers(model, tokenizer, prompts, replace(GREEDY, stop_ids=frozenset({stop})), 12)
    for before, after in zip(whole, found, strict=True):
        if stop in before.ids:
            assert (after.ids, after.finish) == (before.ids[: before.ids.index(stop)], "stop")
        else:
            assert (after.ids, after.finish) == (before.ids, "length")
    assert {answer.finish for answer in found} == {"stop", "length"}


def test_an_answer_ends_before_the_first_of_its_stop_strings(model, tokenizer, prompts):
    whole = answers(model, tokenizer, prompts, GREEDY, 12)
    texts = [answer.text for answer in whole]
    later, earlier = texts[1][6:9], texts[1][3:5]
    decoding = replace(GREEDY, stop_strings=(later, earlier))
    for text, after in zip(texts, answers(model, tokenizer, prompts, decoding, 5), strict=True):
        places = [place for stop in (later, earlier) if (place := text.find(stop)) >= 0]
        assert after.text == (text[: min(places)] if places else text)
        assert after.finish == ("stop" if places else "length")


def test_an_answer_ends_at_a_special_token_that_is_among_its_stop_strings(model, prompts):
    """lm-eval's gsm8k stops at `<|im_end|>`, which a base model whose EOS is another may well write."""
    backend = Tokenizer(models.BPE({chr(0x100 + number): number for number in range(PIECES)}, []))
    backend.add_special_tokens([chr(0x100 + 9)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    model.generation_config.eos_token_id = None
    whole = answers(model, tokenizer, prompts, GREEDY, 12)
    common = Counter(token for answer in whole for token in answer.ids).most_common(1)[0][0]
    backend.add_special_tokens([chr(0x100 + common)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    decoding = replace(GREEDY, stop_strings=(chr(0x100 + common),))
    for before, after in zip(whole, answers(model, tokenizer, prompts, decoding, 12), strict=True):
        end = before.ids.index(common) if common in before.ids else 12
        assert (after.ids, after.finish) == (before.ids[:end], "stop" if end < 12 else "length")


def test_an_answer_ends_where_the_window_is_full(model, tokenizer):
    (answer,) = answers(model, tokenizer, [Prompt([5] * 60)], GREEDY, 1)
    assert (len(answer.ids), answer.finish) == (4, "length")


@pytest.mark.parametrize("length", [0, 64])
def test_a_prompt_without_room_is_refused_before_any_answer(model, tokenizer, length):
    with pytest.raises(BllossomError, match=f"prompt 1 has {length} tokens; the model's window of 64"):
        next(generate(model, tokenizer, [Prompt([1]), Prompt([1] * length)], GREEDY, batch_size=2))


def test_tokens_are_told_as_they_come(model, tokenizer, prompts):
    told: dict[int, list[int]] = {}
    made = generate(
        model, tokenizer, prompts, GREEDY, batch_size=5, on_token=lambda i, t: told.setdefault(i, []).append(t)
    )
    assert {answer.index: answer.ids for answer in made} == told


def test_gradients_are_left_as_they_were_between_answers(model, tokenizer, prompts):
    for _ in generate(model, tokenizer, prompts, GREEDY, batch_size=5):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_stop_ids_are_the_tokenizers_and_the_generation_configs(model, tokenizer):
    model.generation_config.eos_token_id = [3, 4]
    assert stop_ids(model, tokenizer) == {3, 4, 256}
    model.generation_config.eos_token_id = None
    assert stop_ids(model, tokenizer) == {256}


def test_draws_follow_the_tempered_distribution_within_top_p():
    logits = torch.log(torch.tensor([[0.1, 0.4, 0.05, 0.3, 0.15]]))
    rows = 40_000
    noise = torch.empty(rows, 5).exponential_(generator=torch.Generator().manual_seed(0))

    def shares(temperature: float, top_p: float) -> torch.Tensor:
        chosen = draw(logits.expand(rows, 5), noise, temperature, top_p)
        return torch.bincount(chosen, minlength=5) / rows

    # 4.5 standard errors of a share near 0.4
    assert torch.allclose(shares(1.0, 1.0), torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15]), atol=0.011)
    kept = torch.tensor([0.0, 0.4, 0.0, 0.3, 0.15])
    assert torch.allclose(shares(1.0, 0.8), kept / kept.sum(), atol=0.011)
    squared = logits.exp()[0] ** 2
    assert torch.allclose(shares(0.5, 1.0), squared / squared.sum(), atol=0.011)
    assert shares(1.0, 1e-9)[1] == 1
