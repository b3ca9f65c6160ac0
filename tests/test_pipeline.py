"""Every stage has what the command line asks of it."""

import pytest

from bllossom.pipeline import STAGES


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_a_config_a_function_and_a_dry_run_beside_each_other(name):
    stage = STAGES[name]
    config = stage.config()
    assert config.__module__ in (stage.module, f"{stage.module}_config")  # beside it where it is long
    assert "output" in config.model_fields


def test_bare_arguments_are_a_list_under_the_stages_key():
    assert STAGES["judge"].overrides(["a b.jsonl", "seed=1", "다.jsonl"]) == [
        'answers=["a b.jsonl", "다.jsonl"]',
        "seed=1",
    ]
    assert STAGES["judge"].overrides(["seed=1"]) == ["seed=1"]
    assert STAGES["sft"].overrides(["nonsense"]) == ["nonsense"]  # told to be no key=value, as ever
