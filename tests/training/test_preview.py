"""What --preview shows is what training reads."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from bllossom.cli import make_app
from tests.fixtures.tiny_chat import write_tiny_model

RECORDS = [{"instruction": f"Count to {n}.", "output": "one two three"} for n in range(4)]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    model = write_tiny_model(tmp_path / "model")
    (model / "model.safetensors").unlink()  # no weights are needed
    keys = {"output": tmp_path / "tuned", "model": model, "data": f"[{tmp_path / 'a.jsonl'}]", "template": "chatml"}
    return ["sft", *(f"{key}={value}" for key, value in keys.items()), "examples_per_step=4"]


def records(arguments: list[str], *more: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(make_app(), [*arguments, *more, "--json"])
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_json_has_ids_and_mask(arguments: list[str], tmp_path: Path) -> None:
    found = records(arguments, "--preview", "3")
    assert [record["source"] for record in found] == [f"{tmp_path / 'a.jsonl'}:{line}" for line in (1, 2, 3)]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    for number, record in enumerate(found):
        assert len(record["ids"]) == len(record["supervised"]) == len(record["pieces"])
        assert tokenizer.convert_tokens_to_ids(record["pieces"]) == record["ids"]
        answer = [id_ for id_, supervised in zip(record["ids"], record["supervised"], strict=True) if supervised]
        assert tokenizer.decode(answer) == "one two three<|im_end|>"
        assert f"user\nCount to {number}.<|im_end|>" in tokenizer.decode(record["ids"])
    assert not (tmp_path / "tuned").exists()


def test_packed_rows_hold_the_same_examples(arguments: list[str]) -> None:
    single = records(arguments, "--preview", "4")
    [packed] = records([*arguments, "epochs=1"], "--preview", "9", "--packed")  # four examples are one step
    starts = [place for place, position in enumerate(packed["positions"]) if position == 0]
    parts = [packed["ids"][start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    assert sorted(parts) == sorted(record["ids"] for record in single)
    assert sorted(packed["source"].split(", ")) == sorted(record["source"] for record in single)


def test_what_carries_loss_is_marked(arguments: list[str]) -> None:
    result = CliRunner().invoke(make_app(), [*arguments, "--preview", "1"])
    assert result.exit_code == 0
    assert "a.jsonl:1: " in result.stdout
    assert "<|im_start|>assistant\n⟦one two three<|im_end|>⟧" in result.stdout


def test_a_wrong_config_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(make_app(), [*arguments, "examples_per_step=0", "--preview", "1"]).exit_code == 2


def test_one_example_is_shown_by_its_number(arguments: list[str], tmp_path: Path) -> None:
    config = tmp_path / "sft.yaml"
    config.write_text("seed: 0\n")
    show = ["show", "example", "--config", str(config)]
    result = CliRunner().invoke(make_app(), [*show, "2", *arguments[1:]])
    assert result.exit_code == 0, result.stderr
    assert "a.jsonl:3: " in result.stdout
    assert "Count to 2." in result.stdout
    assert "⟦one two three<|im_end|>⟧" in result.stdout
    beyond = CliRunner().invoke(make_app(), [*show, "4", *arguments[1:]])
    assert beyond.exit_code == 1
    assert "there is no example 4; name a lower number" in beyond.stderr


def test_packed_and_json_alone_start_no_training(arguments: list[str], tmp_path: Path) -> None:
    for option in ("--packed", "--json"):
        result = CliRunner().invoke(make_app(), [*arguments, option])
        assert result.exit_code == 2
        assert "type --preview 3 with them" in result.stderr
    assert not (tmp_path / "tuned").exists()


def test_packed_rows_that_the_run_would_not_make_are_not_shown(arguments: list[str]) -> None:
    result = CliRunner().invoke(make_app(), [*arguments, "packing=false", "--preview", "1", "--packed"])
    assert result.exit_code == 2
    assert "packing is false, so that a row is one example" in result.stderr
