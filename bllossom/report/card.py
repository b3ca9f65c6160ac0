"""The model card: README.md of a published model folder, from its manifests and from the scores of its run.

It is no part of the payload (as manifest.json is not): scores come after the model is published, and a card is written
anew when there are some.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from bllossom.artifacts import CARD, Manifest
from bllossom.report.lineage import Lineage, read_lineage
from bllossom.report.run_folder import RunFolder

MODEL_STAGES = frozenset({"pretrain", "sft", "dpo", "expand", "distill-rows", "merge-adapter"})


def write_cards(run: RunFolder) -> list[Path]:
    """Write the card of every model of a run, with the scores that the run has of it; gives the cards' paths."""
    written = []
    for step in run.steps:
        lineage = read_lineage(step.folder) if step.stage in MODEL_STAGES else None
        if lineage is not None:
            card = make_card(lineage, [other.manifest for other in run.of("eval")])
            card.save(step.folder / CARD)
            written.append(step.folder / CARD)
    return written


def make_card(lineage: Lineage, evaluations: Sequence[Manifest], licence: str | None = None) -> ModelCard:
    """A model's card. Of the evaluations those count that scored this model; `licence` is what its maker states."""
    manifest = lineage.made_by[0]
    mine = [each for each in evaluations if each.inputs.get("model") == manifest.fingerprint]
    scores = [score for each in mine for score in _scores(each.figures)]
    data = ModelCardData(
        language=list(lineage.languages) or None,
        license=licence,
        base_model=lineage.origin or None,
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
    text = environment.from_string(template).render(
        lineage=lineage, manifest=manifest, evaluations=mine, licence=licence
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


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
