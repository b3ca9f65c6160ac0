"""The loss under flash attention, its kernels replaced by the arithmetic of torch: they need a GPU."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import modeling_flash_attention_utils

from bllossom.training.engines.head import Head
from bllossom.training.engines.loss import GroupLoss, loss_inputs
from bllossom.training.engines.rows import IGNORED, Row, collate
from bllossom.training.models import LlamaShape, init_model


def one_length(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: Any) -> torch.Tensor:
    """flash_attn_func: causal attention over [rows, tokens, heads, size]."""
    turned = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return scaled_dot_product_attention(*turned, is_causal=True).transpose(1, 2)


def any_length(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, cu_seqlens_q: torch.Tensor, **_: Any
) -> torch.Tensor:
    """flash_attn_varlen_func: sequences one after the other, [tokens, heads, size]; where each begins, and the end."""
    lengths = cu_seqlens_q.diff().tolist()
    parts = zip(*(tensor.split(lengths) for tensor in (query, key, value)), strict=True)
    return torch.cat([one_length(*(tensor[None] for tensor in part))[0] for part in parts])


def test_flash_attention_keeps_documents_apart_in_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = ((one_length, any_length, None, None, None), (lambda **_: {}, None))
    monkeypatch.setattr(modeling_flash_attention_utils, "lazy_import_flash_attention", lambda *_, **__: kernels)
    model = init_model(LlamaShape(hidden_size=32, intermediate_size=64, layers=2, heads=2, window=64), 300, seed=0)
    random = np.random.default_rng(0)
    rows = []
    for lengths, language in (((12, 8), "ko"), ((5, 4, 9), "en"), ((20,), "ko")):
        ids = random.integers(0, 300, sum(lengths))
        positions = np.concatenate([np.arange(length) for length in lengths])
        rows.append(Row(ids, np.where(positions == 0, IGNORED, ids), positions, language))
    inputs = loss_inputs(collate(rows), ["en", "ko"], torch.device("cpu"))
    loss = GroupLoss(model, loss_chunk=7, autocast=False)
    expected = loss(*inputs)
    model.config._attn_implementation = "flash_attention_2"  # not set_attn_implementation, which asks for the package
    torch.testing.assert_close(loss(*inputs), expected, rtol=1e-6, atol=0)


def test_tf32_is_for_the_heads_products_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward: positions are an fp32 product too, which TF32 would round."""
    seen: dict[str, set[str]] = {"head": set(), "body": set()}
    model = init_model(LlamaShape(hidden_size=16, intermediate_size=32, layers=1, heads=2, window=64), 50, seed=0)

    def note(where: str) -> None:
        seen[where].add(torch.get_float32_matmul_precision())

    class Noted(torch.autograd.Function):
        """A product that notes the precision of its passes."""

        @staticmethod
        def forward(ctx: Any, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            note("head")
            ctx.save_for_backward(left, right)
            return left @ right

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            note("head")
            left, right = ctx.saved_tensors
            return gradient @ right.T, left.T @ gradient

    def nats(head: Head, hidden: torch.Tensor, targets: torch.Tensor, chunk: int | None) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(Noted.apply(hidden, head.weight.T), targets, reduction="sum")

    monkeypatch.setattr(Head, "nats", nats)
    layer = model.model.layers[0]
    layer.register_forward_hook(lambda *_: note("body"))
    layer.register_full_backward_hook(lambda *_: note("body"))
    before = torch.get_float32_matmul_precision()
    rows = [Row(np.arange(8), np.arange(8), np.arange(8), group) for group in ("en", "ko")]
    loss = GroupLoss(model, loss_chunk=None, autocast=False, tf32=True)
    for _ in range(2):
        loss(*loss_inputs(collate(rows), ["en", "ko"], torch.device("cpu"))).sum().backward()
    assert seen == {"head": {"high"}, "body": {before}}
    assert torch.get_float32_matmul_precision() == before != "high"
