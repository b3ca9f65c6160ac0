"""Floating-point operations of training, counted one way for the plan, the log and the benchmarks."""


def training_flops_per_token(multiplied: int, layers: int, attention_width: int, tokens: float) -> float:
    """Operations of one token's forward and backward pass in a row of `tokens` tokens (PaLM, arXiv 2204.02311, app. B).

    6 for each of the `multiplied` parameters (an input embedding is looked up, not multiplied), and 12 · layers · width
    · tokens for attention. As in PaLM the whole square of attention counts, although a causal kernel computes half.
    """
    return 6.0 * multiplied + 12.0 * layers * attention_width * tokens
