import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from bllossom.instructions.formats.format import Example
from bllossom.training.engines.rows import IGNORED, Row, collate
from bllossom.training.tuning.example_rows import ExampleRows

LENGTHS = st.lists(st.integers(2, 30), min_size=1, max_size=6)


def random_row(random: np.random.Generator, length: int) -> Row:
    # Ids from 0 on: a real token may be 0, the id that fills the padding.
    ids = random.integers(0, 4, length)
    labels = np.where(random.random(length) < 0.5, ids, IGNORED)
    return Row(ids, labels, np.arange(length), str(random.choice(["ko", "en"])))


@given(lengths=LENGTHS, seed=st.integers(0, 1000))
def test_a_micro_batch_holds_every_token_once_and_pads_without_labels(lengths: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [random_row(random, length) for length in lengths]
    batch = collate(rows)
    assert batch.groups == tuple(row.group for row in rows)
    for index, row in enumerate(rows):
        length = len(row.ids)
        assert batch.ids[index, :length].tolist() == row.ids.tolist()
        assert batch.labels[index, :length].tolist() == row.labels.tolist()
        assert (batch.labels[index, length:] == IGNORED).all()
        assert batch.positions[index].tolist() == list(range(max(lengths)))
    assert sum(row.supervised() for row in rows) == int((batch.labels[:, 1:] != IGNORED).sum())


def test_padding_does_not_move_the_logits_of_a_causal_model() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    model = LlamaForCausalLM(config).eval()
    random = np.random.default_rng(0)
    rows = [Row(ids, ids, np.arange(len(ids)), "ko") for ids in (random.integers(0, 50, n) for n in (5, 33, 12))]
    batch = collate(rows)
    with torch.no_grad():
        together = model(input_ids=batch.ids, position_ids=batch.positions).logits
        for index, row in enumerate(rows):
            alone = model(input_ids=torch.from_numpy(row.ids)[None]).logits[0]
            torch.testing.assert_close(together[index, : len(row.ids)], alone, atol=1e-5, rtol=1e-4)


@settings(deadline=None)
@given(count=st.integers(1, 40), seed=st.integers(0, 9), epochs=st.integers(1, 3))
def test_every_example_is_read_once_an_epoch_and_only_its_outputs_carry_loss(
    count: int, seed: int, epochs: int
) -> None:
    items = [Example(np.array([number, number + 1]), np.array([False, True])) for number in range(count)]
    rows = ExampleRows(items, seed)
    for epoch in range(epochs):
        read = [rows.row(epoch * count + place) for place in range(count)]
        assert sorted(int(row.ids[0]) for row in read) == list(range(count))
        assert all(row.labels.tolist() == [IGNORED, row.ids[1]] for row in read)
    middle = count // 2
    assert rows.row(middle).ids.tolist() == ExampleRows(items, seed).row(middle).ids.tolist()
