"""Examples in packed rows: no one sees another, whatever the model family, and nothing is lost."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bllossom.instructions.formats.format import Example
from bllossom.ranks.ranks import Ranks
from bllossom.training.engines import document_attention
from bllossom.training.engines.loss import GroupLoss
from bllossom.training.engines.objective import CausalObjective
from bllossom.training.engines.rows import IGNORED, PACKABLE, collate
from bllossom.training.tuning.example_rows import OUTPUTS, ExampleRows, PackedSteps, packed_row

SHAPE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
WINDOW = {"sliding_window": 4}  # tokens: far less than an example
QWEN = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}  # the second layer slides
OWN_KEYS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(["exaone4", "ministral", "mistral", "olmo3", "phi3", "starcoder2"], WINDOW),
    **dict.fromkeys(["qwen2", "qwen3"], QWEN),
    "gemma3_text": WINDOW | {"query_pre_attn_scalar": 16},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128},
    "mixtral": WINDOW | {"num_local_experts": 2},
}


def examples(*lengths: int, seed: int = 0) -> list[Example]:
    random = np.random.default_rng(seed)
    return [
        Example(random.integers(2, 100, length), np.arange(length) >= length // 2, f"a:{number}")
        for number, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("kernel", ["sdpa", document_attention.NAME])
@pytest.mark.parametrize("family", sorted(PACKABLE))
def test_no_family_lets_an_example_see_another(family: str, kernel: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = AutoConfig.for_model(family, **(SHAPE | OWN_KEYS.get(family, {})))
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
    document_attention.register()
    model.set_attn_implementation(kernel)
    first, second, third = examples(9, 14, 11)
    [other] = examples(9, seed=1)

    def logits(*packed: Example) -> torch.Tensor:
        batch = collate([packed_row(packed)])
        starts = [*(batch.positions[0] == 0).nonzero().flatten().tolist(), batch.ids.shape[1]]
        extra = {"cu_seq_lens_q": starts} if kernel == document_attention.NAME else {}
        hidden = model.base_model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False, **extra)[0]
        return hidden @ model.get_output_embeddings().weight.T

    with torch.no_grad():
        packed, changed = logits(first, second, third)[0], logits(other, second, third)[0]
        assert (packed[9:] - changed[9:]).abs().max() <= 1e-5
        assert (packed[:9] - changed[:9]).abs().max() > 1e-3  # so that the test sees something
        alone = torch.cat([logits(example)[0] for example in (first, second, third)])
        assert (packed - alone).abs().max() <= 1e-5
        # The loss reads the head's weight alone: it has to be all there is behind the body.
        model.set_attn_implementation("sdpa")
        ids = torch.from_numpy(second.ids)[None]
        torch.testing.assert_close(model(input_ids=ids, use_cache=False).logits[0], alone[9:23], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["sdpa", document_attention.NAME])
def test_the_loss_of_packed_rows_is_that_of_single_ones(kernel: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SHAPE))
    rows = ExampleRows(examples(*range(5, 35, 3)), seed=3)
    loss = GroupLoss(model, loss_chunk=16, autocast=False)
    document_attention.register()
    objective = CausalObjective([OUTPUTS], one_row=kernel == document_attention.NAME)

    def summed(batches: list[list[Any]]) -> float:
        parts = [loss(*objective.inputs(batch, torch.device("cpu"))).detach() for batch in batches]
        return float(torch.stack(parts).double().sum())

    alone = summed([[rows.row(index)] for index in range(10)])  # with masks, or without need of one
    model.set_attn_implementation(kernel)
    for micro_batch, world in ((1, 1), (2, 1), (9, 1), (1, 2), (2, 3), (4, 8)):
        steps = PackedSteps(rows, 10, 40, micro_batch)
        batches = [steps.micro_batches(0, Ranks(rank, world, torch.device("cpu"))) for rank in range(world)]
        assert len({len(mine) for mine in batches}) == 1  # or a rank would wait for ever
        assert all(0 < len(batch) <= micro_batch for mine in batches for batch in mine)
        assert summed([batch for mine in batches for batch in mine]) == pytest.approx(alone, rel=1e-6)


def test_a_step_reads_the_examples_that_it_would_read_unpacked() -> None:
    rows = ExampleRows(examples(*range(5, 30)), seed=3)
    steps = PackedSteps(rows, 8, 40, 4)
    for step in range(8):  # over two passes
        packed = sorted(example.source for row in steps.packed(step) for example in row)
        assert packed == sorted(rows.describe(index) for index in range(8 * step, 8 * step + 8))
        assert sorted(steps.describe(step)) == packed
        assert all(sum(len(example.ids) for example in row) <= 40 for row in steps.packed(step))


def test_the_first_token_of_each_example_has_no_label() -> None:
    everything = Example(np.arange(5), np.ones(5, bool))
    row = packed_row([everything, everything])
    assert row.labels.tolist() == [IGNORED, 1, 2, 3, 4, IGNORED, 1, 2, 3, 4]
    assert row.positions.tolist() == [0, 1, 2, 3, 4] * 2
    assert row.supervised() == 8
