"""configs/table6 on tiny models of the comparators' architectures: one recipe, commits recorded, then compare."""

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from typer.testing import CliRunner

from bllossom.artifacts import read_manifest
from bllossom.cli import make_app
from tests.evaluation.conftest import MADE_UP
from tests.fixtures.tiny_chat import tiny_tokenizer, write_tiny_model

ROOT = Path(__file__).parents[2]
COMMITS = {"neox": "ab" * 20, "llama": "cd" * 20}


def tiny_neox(folder: Path) -> None:
    """A random GPT-NeoX, as polyglot-ko and the models made from it are."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), max_position_embeddings=512, bos_token_id=1, eos_token_id=2, **shape
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_llama(folder: Path) -> None:
    write_tiny_model(folder)


MODELS: dict[str, Callable[[Path], None]] = {"neox": tiny_neox, "llama": tiny_llama}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both in the hub's cache, main at a commit."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, write in MODELS.items():
        repository = tmp_path / f"hub/models--owner--{name}"
        write(repository / "snapshots" / COMMITS[name])
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(COMMITS[name])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A few rows of each of the eight tasks."""
    for name, rows in MADE_UP.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf8")
    return tmp_path / "data"


@pytest.mark.usefixtures("hub")
def test_one_recipe_scores_both_architectures_records_commits_and_ends_beside_the_published_rows(
    data: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    models = "matrix.model=[owner/neox@main, owner/llama@main]"
    steps = [f"eval-model-owner-{name}-main" for name in MODELS]
    of_data = [f"{step}.data={data}" for step in steps]
    recipe = str(ROOT / "configs/table6/recipe.yaml")
    ran = CliRunner().invoke(make_app(), ["run", recipe, f"output={runs}", models, *of_data])
    assert ran.exit_code == 0, ran.output
    for name, step in zip(MODELS, steps, strict=True):
        manifest = read_manifest(runs / step)
        assert manifest is not None
        assert manifest.inputs["model"] == f"owner/{name}@{COMMITS[name]}"
        assert manifest.config["encoding"] == "paper"
        assert len(manifest.figures["tasks"]) == 8
    folders = [str(runs / step) for step in steps]
    alone = CliRunner().invoke(make_app(), ["compare", *folders])
    assert alone.exit_code == 0, alone.output
    assert "published rows are left out" in alone.output  # seven rows of a task are not all of them
    beside = CliRunner().invoke(make_app(), ["compare", *folders, "--anyway", "--output", str(tmp_path / "compared")])
    assert beside.exit_code == 0, beside.output
    compared = json.loads((tmp_path / "compared/comparison.json").read_text(encoding="utf8"))
    assert {*steps, "polyglot-ko-12.8b (published)", "Bllossom-bi (published)"} <= compared["results"].keys()
