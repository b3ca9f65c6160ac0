"""The merged model is the trained one, and what does not fit is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel
from typer.testing import CliRunner

from bllossom.artifacts import MANIFEST, fingerprint, read_manifest, verify
from bllossom.cli import make_app
from bllossom.errors import BllossomError
from bllossom.model.checkpoint import ADAPTER_CONFIG
from bllossom.model.merge_adapter import MergeAdapterConfig, merge_adapter
from bllossom.model.merged_weights import ADAPTER_WEIGHTS
from bllossom.training.engines.engine import Engine
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.runs import train_segment
from tests.fixtures.command_runs import assert_only_new_rows_moved

pytestmark = pytest.mark.usefixtures("one_thread")
peft = pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")

Settings = Callable[..., dict[str, Any]]
IDS = torch.arange(10, 290).view(7, 40)


@pytest.fixture(scope="module")
def trained(settings: Settings, expanded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A published adapter, and the logits of the model in memory that it was taken from."""
    output = tmp_path_factory.mktemp("trained") / "adapter"
    in_memory: list[PreTrainedModel] = []
    make_engine = train_segment.make_engine

    def keep(model: PreTrainedModel, *rest: Any) -> Engine:
        in_memory.append(model)
        return make_engine(model, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_segment, "make_engine", keep)
        lora = {"rank": 4, "alpha": 8}
        pretrain(PretrainConfig(**settings(output, model=str(expanded), lora=lora, trainable="embeddings")))
    return output, logits(in_memory[0])


def logits(model: PreTrainedModel) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS).logits


def copy(adapter: Path, folder: Path, **changes: Any) -> Path:
    """The adapter as somebody else's, without a manifest, and with other settings."""
    shutil.copytree(adapter, folder, ignore=shutil.ignore_patterns(MANIFEST))
    path = folder / ADAPTER_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_merged_is_what_was_trained_and_what_peft_loads(
    trained: tuple[Path, torch.Tensor], expanded: Path, tmp_path: Path
) -> None:
    adapter, expected = trained
    manifest = merge_adapter(MergeAdapterConfig(adapter=adapter, output=tmp_path / "merged"))
    assert verify(tmp_path / "merged") == []
    assert manifest.figures["merged_matrices"] == 14
    base = AutoModelForCausalLM.from_pretrained(expanded)
    before = logits(base)
    through_peft = logits(peft.PeftModel.from_pretrained(base, adapter))
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    assert (before - expected).abs().max() > 0.1
    # peft adds B (A x) to W x, the merged weight is added up first: fp32 rounds at other places.
    torch.testing.assert_close(through_peft, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)


