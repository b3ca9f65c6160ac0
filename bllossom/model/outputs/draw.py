"""Which token comes next, where that is drawn."""

import torch

TOP_PIECES = 1024  # looked through for top_p before all are sorted


def draw(logits: torch.Tensor, noise: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Choose a token a row: int64 [rows], from logits [rows, pieces] and exponential noise float32 of the same shape.

    The piece with the largest p / noise is a draw from p (an exponential race). Rounding changes the winner only where
    two are all but equal; a draw through the sums of p would shift wherever a piece enters or leaves the top_p.
    """
    probabilities = torch.softmax(logits.float() / temperature, -1)
    if top_p < 1:
        probabilities = probabilities.masked_fill(probabilities < _smallest_kept(probabilities, top_p), 0.0)
    return (probabilities / noise.clamp(min=torch.finfo(noise.dtype).tiny)).argmax(-1)


def _smallest_kept(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Of each row, the probability of the last piece that is needed to reach top_p, at least one: float32 [rows, 1]."""
    pieces = probabilities.shape[-1]
    ranked = probabilities.topk(min(TOP_PIECES, pieces)).values
    if bool((ranked.sum(-1) < top_p).any()):
        ranked = probabilities.sort(descending=True).values
    needed = (ranked.cumsum(-1) - ranked < top_p).sum(-1, keepdim=True).clamp(min=1)
    return ranked.gather(-1, needed - 1)
