"""The longest input of a model, in tokens."""

from transformers import PretrainedConfig

WITHOUT_ONE = 2048
"""Tokens, where a model names no window (BLOOM's positions and Mamba's state have no end): lm-eval's number."""


def longest_input(config: PretrainedConfig) -> int:
    """The window that a model's config names, in tokens; WITHOUT_ONE where it names none."""
    return int(getattr(config, "max_position_embeddings", None) or WITHOUT_ONE)
