"""What the page says was planned follows from the model and the log; what was measured stands in the manifest."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from bllossom.report.run_folder import read_run
from bllossom.report.sections.planned import planned
from bllossom.training.plan import flops_per_token
from bllossom.training.planning.footprint import model_size


def parameters(folder: Path) -> int:
    with safe_open(folder / "model.safetensors", "pt") as weights:
        return sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118 no dict


def test_time_memory_and_disk_of_a_pretraining_stand_beside_what_they_were(run: Path) -> None:
    from transformers import AutoConfig

    log = run / "adapted/logs/train.jsonl"
    lines = [json.loads(line) | {"matmul_share": 0.25, "tokens_per_second": 800.0} for line in log.open()]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    section = planned([read_run(run)])
    assert section is not None
    found = json.loads((run / "planned.json").read_text())["adapted"]
    manifest = json.loads((run / "adapted/manifest.json").read_text())
    count = parameters(run / "adapted")
    # A quarter of the rate makes 800 tokens a second: all of it would make 3,200.
    assert found["planned"]["seconds"] == pytest.approx(manifest["figures"]["tokens"] / 3200)
    assert found["measured"]["seconds"] == manifest["run"]["wall_seconds"]
    assert found["measured"]["memory_bytes"] == 10**9  # the log's, not that of the process which published
    assert found["planned"]["published_bytes"] == 2 * count  # bf16
    assert found["measured"]["published_bytes"] > 2 * count  # with tokenizer and config
    assert found["planned"]["disk_bytes"] == 3 * 12 * count + 2 * count
    # Weights, a gradient and two moments of each parameter, and more while a step is computed.
    assert found["planned"]["memory_bytes"] > 16 * count
    shape = AutoConfig.from_pretrained(run / "adapted")
    assert model_size(shape).parameters == count
    assert flops_per_token(model_size(shape), 64) > 6 * (count - model_size(shape).input_only)


def test_without_a_log_there_is_no_planned_time(run: Path) -> None:
    (run / "adapted/logs/train.jsonl").unlink()
    planned([read_run(run)])
    assert json.loads((run / "planned.json").read_text())["adapted"]["planned"]["seconds"] is None


def change_config(run: Path, **changes: object) -> None:
    path = run / "adapted/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"] |= changes
    path.write_text(json.dumps(manifest))


def figures(run: Path) -> dict[str, float]:
    planned([read_run(run)])
    return json.loads((run / "planned.json").read_text())["adapted"]["planned"]


def test_ranks_on_gpus_share_the_batch_of_a_plan(run: Path) -> None:
    batch = {"micro_batch": 1, "global_batch": 256, "block_size": 64, "deepspeed": "zero3"}
    change_config(run, **batch, gpus=0, processes=1)
    alone = figures(run)["memory_bytes"]
    change_config(run, gpus=4)
    four = figures(run)["memory_bytes"]
    assert four < alone
    change_config(run, gpus="auto")
    path = run / "adapted/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["figures"]["ranks"] = 4
    path.write_text(json.dumps(manifest))
    assert figures(run)["memory_bytes"] == four


def test_a_phase_that_trains_less_is_planned_to_take_less(run: Path) -> None:
    from transformers import AutoConfig

    size = model_size(AutoConfig.from_pretrained(run / "adapted"))
    config = json.loads((run / "adapted/manifest.json").read_text())["config"]
    every, less = (flops_per_token(size, config["block_size"], trainable) for trainable in ("all", "embeddings"))
    # On a machine of 10⁶ operations a second: ten steps of each phase, at half of them.
    log = [
        {"step": step, "matmul_share": 0.5, "tokens_per_second": 5e5 / (less if step <= 10 else every)}
        for step in range(1, 21)
    ]
    (run / "adapted/logs/train.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in log))
    phases = [{"tokens": 10 * config["global_batch"], "trainable": trainable} for trainable in ("embeddings", "all")]
    change_config(run, steps=None, tokens_total=None, bytes_total=None, epochs=None, phases=phases)
    tokens = json.loads((run / "adapted/manifest.json").read_text())["figures"]["tokens"]
    assert figures(run)["seconds"] == pytest.approx((every + less) / 2 * tokens / 1e6)


def test_a_config_that_is_not_read_any_more_is_named(run: Path) -> None:
    path = run / "adapted/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["gone_with_a_version"] = 1
    path.write_text(json.dumps(manifest))
    section = planned([read_run(run)])
    assert section is not None
    assert any("an earlier version: adapted, adapter" in block for block in section.blocks if isinstance(block, str))


@pytest.mark.parametrize(
    "edited", [{"hidden_size": "abc"}, {"num_attention_heads": 0}, {"vocab_size": None}, {"dtype": "nope"}]
)
def test_a_config_that_was_edited_by_hand_costs_its_own_plan_alone(
    run: Path, edited: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "adapted/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edited))
    section = planned([read_run(run)])
    assert section is not None
    assert "no plan to hold it against" in capsys.readouterr().err


def test_trainings_without_a_plan_are_named(run: Path) -> None:
    section = planned([read_run(run)])
    assert section is not None
    assert any("Not held against a plan: tuned; " in block for block in section.blocks if isinstance(block, str))


def test_every_family_that_can_be_planned_is_and_the_page_names_the_others(run: Path) -> None:
    from transformers import GPTNeoConfig, Qwen3Config

    shape = {"vocab_size": 500, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    Qwen3Config(**shape, num_hidden_layers=3, num_key_value_heads=2, head_dim=16).save_pretrained(run / "adapted")
    planned([read_run(run)])
    assert json.loads((run / "planned.json").read_text())["adapted"]["planned"]["memory_bytes"] > 0
    alternating = {"num_layers": 4, "num_heads": 2, "attention_types": [[["global", "local"], 2]]}
    GPTNeoConfig(vocab_size=500, hidden_size=32, **alternating).save_pretrained(run / "adapted")
    section = planned([read_run(run)])
    assert section is not None
    assert any("Not planned" in block and "adapted" in block for block in section.blocks if isinstance(block, str))
