"""The model card: README.md of a published model folder, from its manifests and from the scores of its run.

It is no part of the payload (as manifest.json is not): scores come after the model is published, and a card is written
anew when there are some. It ends in a hash of itself: one that somebody changed, or wrote, is theirs, and stays.
"""

import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from bllossom.artifacts import CARD, Manifest
from bllossom.console import say
from bllossom.evaluation.metrics import DEVIATIONS_OF_95_PERCENT, is_share, score_text
from bllossom.hub import is_hub_id, name_and_revision
from bllossom.report.lineage import Lineage, read_lineage
from bllossom.report.run_folder import RunFolder

SEAL = re.compile(r"<!-- written by bllossom; [^>]* -->\s*\Z")
MODEL_STAGES = frozenset({"pretrain", "sft", "dpo", "expand", "distill-rows", "merge-adapter"})


def write_cards(run: RunFolder) -> list[Path]:
    """Write the card of every model of a run, with the scores that the run has of it; gives the cards' paths. A card
    that a person wrote is left alone."""
    written = []
    for step in run.steps:
        lineage = read_lineage(step.folder) if step.stage in MODEL_STAGES else None
        if lineage is not None and is_somebodys(step.folder / CARD):
            say(f"{step.folder / CARD} was not written by report, or changed since: it stays; remove it for a new one")
        elif lineage is not None:
            card = make_card(lineage, [other.manifest for other in run.of("eval")])
            card.save(step.folder / CARD)
            written.append(step.folder / CARD)
    return written


def is_somebodys(card: Path) -> bool:
    """Whether there is a card that is not as it was written here."""
    if not card.is_file():
        return False
    found = SEAL.search(text := card.read_text(encoding="utf8", errors="replace"))
    return found is None or found[0].strip() != _seal(text[: found.start()])


def _seal(text: str) -> str:
    return f"<!-- written by bllossom; sha256 of what stands above: {hashlib.sha256(text.encode()).hexdigest()} -->"


def make_card(lineage: Lineage, evaluations: Sequence[Manifest], licence: str | None = None) -> ModelCard:
    """A model's card. Of the evaluations those count that scored this model; `licence` is what its maker states."""
    manifest = lineage.made_by[0]
    mine = [each for each in evaluations if each.inputs.get("model") == manifest.fingerprint]
    scores = [score for each in mine for score in _scores(each.figures)]
    # The hub wants a name of its own there; a folder of this disk is none.
    base = name_and_revision(lineage.origin)[0] if is_hub_id(lineage.origin) else None
    data = ModelCardData(
        language=list(lineage.languages) or None,
        license=licence,
        base_model=base,
        datasets=None,  # names on the hub alone may stand there; what training read is in the card's table
        library_name="peft" if (lineage.folder / "adapter_config.json").is_file() else "transformers",
        pipeline_tag="text-generation",
        tags=["bllossom"],
        model_name=lineage.folder.name,
        eval_results=scores or None,
    )
    import jinja2

    template = (files("bllossom.report") / "assets/card.md").read_text(encoding="utf8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = lambda text: " ".join(str(text).replace("|", "\\|").split())
    environment.filters["half_width"] = lambda stderr: DEVIATIONS_OF_95_PERCENT * stderr
    environment.filters |= {"score": score_text, "unit": lambda metric: " %" if is_share(metric) else ""}
    text = environment.from_string(template).render(
        lineage=lineage, manifest=manifest, evaluations=mine, licence=licence
    )
    whole = f"---\n{data.to_yaml()}\n---\n\n{text.rstrip()}\n\n"
    return ModelCard(f"{whole}{_seal(whole)}\n")


def _scores(figures: dict[str, Any]) -> list[EvalResult]:
    found = [
        EvalResult(
            task_type="text-generation",
            dataset_type=f"held-out text, {language}",
            dataset_name=f"held-out text, {language}",
            metric_type="bits_per_byte",
            metric_value=bits,
        )
        for language, bits in (figures.get("bits_per_byte") or {}).items()
    ]
    for task, cell in (figures.get("tasks") or {}).items():
        if isinstance(cell, dict) and isinstance(cell.get(metric := cell.get("score")), dict):
            result = EvalResult(
                task_type="text-generation",
                dataset_type=task,
                dataset_name=task,
                metric_type=str(metric),
                metric_value=cell[metric]["value"],
            )
            found.append(result)
    return found
