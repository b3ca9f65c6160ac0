"""Training only the rows that expand added, on a model that expand itself made."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import torch
import yaml
from safetensors.torch import load_file

from bllossom.artifacts import read_manifest


def test_old_rows_of_an_expanded_model_stay_bit_equal(
    recipe: Path, bllossom: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    output = tmp_path / "made"
    made = bllossom("run", recipe, f"output={output}", "--until", "tokens")
    assert made.returncode == 0, made.stderr
    (adapted,) = [step for step in yaml.safe_load(recipe.read_text())["steps"] if step["name"] == "adapted"]
    folders = {"model": str(output / "expanded"), "tokens": str(output / "tokens"), "output": str(output / "adapted")}
    config = tmp_path / "pretrain.yaml"
    config.write_text(yaml.safe_dump(adapted["set"] | folders | {"trainable": "new_rows", "steps": 20}))
    trained = bllossom("pretrain", "--config", config)
    assert trained.returncode == 0, trained.stderr

    manifest = read_manifest(output / "expanded")
    assert manifest is not None
    old_rows = manifest.figures["old_rows"]
    before, after = (load_file(output / name / "model.safetensors") for name in ("expanded", "adapted"))
    assert before.keys() == after.keys()
    for name, weight in after.items():
        kept = old_rows if name in ("model.embed_tokens.weight", "lm_head.weight") else len(weight)
        assert torch.equal(weight[:kept], before[name][:kept]), name
    assert (after["lm_head.weight"] != before["lm_head.weight"])[old_rows:].any(dim=1).all()
