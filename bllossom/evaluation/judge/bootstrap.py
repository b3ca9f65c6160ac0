"""How sure a figure is: drawn anew over prompts, since prompts are the sample, not verdicts."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]
CHUNK_CELLS = 2_000_000  # counts held at once: 16 MB

Statistic = Callable[[Floats], Floats]
"""`statistic(counts)`: how often each prompt is drawn, float64 [draws, prompts], to float64 [draws, …]."""


def bootstrap(prompts: int, statistic: Statistic, *, draws: int, seed: int) -> Floats:
    """The statistic over `draws` samples of as many prompts, drawn with replacement: float64 [draws, …]."""
    random = np.random.default_rng(seed)
    found = []
    chunk = max(1, CHUNK_CELLS // prompts)
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        drawn = random.integers(0, prompts, (size, prompts)) + np.arange(size)[:, None] * prompts
        counts = np.bincount(drawn.ravel(), minlength=size * prompts).reshape(size, prompts)
        found.append(statistic(counts.astype(np.float64)))
    return np.concatenate(found)


def interval_95(values: Floats) -> Interval | None:
    """The middle 95 %; None where no draw has a value (NaN stands for none)."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