def test_shards_of_a_bf16_base_keep_their_type(
    trained: tuple[Path, torch.Tensor], expanded: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(expanded, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "base", max_shard_size="40KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    adapter = copy(trained[0], tmp_path / "adapter")
    merge_adapter(MergeAdapterConfig(adapter=adapter, model=str(tmp_path / "base"), output=tmp_path / "merged"))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.dtype == torch.bfloat16
    lora, name = load_file(adapter / ADAPTER_WEIGHTS), "model.layers.1.mlp.up_proj"
    prefix = f"base_model.model.{name}"
    product = lora[f"{prefix}.lora_B.weight"] @ lora[f"{prefix}.lora_A.weight"]
    exact = model.get_submodule(name).weight.float() + 2.0 * product
    torch.testing.assert_close(merged.get_submodule(name).weight.float(), exact, rtol=2**-8, atol=1e-7)
    assert torch.equal(merged.lm_head.weight, lora["base_model.model.lm_head.weight"].bfloat16())


def test_another_base_is_refused_with_both_fingerprints(
    trained: tuple[Path, torch.Tensor], settings: Settings, expanded: Path, tmp_path: Path
) -> None:
    pretrain(PretrainConfig(**settings(tmp_path / "other", steps=2)))
    config = MergeAdapterConfig(adapter=trained[0], model=str(tmp_path / "other"), output=tmp_path / "merged")
    with pytest.raises(BllossomError) as refused:
        merge_adapter(config)
    for base in (expanded, tmp_path / "other"):
        assert fingerprint(base)[:16] in str(refused.value)
    assert not (tmp_path / "merged").exists()


def test_what_cannot_be_merged_is_refused(trained: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    def merge(adapter: Path) -> None:
        merge_adapter(MergeAdapterConfig(adapter=adapter, output=tmp_path / "merged"))

    with pytest.raises(BllossomError, match=r"not plain LoRA .*use_dora: True.*merge_and_unload"):
        merge(copy(trained[0], tmp_path / "dora", use_dora=True))
    with pytest.raises(BllossomError, match="does not name its base; add model="):
        merge(copy(trained[0], tmp_path / "nameless", base_model_name_or_path=None))
    with pytest.raises(BllossomError, match=r"adapter_config.json cannot be read .*; name a folder that pretrain"):
        merge(tmp_path)
    weights = load_file(trained[0] / ADAPTER_WEIGHTS)
    down = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
    for name, changed, told in (
        ("half", {key: value for key, value in weights.items() if key != down}, "does not fit"),
        ("wide", weights | {down: torch.ones(4, 33)}, r"lora_A.weight \[4, 33\] does not fit"),
        (
            "more",
            weights | {down.replace("layers.0", "layers.7"): torch.ones(4, 32)},
            r"would change .*layers.7.*, which .* does not have; name the base",
        ),
    ):
        adapter = copy(trained[0], tmp_path / name)
        save_file(changed, adapter / ADAPTER_WEIGHTS)
        with pytest.raises(BllossomError, match=told):
            merge(adapter)


@pytest.mark.parametrize("wrong", [{"r": 0}, {"r": "8"}, {"lora_alpha": None}, {"modules_to_save": "lm_head"}])
def test_settings_that_peft_does_not_write_are_refused(
    wrong: dict[str, Any], trained: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    adapter = copy(trained[0], tmp_path / "adapter", **wrong)
    with pytest.raises(BllossomError, match=r"is not as peft writes it .*save the adapter again"):
        merge_adapter(MergeAdapterConfig(adapter=adapter, output=tmp_path / "merged"))
    (adapter / "adapter_config.json").write_text("[]")
    with pytest.raises(BllossomError, match=r"adapter_config.json cannot be read"):
        merge_adapter(MergeAdapterConfig(adapter=adapter, output=tmp_path / "merged"))


def test_base_or_adapter_is_never_replaced_by_what_is_made_of_it(
    trained: tuple[Path, torch.Tensor], expanded: Path, tmp_path: Path
) -> None:
    for output, which in ((expanded, "model"), (trained[0], "adapter")):
        before = fingerprint(output)
        config = MergeAdapterConfig(adapter=trained[0], model=str(expanded), output=tmp_path / ".." / output)
        with pytest.raises(BllossomError, match=f"is the {which} itself, which it would replace; name another"):
            merge_adapter(config, force=True)
        assert fingerprint(output) == before


def test_adapter_whose_tokenizer_is_a_template_alone_takes_the_rest_from_its_base(
    trained: tuple[Path, torch.Tensor], expanded: Path, tmp_path: Path
) -> None:
    adapter, base = copy(trained[0], tmp_path / "adapter"), tmp_path / "base"
    shutil.copytree(expanded, base, ignore=shutil.ignore_patterns(MANIFEST))
    (adapter / "chat_template.jinja").write_text("the adapter's")
    (base / "tokenizer.json").write_text("{}")
    (base / "tokenizer_config.json").write_text('{"chat_template": "the base\'s"}')
    (base / "modeling_own.py").write_text("class Own: ...")
    merge_adapter(MergeAdapterConfig(adapter=adapter, model=str(base), output=tmp_path / "merged"))
    assert (tmp_path / "merged/tokenizer.json").is_file()
    assert (tmp_path / "merged/modeling_own.py").is_file()
    assert (tmp_path / "merged/chat_template.jinja").read_text() == "the adapter's"
    assert json.loads((tmp_path / "merged/tokenizer_config.json").read_text())["chat_template"] == "the adapter's"
    (adapter / "chat_template.jinja").unlink()
    merge_adapter(MergeAdapterConfig(adapter=adapter, model=str(base), output=tmp_path / "again"))
    assert (tmp_path / "again/chat_template.jinja").read_text() == "the base's"


def test_adapter_of_pickled_weights_is_told_how_to_save_it_again(
    trained: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    adapter = copy(trained[0], tmp_path / "adapter")
    (adapter / ADAPTER_WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(BllossomError, match=r"holds adapter_model.bin, .*save it again with save_pretrained"):
        merge_adapter(MergeAdapterConfig(adapter=adapter, output=tmp_path / "merged"))


def test_adapter_finds_its_base_from_another_folder(
    settings: Settings, expanded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(expanded.parent)
    changes = {"model": expanded.name, "lora": {"rank": 2, "alpha": 4}, "trainable": "embeddings", "steps": 1}
    pretrain(PretrainConfig(**settings(tmp_path / "adapter", **changes)))
    monkeypatch.chdir(tmp_path)
    merge_adapter(MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged"))
    moved = copy(tmp_path / "adapter", tmp_path / "moved", base_model_name_or_path="/nowhere/at/all")
    with pytest.raises(BllossomError, match="was trained on /nowhere/at/all, which is not here; add model=FOLDER"):
        merge_adapter(MergeAdapterConfig(adapter=moved, output=tmp_path / "other"))


def test_rank_stabilised_scale(trained: tuple[Path, torch.Tensor], expanded: Path, tmp_path: Path) -> None:
    adapter = copy(trained[0], tmp_path / "adapter", use_rslora=True)
    merge_adapter(MergeAdapterConfig(adapter=adapter, output=tmp_path / "merged"))
    base = AutoModelForCausalLM.from_pretrained(expanded)
    through_peft = logits(peft.PeftModel.from_pretrained(base, adapter))
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    torch.testing.assert_close(merged, through_peft, rtol=1e-5, atol=1e-5)


def test_merged_model_knows_its_old_rows(
    trained: tuple[Path, torch.Tensor], settings: Settings, tmp_path: Path
) -> None:
    merged = merge_adapter(MergeAdapterConfig(adapter=trained[0], output=tmp_path / "merged"))
    assert merged.figures["rows"] == 300
    assert merged.figures["old_rows"] == 200
    changes = {"model": str(tmp_path / "merged"), "trainable": "new_rows"}
    pretrain(PretrainConfig(**settings(tmp_path / "model", **changes)))
    assert_only_new_rows_moved(tmp_path / "merged", tmp_path / "model")
    manifest = read_manifest(tmp_path / "model")
    assert manifest is not None
    assert (manifest.figures["rows"], manifest.figures["old_rows"]) == (300, 200)


def test_base_that_nobody_expanded_tells_no_old_rows(
    trained: tuple[Path, torch.Tensor], expanded: Path, tmp_path: Path
) -> None:
    base = copy(trained[0], tmp_path / "adapter").parent / "base"
    shutil.copytree(expanded, base, ignore=shutil.ignore_patterns(MANIFEST))
    config = MergeAdapterConfig(adapter=tmp_path / "adapter", model=str(base), output=tmp_path / "merged")
    figures = merge_adapter(config).figures
    assert figures["rows"] == 300
    assert "old_rows" not in figures


def test_step_of_a_recipe(settings: Settings, expanded: Path, tmp_path: Path) -> None:
    """An adapter is trained, merged, and the merged model trained on; a second run finds everything there."""

    def bllossom(*arguments: object) -> tuple[str, str]:
        done = CliRunner().invoke(make_app(), [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.stdout, done.stderr

    pretraining = settings(Path("set by the recipe"), steps=2)
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(pretraining))
    (tmp_path / "merge-adapter.yaml").write_text("{output: out, adapter: adapter}")
    lora = {"model": str(expanded), "lora": {"rank": 4, "alpha": 8}, "trainable": "embeddings"}
    merge = {"adapter": "${steps.adapter.output}"}
    steps = [
        {"name": "adapter", "stage": "pretrain", "config": "pretrain.yaml", "set": lora},
        {"name": "merged", "stage": "merge-adapter", "config": "merge-adapter.yaml", "set": merge},
        {"name": "on", "stage": "pretrain", "config": "pretrain.yaml", "set": {"model": "${steps.merged.output}"}},
    ]
    runs, recipe = tmp_path / "runs", tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"output": str(runs), "steps": steps}))

    assert "what is merged is known once the adapter and its base are here" in bllossom("run", recipe, "--dry-run")[0]
    assert not runs.exists()
    bllossom("run", recipe)
    assert [verify(runs / name) for name in ("adapter", "merged", "on")] == [[], [], []]
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/*")}
    assert bllossom("run", recipe)[1].count("nothing to do") == 3
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/*")} == before

    planned = f"{expanded} + 2.0 · B A in 14 matrices; lm_head.weight, model.embed_tokens.weight replaced"
    assert planned in bllossom("run", recipe, "--dry-run")[0]
    typed = (f"adapter={runs / 'adapter'}", f"output={tmp_path / 'typed'}")
    assert planned in bllossom("merge-adapter", *typed, "--dry-run")[0]
    assert not (tmp_path / "typed").exists()
    bllossom("merge-adapter", *typed)
    assert fingerprint(tmp_path / "typed") == fingerprint(runs / "merged")
