"""Two results' answers to the same documents, taken from their samples, and the paired difference of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bllossom.evaluation.compare import paired
from bllossom.evaluation.compare.paired import Difference
from bllossom.evaluation.compare.read import HELDOUT, Result

SEED = 0  # of the bootstrap
OTHER_DOCUMENTS = "the documents are others"
ONE_DOCUMENT = "of one document alone there is no interval"
OTHER_SCORE = "the samples give another score than the result"

Samples = list[dict[str, Any]]
Side = Sequence[Result]  # the seeds of one model


def of_task(one: Side, two: Side, task: str, metric: str) -> Difference | str:
    """Second minus first, of a task or of a group's documents together; or why there is no paired difference."""
    name, _, kind = metric.partition(",")
    sides = _samples(one, two, task)
    if sides is None:
        return "samples are missing"
    sides = [
        [[sample for sample in samples if sample.get("filter", "none") == (kind or "none")] for samples in side]
        for side in sides
    ]
    every = [samples for side in sides for samples in side]
    chat = all(result.chat_template for result in [*one, *two])
    if reason := _other_questions(every, chat=chat):
        return reason
    if len(every[0]) < 2:
        return ONE_DOCUMENT
    values: list[list[list[Any]]] = [[[sample.get(name) for sample in samples] for samples in side] for side in sides]
    scores = [[result.tasks[task].metrics[metric].value for result in side] for side in (one, two)]
    flat = [found for side in values for found in side]
    if all(isinstance(value, int | float) for found in flat for value in found):
        means = [np.array(side, float) for side in values]
        if not all(np.allclose(mine.mean(1), told, atol=1e-6) for mine, told in zip(means, scores, strict=True)):
            return OTHER_SCORE
        return paired.of_means(means[0], means[1], SEED)
    if not all(_is_pair(value) for found in flat for value in found):
        return f"{metric} cannot be recomputed from the samples"
    form = paired.kind_of_f1(flat, [value for side in scores for value in side])
    if form is None:
        return f"{metric} cannot be recomputed from the samples"
    pairs = [np.array(side) for side in values]
    golds = pairs[0][0, :, 0]
    if any((side[..., 0] != golds).any() for side in pairs):
        return OTHER_DOCUMENTS
    return paired.of_f1(golds, pairs[0][..., 1], pairs[1][..., 1], form, SEED)


def of_bits(one: Side, two: Side, language: str) -> Difference | str:
    """Second minus first, of bits per byte; or why there is no paired difference."""
    sides = _samples(one, two, f"{HELDOUT}{language}")
    if sides is None:
        return "samples are missing"
    texts = {result.heldout.get(language) for result in [*one, *two]} - {None}
    sizes = [[sample["bytes"] for sample in samples] for side in sides for samples in side]
    if len(texts) > 1 or any(size != sizes[0] for size in sizes):
        return OTHER_DOCUMENTS
    if len(sizes[0]) < 2:
        return ONE_DOCUMENT
    bits = [np.array([[sample["bits"] for sample in samples] for samples in side], float) for side in sides]
    told = [[result.bits_per_byte[language].value for result in side] for side in (one, two)]
    if not all(
        np.allclose(mine.sum(1) / sum(sizes[0]), values, atol=1e-6) for mine, values in zip(bits, told, strict=True)
    ):
        return OTHER_SCORE
    return paired.of_ratios(np.array(sizes[0], float), bits[0], bits[1], SEED)


def _samples(one: Side, two: Side, task: str) -> list[list[Samples]] | None:
    sides: list[list[Samples]] = []
    for side in (one, two):
        found = [result.samples(task) for result in side]
        sides.append([samples for samples in found if samples])
        if len(sides[-1]) < len(found):
            return None
    return sides


def _other_questions(every: Sequence[Samples], *, chat: bool) -> str | None:
    """Why answers cannot be paired; None where they can. In chat forms each model has its own form of a question."""

    def same(*names: str) -> bool:
        keys = [[tuple(sample.get(name) for name in ("doc_id", *names)) for sample in samples] for samples in every]
        return all(key == keys[0] for key in keys)

    if same("prompt_hash", "target_hash") or (chat and same("doc_hash")):
        return None
    return "their questions differ" if same("doc_hash") else OTHER_DOCUMENTS


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, int) and part >= 0 for part in value)
