"""What is not known of a head is refused by name, before there are any weights."""

from pathlib import Path

import pytest
from transformers import AutoConfig, LlamaConfig

from bllossom.errors import BllossomError
from bllossom.model.outputs.logits import LogitRule, logit_rule, refuse_head
from bllossom.training.models import load_model
from bllossom.training.sft import SftConfig

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}


def test_rules_follow_from_the_config_alone() -> None:
    assert logit_rule(LlamaConfig(**TINY)) == LogitRule()
    assert logit_rule(AutoConfig.for_model("cohere", **TINY, logit_scale=0.25)) == LogitRule(scale=0.25)
    assert logit_rule(AutoConfig.for_model("granite", **TINY, logits_scaling=8.0)) == LogitRule(scale=1 / 8)
    assert logit_rule(AutoConfig.for_model("gemma2", **TINY, final_logit_softcapping=30.0)) == LogitRule(cap=30.0)
    assert logit_rule(AutoConfig.for_model("gemma2", **TINY, final_logit_softcapping=None)) == LogitRule()


def test_a_field_of_logits_that_is_not_known_is_refused(tmp_path: Path) -> None:
    LlamaConfig(**TINY, logit_temperature=2.0).save_pretrained(tmp_path)  # and no weights beside it
    values = {"output": tmp_path / "out", "model": str(tmp_path), "data": ["x/x"], "gpus": 0}
    config = SftConfig.model_validate(values).resolved("cpu", liger_installed=False)
    with pytest.raises(BllossomError, match=r"llama: what its logit_temperature, 2.0, does to the logits is not known"):
        load_model(str(tmp_path), config)


def test_more_than_a_matrix_behind_the_body_is_refused() -> None:
    shape = AutoConfig.for_model("bert", **TINY, is_decoder=True)
    with pytest.raises(BllossomError, match=r"here: BertLMHeadModel computes its logits by cls, more than a matrix"):
        refuse_head("here", shape)
