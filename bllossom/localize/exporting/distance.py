"""How far two texts are from each other."""

import numpy as np


def edit_distance(before: str, after: str) -> int:
    """Levenshtein's distance in code points; memory and time of one row are vectors over `after`."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    before, after = before[start:], after[start:]
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    letters = np.array([ord(letter) for letter in after], np.int32)
    steps = np.arange(len(after) + 1, dtype=np.int64)
    row = steps.copy()
    for number, letter in enumerate(before, 1):
        best = np.empty_like(row)
        best[0] = number
        best[1:] = np.minimum(row[1:] + 1, row[:-1] + (letters != ord(letter)))
        # An insertion costs one more than the place to the left: the running minimum of best − steps.
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])


def chrf(before: str, after: str) -> float:
    """chrF of the machine's text against the reviewed one, 0 to 100 (sacreBLEU: 6 characters, beta 2)."""
    from sacrebleu.metrics import CHRF

    return CHRF().sentence_score(before, [after]).score
