"""Attention within each document of one long row: what a mask would throw away is not computed.

A mask that keeps documents apart makes the kernel look at every pair of tokens of the row. Here torch's causal kernel
runs on each document by itself, so that attention costs what it costs unpacked, and rows need no padding.
"""

from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "documents"


def register() -> None:
    """Make `set_attn_implementation("documents")` known to transformers."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: list[int],
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls it: query [1, heads, tokens, width], key and value [1, fewer heads, tokens, width]; gives
    [1, tokens, heads, width]. `cu_seq_lens_q` is where documents begin, and the end of the last one."""
    lengths = [end - start for start, end in pairwise(cu_seq_lens_q)]
    parts = []
    # Split, not sliced: a slice's gradient is as long as the row, zeros elsewhere, and they are all added up. And by
    # tokens, as they lie in memory, so that splitting and putting together copy whole stretches.
    queries, keys, values = (state.transpose(1, 2).split(lengths, 1) for state in (query, key, value))
    for length, own_query, own_key, own_value in zip(lengths, queries, keys, values, strict=True):
        mask = None
        if sliding_window is not None and length > sliding_window:
            mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - sliding_window)
        parts.append(
            scaled_dot_product_attention(
                own_query.transpose(1, 2),
                own_key.transpose(1, 2),
                own_value.transpose(1, 2),
                attn_mask=mask,
                is_causal=mask is None,
                scale=scaling,
                dropout_p=dropout if module.training else 0.0,
                enable_gqa=query.shape[1] != key.shape[1],
            ).transpose(1, 2)
        )
    return torch.cat(parts, 1), None
